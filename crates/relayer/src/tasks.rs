//! Stages: named threads that run as long as the process. If a stage fails or panics, the process
//! stops with a reason.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::mpsc;

use crate::watchdog;

#[derive(Debug, Clone, thiserror::Error)]
#[error("{stage} failed: {reason}")]
pub struct StageFailure {
    stage: String,
    reason: String,
}

impl StageFailure {
    /// Creates a failure of a component without its own thread.
    pub fn new(stage: impl Into<String>, reason: impl Display) -> Self {
        Self { stage: stage.into(), reason: reason.to_string() }
    }
}

/// The stages of a running process.
#[derive(Debug)]
pub(crate) struct Stages {
    /// Each stage holds a clone of the sender until it ends.
    failed: mpsc::UnboundedSender<StageFailure>,
    failures: mpsc::UnboundedReceiver<StageFailure>,
}

impl Default for Stages {
    fn default() -> Self {
        // Each stage sends at most one message.
        let (failed, failures) = mpsc::unbounded_channel();
        Self { failed, failures }
    }
}

impl Stages {
    /// Runs a stage on a thread that is named after the stage.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn spawn<E: Display>(
        &mut self,
        stage: impl Into<String>,
        body: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> std::io::Result<()> {
        let (stage, failed) = (stage.into(), self.failed.clone());
        let thread = std::thread::Builder::new().name(stage.clone());
        let run = move || {
            watchdog::mark_stage();
            let reason = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            // The thread that receives the failure may itself be stuck.
            watchdog::must_end();
            // Sending fails only while the process is ending.
            let _ = failed.send(StageFailure { stage, reason });
        };
        thread.spawn(run)?;
        Ok(())
    }

    /// Waits for the next failure.
    pub async fn failure(&mut self) -> StageFailure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await, // Not reached: this struct holds a sender.
        }
    }

    /// Waits until all stages have ended.
    ///
    /// # Errors
    /// The first failure of a stage.
    pub async fn join(self) -> Result<(), StageFailure> {
        let Self { failed, mut failures } = self;
        drop(failed);
        let mut first = None;
        // The last stage drops the last sender.
        while let Some(failure) = failures.recv().await {
            first.get_or_insert(failure);
        }
        first.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stage_that_panics_is_reported() {
        let mut stages = Stages::default();
        stages.spawn("quiet", || Ok::<_, String>(())).expect("a thread");
        stages.spawn("loud", || -> Result<(), String> { panic!("on purpose") }).expect("a thread");
        assert_eq!(stages.failure().await.to_string(), "loud failed: it panicked");
    }

    #[tokio::test]
    async fn join_waits_for_all_stages_and_gives_the_failure() {
        let mut stages = Stages::default();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        stages.spawn("broken", || Err("no disk")).expect("a thread");
        stages.spawn("slow", move || ended.recv()).expect("a thread");
        let mut joined = Box::pin(stages.join());
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut joined).await;
        assert!(early.is_err(), "one has not ended");
        end.send(()).expect("it runs");
        assert_eq!(joined.await.expect_err("failed").to_string(), "broken failed: no disk");
    }
}
