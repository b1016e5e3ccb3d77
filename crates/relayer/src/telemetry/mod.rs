//! What the program says of itself.

pub mod log_buffer;
pub mod memory;
pub mod metrics;
pub mod tracing;
