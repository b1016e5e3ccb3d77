//! Two coverages of a relay: the one proven by the messages read so far, and the one committed to
//! the log.

use std::collections::VecDeque;

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::coverage::Coverage;
use crate::clock::Now;

#[derive(Debug, Default)]
pub(super) struct CoverageCommits {
    /// Proven by the messages read so far.
    read: Option<Coverage>,
    /// Proven by the events in the log, as of the last [`take_up`](Self::take_up).
    committed: Option<Coverage>,
    /// For each mark, oldest first, the coverage that the log proves once the mark is committed.
    pending: VecDeque<(oneshot::Receiver<()>, Coverage)>,
    /// The clock after it was last set. Coverage that rests on another clock is not shown.
    set: Option<Now>,
}

impl CoverageCommits {
    /// Applies the marks that were committed since the last call. The marks of one relay are
    /// committed in order, or dropped.
    fn take_up(&mut self) {
        for (mut receipt, coverage) in std::mem::take(&mut self.pending) {
            match receipt.try_recv() {
                Ok(()) => {
                    // Older marks may have been confirmed after this loop looked at them.
                    self.pending.clear();
                    self.committed = Some(match self.set {
                        Some(now) => coverage.on_clock(now),
                        None => coverage,
                    });
                }
                Err(TryRecvError::Empty) => self.pending.push_back((receipt, coverage)),
                Err(TryRecvError::Closed) => {}
            }
        }
    }

    pub fn read(&self) -> Option<&Coverage> {
        self.read.as_ref()
    }

    pub fn committed(&mut self) -> Option<&Coverage> {
        self.take_up();
        self.committed.as_ref()
    }

    /// Restores the coverage that the log had when the process started.
    pub fn restore(&mut self, coverage: Coverage) {
        (self.read, self.committed) = (Some(coverage.clone()), Some(coverage));
    }

    pub(crate) fn clock_was_set(&mut self, now: Now) {
        self.take_up();
        self.set = Some(now);
        self.committed = self.committed.take().map(|coverage| coverage.on_clock(now));
    }

    pub fn change(&mut self, change: impl FnOnce(Option<Coverage>) -> Option<Coverage>) -> Option<&Coverage> {
        self.read = change(self.read.take());
        self.read.as_ref()
    }

    /// Registers a mark that is on its way to the log.
    pub fn sent(&mut self, receipt: oneshot::Receiver<()>, coverage: Coverage) {
        self.take_up();
        self.pending.push_back((receipt, coverage));
    }
}
