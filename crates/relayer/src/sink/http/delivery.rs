//! Posts batches to one sink in order, and moves the sink's cursor (invariant 4).
//!
//! At most `concurrency` requests are in flight. The cursor stays before the first event that the
//! sink does not have. After a failure nothing is sent until the back-off has passed. Then a single
//! request probes the sink, so that a failing sink is not flooded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::encode::{Batch, Gathering};
use super::in_flight::InFlight;
use super::response::{Outcome, Refusals};
use crate::clock::unix_ms;
use crate::config::RestOptions;
use crate::event_log::DeadLetter;
use crate::event_log::{Cursor, Seq, StorageError};
use crate::limits::{
    GATHER_READS_MAX, POSTS_AHEAD_MAX, REFUSAL_LOGGED_EVERY, SINK_CLOSE_MAX, UNPROCESSED_ROUNDS_MAX,
};
use crate::net::backoff::Backoff;
use crate::receiver::sleep_until_some;
use crate::sink::dead_letters::LetterSelector;
use crate::sink::feed::{Feed, Refilled};
use crate::sink::state::{Sink, SinkState};
use crate::sink::transport::{Context, Interruption};

#[derive(Debug)]
pub(super) struct Delivery<'t> {
    client: &'t Arc<Client>,
    options: &'t RestOptions,
    backoff: &'t mut Backoff,
    sink: Arc<Sink>,
    feed: Feed,
    gathering: Gathering,
    /// Batches to send again, by their first sequences.
    retries: BTreeMap<Seq, Batch>,
    requests: JoinSet<(Batch, Outcome)>,
    /// Batches that were gathered and are neither delivered nor stored as dead letters.
    in_flight: InFlight,
    /// The number of consecutive requests that the sink did not process.
    unprocessed: usize,
    /// The end of the back-off after a failure; until then nothing is sent.
    backing_off: Option<Instant>,
    /// False after a failure: then requests are sent one at a time to probe the sink.
    is_healthy: bool,
    /// The refusals since the last success, except those of replayed dead letters.
    refusals: Refusals,
    /// The refusal that was logged last, and when it was logged.
    logged_refusal: Option<(String, Instant)>,
    replay: Replay,
    is_failure_logged: bool,
}

/// Sends dead letters again: one at a time, alternating with new events.
#[derive(Debug, Default)]
struct Replay {
    is_in_flight: bool,
    was_last: bool,
}

impl<'t> Delivery<'t> {
    /// Continues after the cursor of the sink.
    pub(super) fn new(
        client: &'t Arc<Client>,
        options: &'t RestOptions,
        backoff: &'t mut Backoff,
        context: &Context,
    ) -> Self {
        context.sink.set_state(SinkState::CatchingUp { since_ms: unix_ms() });
        Self {
            client,
            options,
            backoff,
            sink: Arc::clone(&context.sink),
            feed: context.feed(),
            gathering: Gathering::default(),
            retries: BTreeMap::new(),
            requests: JoinSet::new(),
            in_flight: InFlight::after(context.sink.cursor()),
            unprocessed: 0,
            backing_off: None,
            is_healthy: true,
            refusals: Refusals::default(),
            logged_refusal: None,
            replay: Replay::default(),
            is_failure_logged: false,
        }
    }

    /// Delivers until an interruption, until the sink no longer exists, or until the log is closed
    /// and the sink has every event.
    pub(super) async fn run(&mut self, context: &mut Context) -> Interruption {
        loop {
            match self.step(context).await {
                Ok(()) => consume_budget().await,
                Err(interruption) => return interruption,
            }
        }
    }

    /// Waits briefly for the requests in flight, so that events that the sink accepts are not
    /// repeated.
    pub(super) async fn finish(&mut self, context: &mut Context) -> Result<(), StorageError> {
        let by = Instant::now() + SINK_CLOSE_MAX;
        while let Ok(Some(done)) = timeout_at(by, self.requests.join_next()).await {
            if let Ok((batch, outcome)) = done
                && let Err(Interruption::Storage(error)) = self.settle(batch, outcome).await
            {
                return Err(error);
            }
        }
        context.cursor_writer.advance(self.in_flight.delivered());
        Ok(())
    }

