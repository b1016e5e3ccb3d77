//! Which stages make progress.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::crash_point;
use crate::pulse::Pulse;

/// The stages of a gateway whose progress is watched.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    stages: Mutex<Vec<Stage>>,
    runtimes: Mutex<Vec<RuntimeProbe>>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    pulse: Arc<Pulse>,
    steps_before: u64,
}

#[derive(Debug)]
struct RuntimeProbe {
    name: &'static str,
    runtime: Handle,
    pulse: Arc<Pulse>,
}

impl Liveness {
    /// Adds a stage, which must beat the returned pulse.
    pub fn watch(&self, name: impl Into<String>) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        let stage = Stage { name: name.into(), pulse: Arc::clone(&pulse), steps_before: 0 };
        self.stages.lock().push(stage);
        pulse
    }

    /// Adds a runtime, which makes progress if it runs a task.
    pub fn watch_runtime(&self, name: &'static str, runtime: Handle) {
        let pulse = self.watch(name);
        self.runtimes.lock().push(RuntimeProbe { name, runtime, pulse });
    }

    /// Gives each runtime a task.
    pub(super) fn probe_runtimes(&self) {
        for RuntimeProbe { name, runtime, pulse } in &*self.runtimes.lock() {
            let (name, pulse) = (*name, Arc::clone(pulse));
            runtime.spawn(async move {
                crash_point::reached(name);
                pulse.beat();
            });
        }
    }

    /// The stages that have made no step since the last call. Between the calls, each stage must
    /// have had a probe.
    pub fn stuck(&self) -> Vec<String> {
        let mut stages = self.stages.lock();
        let stuck = stages.iter_mut().filter_map(|stage| {
            let steps = stage.pulse.steps();
            let is_stuck = steps == stage.steps_before && !stage.pulse.is_waiting();
            stage.steps_before = steps;
            is_stuck.then(|| stage.name.clone())
        });
        stuck.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn only_a_stage_without_a_step_that_does_not_wait_is_stuck() {
        let liveness = Liveness::default();
        let [quick, slow, held] = ["quick", "slow", "held"].map(|name| liveness.watch(name));
        let (waits, waiting) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let waiter = std::thread::spawn(move || {
            held.while_waiting(|| {
                waits.send(()).unwrap();
                released.recv().unwrap_err();
            });
        });
        waiting.recv().unwrap();
        quick.beat();
        slow.beat();
        assert!(liveness.stuck().is_empty());
        quick.beat();
        assert_eq!(liveness.stuck(), ["slow"]);
        drop(release);
        waiter.join().unwrap();
        assert_eq!(liveness.stuck(), ["quick", "slow"], "the third has just stopped waiting");
        assert_eq!(liveness.stuck(), ["quick", "slow", "held"]);
    }
}
