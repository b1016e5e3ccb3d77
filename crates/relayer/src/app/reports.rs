//! Reports to the service manager: readiness, a status line, and a sign of life as long as all
//! stages make progress.
//!
//! The signs depend on progress alone. A gateway without traffic, with a full disk or with slow
//! sinks is alive, because a restart would not help it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::gateway::Parts;
use crate::limits::{STATUS_INTERVAL, WATCHDOG_CHECKS};
use crate::systemd::Notifier;

/// The thread that reports. It runs in no runtime, because the runtimes are among the stages that
/// it checks.
#[derive(Debug)]
pub(super) struct Reports {
    notifier: Arc<Notifier>,
    /// The thread, and a sender that ends it by being dropped.
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Reports {
    /// Reports that the gateway is ready, and starts the thread if a service manager listens.
    pub fn start(notifier: &Arc<Notifier>, parts: &Arc<Parts>) -> Self {
        let notifier = Arc::clone(notifier);
        if !notifier.is_supervised() {
            return Self { notifier, running: None };
        }
        notifier.ready(&Status { parts, stuck: &[] }.to_string());
        let (stop, stopped) = channel();
        let (to, parts) = (Arc::clone(&notifier), Arc::clone(parts));
        let thread = thread::Builder::new().name("reports".to_owned());
        match thread.spawn(move || report(&to, &parts, &stopped)) {
            Ok(thread) => Self { notifier, running: Some((stop, thread)) },
            Err(error) => {
                tracing::error!(
                    name: "service_manager_unreachable",
                    %error, "cannot start the thread that reports to the service manager"
                );
                Self { notifier, running: None }
            }
        }
    }

    /// Ends the reports: the process is stopping, and the thread must not hold the log any more.
    pub fn stop(self) {
        self.notifier.stopping();
        if let Some((stop, thread)) = self.running {
            drop(stop);
            // If a check hangs, the process is aborted in time.
            let _ = thread.join();
        }
    }
}

/// Reports until `stopped` has no sender.
fn report(notifier: &Notifier, parts: &Parts, stopped: &Receiver<()>) {
    let interval = notifier.watchdog().map_or(STATUS_INTERVAL, |interval| interval / WATCHDOG_CHECKS);
    let mut stuck_before = Vec::new();
    loop {
        parts.probe_stages();
        if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let stuck = parts.liveness.stuck();
        let status = Status { parts, stuck: &stuck }.to_string();
        if stuck.is_empty() {
            notifier.alive(&status);
        } else {
            notifier.status(&status);
        }
        log_changes(&stuck, &stuck_before);
        stuck_before = stuck;
    }
}

fn log_changes(stuck: &[String], before: &[String]) {
    let stages = stuck.join(" ");
    if stuck == before {
        // Logged already.
    } else if stuck.is_empty() {
        tracing::info!(name: "stages_progress", "all stages make progress again");
    } else {
        tracing::error!(
            name: "stages_stuck",
            stages,
            "these stages make no progress; the service manager restarts the process if it has a watchdog and this lasts"
        );
    }
}

/// The line that `systemctl status` shows.
struct Status<'a> {
    parts: &'a Parts,
    stuck: &'a [String],
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parts, stuck } = self;
        if !stuck.is_empty() {
            write!(f, "no progress: {}; ", stuck.join(", "))?;
        }
        if parts.disk_full.is_paused() {
            write!(f, "the disk is full, ingest is paused; ")?;
        }
        let peers = parts.pool.peers();
        let connected = peers.iter().filter(|peer| peer.state().is_connected()).count();
        write!(f, "{connected} of {} relays connected, ", peers.len())?;
        write!(f, "{} clients, head {}", parts.clients.connected(), parts.log.head())
    }
}
