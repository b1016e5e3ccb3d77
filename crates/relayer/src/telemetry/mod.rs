//! What the program says of itself.

pub mod crash_point;
pub mod metrics;

pub use metrics::Metrics;
