//! A shard: one thread that judges all candidates of its authors, one after the other.
//!
//! The id of an event depends on its author, so all copies that can pass verification reach the
//! same shard. An id is claimed only after its event was verified. Therefore a forged copy cannot
//! suppress a genuine one, and no event passes twice. A copy that claims another author may reach
//! another shard, which refuses it or finds the id claimed or seen.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::Receiver;
use wire::{UnverifiedEvent, VerifiedEvent, Verifier};

use super::admission::Admission;
use super::candidate::{Candidate, Inbound, last_byte};
use super::dedupe::{Dedupe, Layer};
use super::drop_reason::DropReason;
use super::metrics::Metrics;
use super::refusals::Refusals;
use crate::crash_point;
use crate::event_log::{StorageError, Submission, Verified};
use crate::pulse::Pulse;

/// The result of judging a candidate.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event is genuine, and this is its first copy.
    New(VerifiedEvent),
    Duplicate(Layer),
    Dropped(DropReason),
}

#[derive(Debug)]
pub struct Shard {
    dedupe: Arc<Dedupe>,
    admission: Arc<ArcSwap<Admission>>,
    verifier: Verifier,
    refusals: Arc<Refusals>,
    pulse: Arc<Pulse>,
}

/// How many candidates a shard judges, and for how long, before it sends the verified events to the
/// sequencer.
#[derive(Debug, Clone, Copy)]
pub struct BurstLimits {
    pub candidates: usize,
    pub time: Duration,
}

impl Shard {
    /// `admission` may be replaced while a shard runs.
    pub fn new(dedupe: Arc<Dedupe>, admission: Arc<ArcSwap<Admission>>) -> Self {
        let (verifier, refusals, pulse) = (Verifier::new(), Arc::default(), Arc::default());
        Self { dedupe, admission, verifier, refusals, pulse }
    }

    /// Remembers refused events in `refusals`.
    pub fn with_refusals(self, refusals: Arc<Refusals>) -> Self {
        Self { refusals, ..self }
    }

    pub(crate) fn with_pulse(self, pulse: Arc<Pulse>) -> Self {
        Self { pulse, ..self }
    }

    /// Judges one candidate. On [`Verdict::New`], the event's id is claimed until the event is
    /// committed.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn judge(&mut self, candidate: &Candidate) -> Result<Verdict, StorageError> {
        if let Some(layer) = self.dedupe.find(&candidate.claimed)? {
            return Ok(Verdict::Duplicate(layer));
        }
        Ok(match self.verify(candidate) {
            Ok(event) => {
                self.dedupe.claim(&event.id().into(), candidate.received);
                Verdict::New(event)
            }
            Err(reason) => Verdict::Dropped(reason),
        })
    }

    fn verify(&mut self, candidate: &Candidate) -> Result<VerifiedEvent, DropReason> {
        let event = UnverifiedEvent::parse(&candidate.json)
            .map_err(|error| DropReason::of_malformed(&candidate.json, error))?;
        if event.id != candidate.claimed || last_byte(&event.pubkey) != candidate.author_byte {
            // The scan and the parser differ only if `id` or `pubkey` occurs twice.
            return Err(DropReason::Unsigned);
        }
        let now_secs = candidate.received_at_ms / 1000;
        self.admission.load().check(&event, candidate.json.len(), now_secs)?;
        Ok(self.verifier.verify(&event)?)
    }

    /// Judges the candidates of the inbox until all senders are dropped. Sends new events to the
    /// sequencer in bursts, within the limits.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn run(
        mut self,
        mut inbox: Receiver<Inbound>,
        sequencer: &SyncSender<Vec<Submission>>,
        limits: BurstLimits,
        metrics: &Metrics,
    ) -> Result<(), StorageError> {
        let mut inbound = Vec::with_capacity(limits.candidates);
        while inbox.blocking_recv_many(&mut inbound, limits.candidates) > 0 {
            self.pulse.beat();
            let mut is_probed = false;
            let mut deadline = Instant::now() + limits.time;
            let mut burst = Vec::new();
            for inbound in inbound.drain(..) {
                match inbound {
                    Inbound::Candidate(candidate) => self.handle(candidate, &mut burst, metrics)?,
                    Inbound::Checkpoint(checkpoint) => burst.push(Submission::Checkpoint(checkpoint)),
                    Inbound::Probe => {
                        crash_point::reached("shard_probe");
                        is_probed = true;
                    }
                }
                if Instant::now() >= deadline && !burst.is_empty() {
                    let burst = std::mem::take(&mut burst);
                    if self.pulse.while_waiting(|| sequencer.send(burst)).is_err() {
                        return Ok(()); // The sequencer has failed and reports its own error.
                    }
                    deadline = Instant::now() + limits.time;
                }
            }
            // An empty burst is the sequencer's probe.
            if (is_probed || !burst.is_empty()) && self.pulse.while_waiting(|| sequencer.send(burst)).is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn handle(
        &mut self,
        candidate: Candidate,
        burst: &mut Vec<Submission>,
        metrics: &Metrics,
    ) -> Result<(), StorageError> {
        let verdict = self.judge(&candidate)?;
        let Candidate { claimed, source, received_at_ms, received, budget, .. } = candidate;
        match verdict {
            Verdict::New(event) => {
                source.was_first();
                let relay = source.url();
                if source.is_live() {
                    self.dedupe.clock().note_live_event(&relay, event.created_at(), received_at_ms);
                }
                burst.push(Verified { event, relay, received_at_ms, received, budget }.into());
            }
            Verdict::Duplicate(layer) => {
                source.sent_copy(self.dedupe.note_copy_at(&claimed, received));
                metrics.duplicates[layer].inc();
            }
            Verdict::Dropped(reason) => {
                self.refusals.note(&claimed, reason, source.url(), received_at_ms);
                source.sent_refused(reason);
                metrics.dropped[reason].inc();
            }
        }
        Ok(())
    }
}
