//! The event log: numbers, order, restarts, marks, reading after a cursor, trimming, a full disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bench;
mod clock;
mod committed;
mod cursors;
mod damage;
mod disk;
mod log_id;
mod marks;
mod readers;
mod retention;
mod schedules;
mod sequence;
