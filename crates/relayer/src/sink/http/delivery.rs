//! The order of posts to one sink, and the cursor behind them (invariant 4).
//!
//! At most so many requests are under way as may be. The cursor is before the first event that the sink does
//! not have, whatever came after it. When the sink fails, all of it rests: nothing new is sent, and after
//! the rest one post alone tries whether it is back, so that a dead sink is not hammered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::client::Client;
use super::pending::Pending;
use super::post::Post;
use super::refusals::Refusals;
use crate::clock::unix_ms;
use crate::config::RestOptions;
use crate::event_log::letters::Letter;
use crate::event_log::{Cursor, Entry, Seq, StorageError};
use crate::limits::{
    GATHER_LOOKS_MAX, POSTS_AHEAD_MAX, REFUSAL_LOGGED_EVERY, SINK_CLOSE_MAX, UNPROCESSED_ROUNDS_MAX,
};
use crate::net::backoff::Backoff;
use crate::sink::feed::{Feed, Refilled};
use crate::sink::letters::Which;
use crate::sink::state::{Sink, SinkState};
use crate::sink::worker::{End, Worker, at};

/// Posts to one sink, from a cursor on.
#[derive(Debug)]
pub struct Delivery<'t> {
    client: &'t Arc<Client>,
    options: &'t RestOptions,
    backoff: &'t mut Backoff,
    sink: Arc<Sink>,
    feed: Feed,
    gathered: Gathered,
    /// Posts that failed and are to be sent again, by their first sequences.
    waiting: BTreeMap<Seq, Post>,
    requests: JoinSet<(Post, Answer)>,
    /// What was begun, from gathering on, and is not done.
    pending: Pending,
    /// How many posts in a row the sink has not looked at.
    unprocessed: usize,
    /// The sink failed: until when nothing is sent, and then one post alone until it is taken.
    resting: Option<Instant>,
    is_trusted: bool,
    /// Dead letters that are sent again left out.
    refusals: Refusals,
    /// The refusal that was logged last, and when.
    told: Option<(String, Instant)>,
    replay: Replay,
    /// Whether its failing was logged.
    is_reported: bool,
}

/// Dead letters that are sent again: one at a time, and in turns with what is new.
#[derive(Debug, Default)]
struct Replay {
    is_under_way: bool,
    was_last: bool,
}

/// Events that wait for others to share their request.
#[derive(Debug, Default)]
struct Gathered {
    entries: Vec<Entry>,
    bytes: usize,
    since: Option<Instant>,
}

impl<'t> Delivery<'t> {
    /// Goes on after what the sink has.
    pub fn new(
        client: &'t Arc<Client>,
        options: &'t RestOptions,
        backoff: &'t mut Backoff,
        worker: &Worker,
    ) -> Self {
        let cursor = worker.sink.cursor();
        worker.sink.set_state(SinkState::CatchingUp { since_ms: unix_ms() });
        Self {
            client,
            options,
            backoff,
            sink: Arc::clone(&worker.sink),
            feed: Feed::after(cursor, &worker.log, &worker.sink),
            gathered: Gathered::default(),
            waiting: BTreeMap::new(),
            requests: JoinSet::new(),
            pending: Pending::after(cursor),
            unprocessed: 0,
            resting: None,
            is_trusted: true,
            refusals: Refusals::default(),
            told: None,
            replay: Replay::default(),
            is_reported: false,
        }
    }

    /// Delivers until somebody interrupts, the sink is gone, or everything is delivered and nothing more will
    /// come.
    pub async fn run(&mut self, worker: &mut Worker) -> End {
        loop {
            match self.turn(worker).await {
                Ok(()) => consume_budget().await,
                Err(end) => return end,
            }
        }
    }

    /// Gives requests that are under way a moment to end, so that what the sink has by then is not sent again.
    pub async fn finish(&mut self, worker: &mut Worker) -> Option<End> {
        let by = Instant::now() + SINK_CLOSE_MAX;
        while let Ok(Some(done)) = timeout_at(by, self.requests.join_next()).await {
            if let Ok((post, answer)) = done
                && let Err(end @ End::Storage(_)) = self.settle(post, answer).await
            {
                return Some(end);
            }
        }
        worker.bookmark.advance(self.pending.delivered());
        None
    }

