//! What the program says of itself.

pub mod crash_point;
