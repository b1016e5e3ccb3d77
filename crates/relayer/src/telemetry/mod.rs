//! What the program says of itself.

pub mod crash_point;
pub mod log_buffer;
pub mod memory;
pub mod metrics;
pub mod summary;
pub mod tracing;

pub use metrics::Metrics;
