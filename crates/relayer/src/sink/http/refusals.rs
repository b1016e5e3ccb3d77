//! When a sink refuses events for what they are, and when it refuses whatever comes. No I/O, no clock.

use super::post::Post;
use crate::limits::{REFUSED_BYTES_IN_A_ROW_MAX, REFUSED_EVENTS_IN_A_ROW_MAX, REFUSED_IN_A_ROW_MAX};

/// What was refused since the sink last took something.
#[derive(Debug, Default)]
pub struct Refusals {
    requests: u32,
    events: usize,
    bytes: usize,
}

impl Refusals {
    /// Whether a refused post may become dead letters. If not, the sink refuses whatever comes: more would push
    /// each other out of the dead letters. One is always let in.
    pub fn lets_in(&mut self, post: &Post) -> bool {
        let (events, bytes) = (post.entries().len(), post.bytes());
        let is_first = self.requests == 0;
        let fits = self.requests < REFUSED_IN_A_ROW_MAX
            && self.events + events <= REFUSED_EVENTS_IN_A_ROW_MAX
            && self.bytes + bytes <= REFUSED_BYTES_IN_A_ROW_MAX;
        if !is_first && !fits {
            return false;
        }
        self.requests += 1;
        self.events += events;
        self.bytes += bytes;
        true
    }

    /// How many requests those were.
    pub const fn requests(&self) -> u32 {
        self.requests
    }
}
