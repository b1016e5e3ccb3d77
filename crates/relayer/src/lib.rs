//! The gateway, as a library: modules in the order of the data's way.

pub mod cli;

pub mod config;

pub mod limits;

pub mod relay;

pub mod ingest;

pub mod event_log;

pub mod downstream;

pub mod api;

pub mod telemetry;
