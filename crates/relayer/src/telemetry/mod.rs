//! Logging, the tools for declaring metrics, and the memory of the process.

pub(crate) mod histogram;
pub mod log_buffer;
pub(crate) mod memory;
pub mod metrics;
pub mod record;
pub mod tracing;

pub use histogram::LatencyHistogram;
pub use memory::resident_bytes;