    /// Does everything that is possible at once, then waits until something happens.
    async fn step(&mut self, context: &mut Context) -> Result<(), Interruption> {
        self.send_all().await?;
        context.cursor_writer.advance(self.in_flight.delivered());
        if self.is_healthy {
            self.sink.show_lag(self.feed.lag());
        }
        if self.feed.is_over() && self.in_flight.is_empty() && self.requests.is_empty() {
            return Err(Interruption::Stopping);
        }
        let is_open = self.may_gather();
        if !self.feed.is_empty() && is_open && self.may_send() {
            return Ok(());
        }
        let wants_more = self.feed.is_empty() && !self.feed.is_over() && is_open;
        let (save_due, backing_off, batch_due) =
            (context.cursor_writer.due(), self.backing_off, self.batch_due());
        let may_replay = self.may_send() && !self.replay.is_in_flight;
        let sink = Arc::clone(&self.sink);
        let Context { cursor_writer, interrupts, .. } = context;
        tokio::select! {
            Some(done) = self.requests.join_next() => {
                // A request panics only because of a bug in Relayer.
                let (batch, outcome) = done.map_err(|error| StorageError::new("post to a sink", error))?;
                self.settle(batch, outcome).await
            }
            refilled = self.feed.refill(), if wants_more => {
                if let Refilled::Lost(up_to) = refilled? {
                    self.in_flight.pass(up_to);
                }
                Ok(())
            }
            () = sleep_until_some(backing_off), if backing_off.is_some() => {
                self.backing_off = None;
                Ok(())
            }
            () = sleep_until_some(batch_due), if batch_due.is_some() => Ok(()),
            () = sink.dead_letters.replay_requested(), if may_replay => Ok(()),
            () = sleep_until_some(save_due), if save_due.is_some() => Ok(cursor_writer.save().await?),
            // A failing sink gets the rest after the next start.
            interruption = interrupts.next_draining(self.is_healthy) => Err(interruption),
        }
    }

    /// Sends batches as long as more requests may be in flight.
    async fn send_all(&mut self) -> Result<(), Interruption> {
        while self.may_send() {
            let Some(mut batch) = self.next_batch().await? else { break };
            let client = Arc::clone(self.client);
            self.requests.spawn(async move {
                let outcome = client.send(&mut batch).await;
                (batch, outcome)
            });
        }
        Ok(())
    }

    fn may_send(&self) -> bool {
        self.backing_off.is_none() && self.requests.len() < self.concurrency()
    }

    /// The number of requests that may be in flight.
    fn concurrency(&self) -> usize {
        if self.is_healthy { self.options.concurrency.get() } else { 1 }
    }

    /// Returns the next batch: retries first, then a replayed dead letter, then new events.
    async fn next_batch(&mut self) -> Result<Option<Batch>, Interruption> {
        if let Some((_, batch)) = self.retries.pop_first() {
            return Ok(Some(batch));
        }
        if !self.replay.was_last
            && let Some(batch) = self.next_replay().await?
        {
            return Ok(Some(batch));
        }
        self.gather();
        self.replay.was_last = false;
        if let Some(batch) = self.gathering.take_if_ready(self.options, self.feed.is_over()) {
            return Ok(Some(batch));
        }
        self.next_replay().await
    }

    async fn next_replay(&mut self) -> Result<Option<Batch>, Interruption> {
        // While the gateway stops, the remaining time is for new events.
        if self.replay.is_in_flight || self.feed.is_over() {
            return Ok(None);
        }
        while let Some(seq) = self.sink.dead_letters.next_replay() {
            let sink = Arc::clone(&self.sink);
            let letter = blocking(move || sink.dead_letters.get(seq)).await?;
            if let Some(letter) = letter {
                self.replay = Replay { is_in_flight: true, was_last: true };
                return Ok(Some(Batch::replay(letter.entry, letter.tries)));
            }
            self.sink.dead_letters.forget_replay(seq); // The letter has been dropped.
        }
        Ok(None)
    }

    /// Whether another event may be gathered: the batch has room, and not too many batches were
    /// begun since the oldest unfinished one, because a crash repeats all these batches.
    fn may_gather(&self) -> bool {
        let concurrency = u64::try_from(self.options.concurrency.get()).unwrap_or(u64::MAX);
        let may_begin = self.in_flight.ahead() < concurrency.saturating_mul(POSTS_AHEAD_MAX);
        self.gathering.is_open(self.options) && (may_begin || !self.gathering.is_empty())
    }