    /// Sends what can be sent, then waits for something to happen.
    async fn turn(&mut self, worker: &mut Worker) -> Result<(), End> {
        self.send_all(worker).await?;
        worker.bookmark.advance(self.pending.delivered());
        if self.is_trusted {
            self.sink.show_lag(self.feed.lag());
        }
        if self.feed.is_over() && self.pending.is_empty() && self.requests.is_empty() {
            return Err(End::Stopping);
        }
        let is_open = self.may_gather();
        if !self.feed.is_empty() && is_open && self.may_send() {
            return Ok(());
        }
        let wants_more = self.feed.is_empty() && !self.feed.is_over() && is_open;
        let (save_due, resting, batch_due) = (worker.bookmark.due(), self.resting, self.batch_due());
        let may_replay = self.may_send() && !self.replay.is_under_way;
        let sink = Arc::clone(&self.sink);
        let (bookmark, stop, orders) = worker.parts();
        tokio::select! {
            Some(done) = self.requests.join_next() => {
                // A request panics only if something in us is broken.
                let (post, answer) = done.map_err(|error| StorageError::new("post to a sink", error))?;
                self.settle(post, answer).await
            }
            refilled = self.feed.refill(), if wants_more => {
                if let Refilled::Lost(up_to) = refilled? {
                    self.pending.pass(up_to);
                }
                Ok(())
            }
            () = at(resting), if resting.is_some() => {
                self.resting = None;
                Ok(())
            }
            () = at(batch_due), if batch_due.is_some() => Ok(()),
            () = sink.letters.asked(), if may_replay => Ok(()),
            () = at(save_due), if save_due.is_some() => Ok(bookmark.save().await?),
            // What a sink that fails has not got it gets when the gateway is back.
            end = Worker::interrupted(stop, orders, self.is_trusted) => Err(end),
        }
    }

    /// Sends as many posts as may be under way.
    async fn send_all(&mut self, worker: &mut Worker) -> Result<(), End> {
        while self.may_send() {
            let Some(mut post) = self.next_post(worker).await? else { break };
            let client = Arc::clone(self.client);
            self.requests.spawn(async move {
                let answer = client.send(&mut post).await;
                (post, answer)
            });
        }
        Ok(())
    }

    fn may_send(&self) -> bool {
        self.resting.is_none() && self.requests.len() < self.at_once()
    }

    /// How many requests may be under way.
    fn at_once(&self) -> usize {
        if self.is_trusted { self.options.concurrency.get() } else { 1 }
    }

    /// What is sent next: what failed before, then a dead letter that somebody wants sent again, then what is
    /// new.
    async fn next_post(&mut self, worker: &Worker) -> Result<Option<Post>, End> {
        if let Some((_, post)) = self.waiting.pop_first() {
            return Ok(Some(post));
        }
        if !self.replay.was_last
            && let Some(post) = self.next_replay().await?
        {
            return Ok(Some(post));
        }
        self.gather(worker);
        self.replay.was_last = false;
        if let Some(entries) = self.gathered.take_if_ready(self.options, self.feed.is_over()) {
            return Ok(Some(Post::new(entries)));
        }
        self.next_replay().await
    }

    async fn next_replay(&mut self) -> Result<Option<Post>, End> {
        // When the gateway stops, what is new goes first, and letters stay letters.
        if self.replay.is_under_way || self.feed.is_over() {
            return Ok(None);
        }
        while let Some(seq) = self.sink.letters.next_replay() {
            let sink = Arc::clone(&self.sink);
            let letter = blocking(move || sink.letters.get(seq)).await?;
            if let Some(letter) = letter {
                self.replay = Replay { is_under_way: true, was_last: true };
                return Ok(Some(Post::replay(letter.entry, letter.tries)));
            }
            self.sink.letters.forget_replay(seq); // It was dropped meanwhile.
        }
        Ok(None)
    }

    /// Whether another event may be taken: a request may hold it, and not too much is begun that an old post,
    /// which is not answered, would have sent again.
    fn may_gather(&self) -> bool {
        let at_once = u64::try_from(self.options.concurrency.get()).unwrap_or(u64::MAX);
        let may_begin = self.pending.ahead() < at_once.saturating_mul(POSTS_AHEAD_MAX);
        self.gathered.is_open(self.options) && (may_begin || !self.gathered.entries.is_empty())
    }

