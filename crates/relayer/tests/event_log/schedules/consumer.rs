//! A reader as a task. It is polled when woken, and every answer is checked against the truth.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::event_log::reader::{Chunk, ReadError, Reader};
use relay_sim::rng::Rng;

use super::stage::Stage;

type Answer = Result<Option<Chunk>, ReadError>;

pub struct Consumer {
    stage: Arc<Stage>,
    is_woken: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// The reader. A current wait holds the lock.
    reader: Arc<tokio::sync::Mutex<Reader>>,
    waiting: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// The number up to which the reader has received every event; 0 if it began at 0 and has
    /// received none.
    at: u64,
    /// The floor when the current wait began.
    floor_before: u64,
    /// Whether the reader has been told that the log has ended.
    has_ended: bool,
    fault: Option<String>,
    rng: Rng,
}

impl Consumer {
    pub fn new(stage: &Arc<Stage>, at: u64, rng: Rng) -> Arc<Self> {
        let state = State {
            reader: reader(stage, at),
            waiting: None,
            at,
            floor_before: stage.truth.lock().expect("not poisoned").floor(),
            has_ended: false,
            fault: None,
            rng,
        };
        Arc::new(Self { stage: Arc::clone(stage), is_woken: AtomicBool::new(true), state: Mutex::new(state) })
    }

    pub fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
    }

    /// Polls the reader until it has no answer, or stops early at random.
    pub fn run(self: &Arc<Self>) {
        self.run_with(&mut self.state.lock().expect("not poisoned"));
    }

    fn run_with(self: &Arc<Self>, state: &mut State) {
        let _entered = self.stage.runtime.enter();
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        self.is_woken.store(false, Ordering::SeqCst);
        while !state.has_ended && state.fault.is_none() {
            let reader = &state.reader;
            let waiting = state.waiting.get_or_insert_with(|| Box::pin(next(Arc::clone(reader))));
            let Poll::Ready(answer) = waiting.as_mut().poll(&mut context) else { return };
            state.waiting = None;
            state.fault = state.take(&self.stage, answer).err();
            if state.rng.chance(0.3) {
                // Simulates a reader that is busy with other work and continues by itself.
                self.is_woken.store(true, Ordering::SeqCst);
                return;
            }
        }
    }

    /// Drops the wait. The reader counts as awake, because it will begin a new wait.
    pub fn drop_wait(&self) {
        self.state.lock().expect("not poisoned").waiting = None;
        self.is_woken.store(true, Ordering::SeqCst);
    }

    /// Drops the wait, and takes the entries in memory.
    pub fn take_in_memory(&self) {
        self.drop_wait();
        let state = &mut *self.state.lock().expect("not poisoned");
        if !state.has_ended && state.fault.is_none() {
            let chunk = state.reader.try_lock().expect("nobody waits for it").next_in_memory();
            state.fault = match chunk {
                Some(chunk) => state.take(&self.stage, Ok(Some(chunk))).err(),
                None if self.stage.truth.lock().expect("not poisoned").is_in_memory(state.at) => {
                    Some("the newest batch is not in memory".into())
                }
                None => None,
            };
        }
    }

    /// Replaces the reader, if it is at the head, by one that begins at `at`.
    pub fn begin_again_if_at_head(&self, at: u64) {
        let state = &mut *self.state.lock().expect("not poisoned");
        let truth = self.stage.truth.lock().expect("not poisoned");
        if !state.has_ended && state.fault.is_none() && !truth.owes(state.at) {
            state.waiting = None;
            state.reader = reader(&self.stage, at);
            (state.at, state.floor_before) = (at, truth.floor());
            self.is_woken.store(true, Ordering::SeqCst);
        }
    }

    /// The first fault in the answers so far.
    pub fn fault(&self) -> Option<String> {
        let state = self.state.lock().expect("not poisoned");
        state.fault.as_ref().map(|fault| format!("at {}: {fault}", state.at))
    }

    /// The fault of a reader that waits for an answer although no further step is pending.
    pub fn fault_at_rest(&self) -> Option<String> {
        let state = self.state.lock().expect("not poisoned");
        let truth = self.stage.truth.lock().expect("not poisoned");
        if state.has_ended {
            None
        } else if truth.is_closing {
            Some(format!("at {}: sleeps, and the log is closed", state.at))
        } else if truth.owes(state.at) {
            Some(format!("at {}: sleeps, and the head is at {}", state.at, truth.published()))
        } else {
            None
        }
    }
}

impl Wake for Consumer {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        // If the reader is being polled now, it is polled again later.
        if self.stage.runs_at_once.load(Ordering::SeqCst)
            && let Ok(mut state) = self.state.try_lock()
        {
            self.run_with(&mut state);
        }
    }
}

impl State {
    fn take(&mut self, stage: &Arc<Stage>, answer: Answer) -> Result<(), String> {
        let truth = stage.truth.lock().expect("not poisoned");
        match answer {
            Ok(Some(chunk)) => self.at = truth.check_entries(self.at, chunk.entries())?,
            Ok(None) => {
                truth.check_end(self.at)?;
                self.has_ended = true;
            }
            Err(ReadError::Trimmed { oldest }) => {
                if self.at == 0 {
                    let cursor = self.reader.try_lock().expect("nobody waits for it").cursor();
                    truth.check_start(cursor.get())?;
                }
                truth.check_trimmed(self.at, oldest.get(), self.floor_before)?;
                // Continues with the oldest kept event, as sinks do.
                self.at = oldest.get() - 1;
                self.reader = reader(stage, self.at);
            }
            Err(ReadError::Storage(error)) => return Err(error.to_string()),
        }
        self.floor_before = truth.floor();
        Ok(())
    }
}

fn reader(stage: &Stage, at: u64) -> Arc<tokio::sync::Mutex<Reader>> {
    Arc::new(tokio::sync::Mutex::new(stage.log.reader(Cursor::from_number(at))))
}

/// A wait that can be dropped independently of the reader.
async fn next(reader: Arc<tokio::sync::Mutex<Reader>>) -> Answer {
    reader.try_lock().expect("one wait at a time").next().await
}