    /// Gathers events that are in memory until the batch is full. Examines a limited number of
    /// events, so that a sink that wants few events does not occupy the thread.
    fn gather(&mut self) {
        let mut is_at_end = false;
        for _ in 0..GATHER_READS_MAX {
            if !self.may_gather() {
                return;
            }
            let Some(entry) = self.feed.next_in_memory() else {
                // The feed returns `None` once at the end of each chunk.
                if std::mem::replace(&mut is_at_end, true) {
                    return;
                }
                continue;
            };
            is_at_end = false;
            self.in_flight.pass(Cursor::after(entry.seq));
            if self.sink.selection.wants(&entry.event) {
                if self.gathering.is_empty() {
                    self.in_flight.begin(entry.seq);
                }
                self.gathering.push(entry, self.options);
            }
        }
    }

    /// Returns when the gathered events have waited long enough.
    fn batch_due(&self) -> Option<Instant> {
        let due = self.gathering.since? + self.options.batch_wait;
        self.may_send().then_some(due)
    }

    async fn settle(&mut self, batch: Batch, outcome: Outcome) -> Result<(), Interruption> {
        if batch.is_replay {
            self.replay.is_in_flight = false;
        }
        if !matches!(outcome, Outcome::NotProcessed { .. }) {
            self.unprocessed = 0;
        }
        match outcome {
            Outcome::Delivered => self.delivered(batch).await,
            Outcome::Retry { reason, after } => {
                self.retry_later(batch, reason, after);
                Ok(())
            }
            Outcome::NotProcessed { reason } => {
                self.not_processed(batch, reason);
                Ok(())
            }
            Outcome::TooLarge { reason } if !batch.is_replay => match batch.halved() {
                Ok(halves) => {
                    tracing::debug!(
                        sink = &*self.sink.name,
                        reason,
                        "the batch is too large for the sink and was halved"
                    );
                    for half in halves {
                        self.in_flight.divide(half.first());
                        self.retries.insert(half.first(), half);
                    }
                    Ok(())
                }
                Err(batch) => self.refused(batch, reason).await,
            },
            Outcome::TooLarge { reason } | Outcome::Refused { reason } => self.refused(batch, reason).await,
            Outcome::Gone { reason } => {
                self.retry(batch);
                Err(Interruption::Parked(reason))
            }
        }
    }

    async fn delivered(&mut self, batch: Batch) -> Result<(), Interruption> {
        self.recovered();
        self.sink.count_delivered(batch.entries().len() as u64);
        if batch.is_replay {
            let (sink, seq) = (Arc::clone(&self.sink), batch.first());
            blocking(move || sink.dead_letters.delete(LetterSelector::One(seq))).await?;
        } else {
            self.refusals = Refusals::default();
            self.in_flight.done(batch.first());
        }
        Ok(())
    }

    /// Ends the back-off, because the sink processed a request.
    fn recovered(&mut self) {
        self.backoff.reset();
        if std::mem::replace(&mut self.is_healthy, true) {
            return;
        }
        self.is_failure_logged = false;
        self.sink.set_state(SinkState::CatchingUp { since_ms: unix_ms() });
        tracing::info!(
            name: "sink_recovered",
            sink = &*self.sink.name, cursor = self.in_flight.delivered().get(), "sink accepts events again"
        );
    }

    /// Backs off, and then sends the batch again.
    fn retry_later(&mut self, mut batch: Batch, reason: String, after: Option<Duration>) {
        batch.tries += 1;
        if batch.is_replay && after.is_some() {
            // The letter is kept but not replayed again: new events must not wait for it
            // repeatedly.
            self.sink.dead_letters.forget_replay(batch.first());
        }
        self.retry(batch);
        self.sink.retries.inc();
        // Requests that were in flight together and failed count as one failure.
        let delay = if self.backing_off.is_some() { Duration::ZERO } else { self.backoff.next_delay() };
        let rest = delay.max(after.unwrap_or_default());
        let until = Instant::now() + rest;
        if self.backing_off.is_none_or(|present| until > present) {
            self.backing_off = Some(until);
            self.sink.set_retrying(rest, reason.clone());
        }
        self.is_healthy = false;
        let (sink, milliseconds) = (&*self.sink.name, rest.as_millis());
        // Logged once, so that a failing sink does not fill the log.
        if std::mem::replace(&mut self.is_failure_logged, true) {
            tracing::debug!(sink, reason, milliseconds, "sink still does not accept events");
        } else {
            tracing::warn!(
                name: "sink_retrying",
                sink, reason, milliseconds, "sink does not accept events; Relayer tries again"
            );
        }
    }