    /// Takes what is in memory, as far as a request may hold it; but gives the thread back now and then to others
    /// while nothing is found that the sink wants.
    fn gather(&mut self, worker: &Worker) {
        let mut is_at_end = false;
        for _ in 0..GATHER_LOOKS_MAX {
            if !self.may_gather() {
                return;
            }
            let Some(entry) = self.feed.next_at_hand() else {
                // A chunk's end comes before the next chunk.
                if std::mem::replace(&mut is_at_end, true) {
                    return;
                }
                continue;
            };
            is_at_end = false;
            self.pending.pass(Cursor::after(entry.seq));
            if worker.selection.wants(&entry.event) {
                if self.gathered.entries.is_empty() {
                    self.pending.begin(entry.seq);
                }
                self.gathered.push(entry, self.options);
            }
        }
    }

    /// When what was gathered has waited long enough.
    fn batch_due(&self) -> Option<Instant> {
        let due = self.gathered.since? + self.options.batch_wait;
        self.may_send().then_some(due)
    }

    /// Draws the conclusion from an answer.
    async fn settle(&mut self, post: Post, answer: Answer) -> Result<(), End> {
        if post.is_replay {
            self.replay.is_under_way = false;
        }
        if !matches!(answer, Answer::NotProcessed { .. }) {
            self.unprocessed = 0;
        }
        match answer {
            Answer::Taken => self.taken(post).await,
            Answer::Later { reason, after } => {
                self.later(post, reason, after);
                Ok(())
            }
            Answer::NotProcessed { reason } => {
                self.not_processed(post, reason);
                Ok(())
            }
            Answer::TooLarge { reason } if !post.is_replay => match post.halved() {
                Ok(halves) => {
                    tracing::debug!(sink = &*self.sink.name, reason, "the batch is halved");
                    for half in halves {
                        self.pending.divide(half.first());
                        self.waiting.insert(half.first(), half);
                    }
                    Ok(())
                }
                Err(post) => self.refused(post, reason).await,
            },
            Answer::TooLarge { reason } | Answer::Refused { reason } => self.refused(post, reason).await,
            Answer::Gone { reason } => {
                self.keep_waiting(post);
                Err(End::Parked(reason))
            }
        }
    }

    async fn taken(&mut self, post: Post) -> Result<(), End> {
        self.works();
        self.sink.count_delivered(post.entries().len() as u64);
        if post.is_replay {
            let (sink, seq) = (Arc::clone(&self.sink), post.first());
            blocking(move || sink.letters.drop(Which::One(seq))).await?;
        } else {
            self.refusals = Refusals::default();
            self.pending.done(post.first());
        }
        Ok(())
    }

    /// The sink did with a post what it had to do: it does not fail, or no longer.
    fn works(&mut self) {
        self.backoff.reset();
        if std::mem::replace(&mut self.is_trusted, true) {
            return;
        }
        self.is_reported = false;
        self.sink.set_state(SinkState::CatchingUp { since_ms: unix_ms() });
        tracing::info!(sink = &*self.sink.name, cursor = %self.pending.delivered(), "sink takes events again");
    }

    /// The sink rests, and the post is sent again after that.
    fn later(&mut self, mut post: Post, reason: String, after: Option<Duration>) {
        post.tries += 1;
        if post.is_replay && after.is_some() {
            // It stays a letter: what is new is not to wait for it again and again.
            self.sink.letters.forget_replay(post.first());
        }
        self.keep_waiting(post);
        self.sink.retries.inc();
        // Posts that were under way together fail together: that is one failure.
        let delay = if self.resting.is_some() { Duration::ZERO } else { self.backoff.next_delay() };
        let rest = delay.max(after.unwrap_or_default());
        let until = Instant::now() + rest;
        if self.resting.is_none_or(|resting| until > resting) {
            self.resting = Some(until);
            self.sink.rests(rest, reason.clone());
        }
        self.is_trusted = false;
        let (sink, milliseconds) = (&*self.sink.name, rest.as_millis());
        // A sink that stays away does not fill the log.
        if std::mem::replace(&mut self.is_reported, true) {
            tracing::debug!(sink, reason, milliseconds, "sink still does not take events");
        } else {
            tracing::warn!(sink, reason, milliseconds, "sink does not take events; it is tried again");
        }
    }

