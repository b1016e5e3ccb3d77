//! The pulse of a stage, which shows that the stage makes progress.
//!
//! A stage beats with each step. A probe gives an idle stage a step to make, so a stage without a
//! beat between two probes is stuck, regardless of traffic.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct Pulse {
    steps: AtomicU64,
    waits: AtomicBool,
}

impl Pulse {
    pub fn beat(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs `wait`, in which the stage is not stuck: it blocks for a limited time, or until another
    /// stage makes progress, which has a pulse of its own.
    pub fn while_waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.waits.store(true, Ordering::Relaxed);
        let waited = wait();
        self.beat();
        self.waits.store(false, Ordering::Relaxed);
        waited
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}
