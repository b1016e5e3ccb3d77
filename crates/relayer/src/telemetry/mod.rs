//! Logging, the tools for declaring metrics, and the memory of the process.

pub mod log_buffer;
pub(crate) mod memory;
pub mod metrics;
pub mod record;
pub mod tracing;

pub use memory::resident_bytes;