    /// The post is sent again at once, which is no failure of the sink's, unless the sink processes
    /// nothing at all: each connection may leave all requests unprocessed that were sent to it, and
    /// a few connections may do so in a row.
    fn not_processed(&mut self, post: Post, reason: String) {
        self.unprocessed += 1;
        if self.unprocessed > self.at_once().saturating_mul(UNPROCESSED_ROUNDS_MAX) {
            self.unprocessed = 0;
            self.later(post, reason, None);
        } else {
            tracing::debug!(
                sink = &*self.sink.name,
                reason,
                "the request is sent again on another connection"
            );
            self.keep_waiting(post);
        }
    }

    fn keep_waiting(&mut self, post: Post) {
        // A replay stays among those that are asked for.
        if !post.is_replay {
            self.waiting.insert(post.first(), post);
        }
    }

    /// What the sink refuses becomes dead letters, and only when they are kept does the cursor go on.
    async fn refused(&mut self, post: Post, reason: String) -> Result<(), End> {
        if let Err(error) = self.sink.letters.check_room() {
            self.no_room(post, &error);
            return Ok(());
        }
        if !post.is_replay && !self.refusals.lets_in(&post) {
            // It refuses whatever comes: a wrong key or address, and not a matter of single events.
            self.keep_waiting(post);
            let requests = self.refusals.requests();
            return Err(End::Parked(format!(
                "it refused {requests} requests in a row, and then one more: {reason}"
            )));
        }
        let (first, is_replay, tries) = (post.first(), post.is_replay, post.tries + 1);
        self.tell_refusal(&post, &reason);
        let refused_at_ms = unix_ms();
        let letter = |entry| Letter { entry, refused_at_ms, tries, reason: reason.clone() };
        let letters: Vec<Letter> = post.entries().iter().map(|entry| letter(entry.copied())).collect();
        let sink = Arc::clone(&self.sink);
        let keep = move || match is_replay {
            true => sink.letters.keep_again(letters),
            false => sink.letters.keep(&letters),
        };
        match blocking(keep).await {
            Err(End::Storage(error)) if error.is_full() => {
                self.no_room(post, &error);
                return Ok(());
            }
            kept => kept?,
        }
        self.works();
        if !is_replay {
            self.pending.done(first);
        }
        Ok(())
    }

    /// What the sink refuses cannot be kept. It is sent again later, so that it is not lost.
    fn no_room(&mut self, post: Post, error: &StorageError) {
        self.later(
            post,
            format!("it refused events, and they cannot be kept as dead letters: {error}"),
            None,
        );
    }

    /// A sink that refuses much does not fill the log: the letters have it all.
    fn tell_refusal(&mut self, post: &Post, reason: &str) {
        let (sink, first, events) = (&*self.sink.name, post.first(), post.entries().len());
        let told = self.told.as_ref();
        if told.is_some_and(|(told, at)| told == reason && at.elapsed() < REFUSAL_LOGGED_EVERY) {
            tracing::debug!(sink, %first, events, reason, "the sink refused more events");
        } else {
            tracing::warn!(sink, %first, events, reason, "the sink refused events: they are kept as dead letters");
            self.told = Some((reason.to_owned(), Instant::now()));
        }
    }
}

impl Gathered {
    /// Whether another event may be added.
    fn is_open(&self, options: &RestOptions) -> bool {
        self.entries.len() < options.batch.map_or(1, usize::from) && self.bytes < options.batch_bytes
    }

    fn push(&mut self, entry: &Entry, options: &RestOptions) {
        // An envelope is written once for all who want it, so it is asked for before the entry is copied.
        self.bytes += match options.batch {
            Some(_) => entry.envelope().len(),
            None => entry.event.json().len(),
        };
        self.entries.push(entry.copied());
        self.since.get_or_insert_with(Instant::now);
    }

    /// The events, if they are as many as a request may have, have waited long enough, or are the last.
    fn take_if_ready(&mut self, options: &RestOptions, is_over: bool) -> Option<Vec<Entry>> {
        let since = self.since?;
        let is_ready = !self.is_open(options) || is_over || since.elapsed() >= options.batch_wait;
        is_ready.then(|| std::mem::take(self).entries)
    }
}

/// Does what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, End> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| StorageError::new("write dead letters", error))??)
}