    /// Sends the batch again at once. The attempt counts as a failure only if the sink processes
    /// nothing at all: a connection may leave all of its requests unprocessed, and so may several
    /// connections in a row.
    fn not_processed(&mut self, batch: Batch, reason: String) {
        self.unprocessed += 1;
        if self.unprocessed > self.concurrency().saturating_mul(UNPROCESSED_ROUNDS_MAX) {
            self.unprocessed = 0;
            self.retry_later(batch, reason, None);
        } else {
            tracing::debug!(
                sink = &*self.sink.name,
                reason,
                "the request is sent again on another connection"
            );
            self.retry(batch);
        }
    }

    fn retry(&mut self, batch: Batch) {
        // Replays stay marked in the dead letters.
        if !batch.is_replay {
            self.retries.insert(batch.first(), batch);
        }
    }

    /// Stores refused events as dead letters. The cursor moves only after they are stored.
    async fn refused(&mut self, batch: Batch, reason: String) -> Result<(), Interruption> {
        if let Err(error) = self.sink.dead_letters.check_room() {
            self.no_room(batch, &error);
            return Ok(());
        }
        if !batch.is_replay && !self.refusals.admit(batch.entries().len(), batch.bytes()) {
            // The sink refuses everything, perhaps because the key or the address is wrong.
            self.retry(batch);
            let requests = self.refusals.requests();
            return Err(Interruption::Parked(format!(
                "it refused {requests} requests in a row, and then one more: {reason}"
            )));
        }
        let (first, is_replay, tries) = (batch.first(), batch.is_replay, batch.tries + 1);
        self.log_refusal(&batch, &reason);
        let refused_at_ms = unix_ms();
        let letter = |entry| DeadLetter { entry, refused_at_ms, tries, reason: reason.clone() };
        let letters: Vec<DeadLetter> = batch.entries().iter().map(|entry| letter(entry.copied())).collect();
        let sink = Arc::clone(&self.sink);
        let keep = move || match is_replay {
            true => sink.dead_letters.keep_again(letters),
            false => sink.dead_letters.keep(&letters),
        };
        match blocking(keep).await {
            Err(Interruption::Storage(error)) if error.is_full() => {
                self.no_room(batch, &error);
                return Ok(());
            }
            kept => kept?,
        }
        self.recovered();
        if !is_replay {
            self.in_flight.done(first);
        }
        Ok(())
    }

    /// Handles dead letters that cannot be stored: the batch is sent again later, so nothing is
    /// lost.
    fn no_room(&mut self, batch: Batch, error: &StorageError) {
        self.retry_later(
            batch,
            format!("it refused events, and they cannot be kept as dead letters: {error}"),
            None,
        );
    }

    /// Logs the same reason at most once a minute; the dead letters record every refusal.
    fn log_refusal(&mut self, batch: &Batch, reason: &str) {
        let (sink, first, events) = (&*self.sink.name, batch.first(), batch.entries().len());
        let logged = self.logged_refusal.as_ref();
        if logged.is_some_and(|(logged, at)| logged == reason && at.elapsed() < REFUSAL_LOGGED_EVERY) {
            tracing::debug!(sink, %first, events, reason, "the sink refused more events");
        } else {
            tracing::warn!(
                name: "dead_letter_written",
                sink,
                first = first.get(),
                events,
                reason,
                "the sink refused events: they are kept as dead letters"
            );
            self.logged_refusal = Some((reason.to_owned(), Instant::now()));
        }
    }
}

/// Runs blocking disk work on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Interruption> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| StorageError::new("write dead letters", error))??)
}
