//! Random schedules across the boundary between disk and memory: readers miss nothing, get nothing
//! twice, and always wake up.
//!
//! A schedule is a series of [steps](Step). Between two steps, nothing moves: the writer stops
//! between commit and publication, the disk thread stops at a gate, and readers are polled only by
//! the schedule or, in some steps, by the thread that wakes them. So a seed reproduces its
//! schedule, except for steps in which threads race. Only one of the tests has such steps.

mod consumer;
mod stage;
mod truth;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::Instant;

use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::event_log::{Verified, keys};
use relay_sim::rng::Rng;
use tempfile::TempDir;
use wire::{Signer, VerifiedEvent};

use self::consumer::Consumer;
use self::stage::{Disk, Stage, Writer};
use self::truth::Truth;

/// Opening a log is slow, so several schedules share a log. The last schedule closes it.
const SCHEDULES_OF_A_LOG: usize = 32;
const LOGS: RangeInclusive<u64> = 1..=32;
/// The batch size: more events than a schedule appends at once, so that whole batches are sorted by
/// time.
const EVENTS: usize = 256;
/// The maximum distance from the head at which readers race with a trim.
const SHORT: usize = 12;

#[test]
fn readers_miss_nothing_and_wake_up_under_any_schedule() {
    play(Races::No);
}

#[test]
fn readers_miss_nothing_and_wake_up_while_threads_race() {
    play(Races::Yes);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Races {
    No,
    Yes,
}

/// Runs the schedules of all logs or, if `SCHEDULES_SEED` is set, of the log with this seed.
fn play(races: Races) {
    let replayed = std::env::var("SCHEDULES_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replayed.map_or(LOGS, |seed| seed..=seed);
    for seed in seeds {
        let folder = TempDir::new().expect("a folder");
        let mut play = Play::open(folder.path(), Rng::new(&[seed]), races);
        for number in 1..=SCHEDULES_OF_A_LOG {
            if let Err(fault) = play.schedule(number == SCHEDULES_OF_A_LOG) {
                let steps = &play.steps;
                panic!("SCHEDULES_SEED={seed}, schedule {number}: {fault}, after {steps:?}");
            }
        }
    }
}

/// A step of a schedule. Readers are identified by their index.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Commits a batch of this many events.
    Commit(usize),
    /// Publishes the committed batch, and wakes the readers that wait at the head.
    Publish,
    /// Like `Publish`, while readers drop their waits and wait again.
    PublishAmidst,
    /// Polls a reader, whether it was woken or not.
    Poll(usize),
    /// Drops a reader's wait, and starts a new wait.
    Renew(usize),
    /// Like `Renew`, but takes the entries in memory before the new wait.
    TakeInMemory(usize),
    /// Lets the disk thread do all reads before its next gate.
    Read,
    /// Trims the events below this number.
    Trim(u64),
    /// Like `Trim`, while the disk is read.
    TrimAmidst(u64),
    /// Runs everything until no work is left.
    Settle,
    Close,
}

/// A log on which the schedules run one after the other.
struct Play {
    // Dropped first, because pending disk reads keep the log open.
    disk: Disk,
    writer: Writer,
    stage: Arc<Stage>,
    consumers: Vec<Arc<Consumer>>,
    /// Whether a batch is committed but not published.
    is_committed: bool,
    /// The number of disk reads at the last check.
    reads: usize,
    /// The last assigned number.
    last: u64,
    races: Races,
    rng: Rng,
    steps: Vec<Step>,
}

impl Play {
    fn open(folder: &Path, mut rng: Rng, races: Races) -> Self {
        let mut truth = Truth::new();
        if rng.chance(0.5) {
            write_history(folder, &mut truth, &mut rng);
        }
        // A tail of size 0 holds only the newest batch.
        let tail_bytes = *rng.pick(&[0, 10_000, 40_000]).expect("not empty");
        let disk = Disk::new();
        let stage = Stage::open(folder, truth, tail_bytes, disk.handle());
        let writer = Writer::start(Arc::clone(&stage.log));
        let last = stage.log.head().get();
        let (consumers, steps) = (Vec::new(), Vec::new());
        Self { disk, writer, stage, consumers, is_committed: false, reads: 0, last, races, rng, steps }
    }

    /// Runs one schedule, with new readers.
    fn schedule(&mut self, closes: bool) -> Result<(), String> {
        self.steps.clear();
        self.shorten();
        let trims = self.rng.chance(0.3);
        let at_once = *self.rng.pick(&[0.0, 0.3, 0.9]).expect("not empty");
        for _ in 0..self.rng.between(1, 6) {
            self.add_consumer();
        }
        for _ in 0..self.rng.between(20, 80) {
            let step = self.draw(trims);
            self.stage.runs_at_once.store(self.rng.chance(at_once), Ordering::SeqCst);
            self.take(step)?;
        }
        if self.is_committed {
            self.take(Step::Publish)?;
        }
        if closes {
            self.take(Step::Close)?;
        }
        self.take(Step::Settle)?;
        self.consumers.drain(..).for_each(|consumer| consumer.drop_wait());
        Ok(())
    }

    /// Trims the events of earlier schedules if readers would take long to read them.
    fn shorten(&self) {
        let kept: Vec<u64> = self.truth().kept().collect();
        if kept.len() > 200 {
            trim(&self.stage, kept[kept.len() - 40]);
        }
    }

    /// Adds a reader at a random cursor: 0, below the floor, below the tail, in the tail, or at the
    /// head.
    fn add_consumer(&mut self) {
        let (floor, head) = (self.truth().floor(), self.stage.log.head().get());
        let at = match self.rng.below(5) {
            0 => 0,
            1 => head,
            2 => self.rng.between(floor.saturating_sub(10) as usize, floor as usize - 1) as u64,
            3 => head - (self.rng.below(15) as u64).min(head + 1 - floor),
            _ => self.rng.between(floor as usize - 1, head as usize) as u64,
        };
        let rng = Rng::new(&[self.rng.bits()]);
        self.consumers.push(Consumer::new(&self.stage, at, rng));
    }

    fn draw(&mut self, trims: bool) -> Step {
        let consumer = self.rng.below(self.consumers.len());
        let races = self.races == Races::Yes && self.rng.chance(0.5);
        match self.rng.below(100) {
            0..20 if self.is_committed => {
                if races {
                    Step::PublishAmidst
                } else {
                    Step::Publish
                }
            }
            0..20 => Step::Commit(self.rng.between(1, 20)),
            20..50 => {
                let woken = |place: &usize| self.consumers[*place].is_woken();
                let woken: Vec<usize> = (0..self.consumers.len()).filter(woken).collect();
                self.rng.pick(&woken).map_or(Step::Read, |place| Step::Poll(*place))
            }
            50..55 => Step::Poll(consumer),
            55..65 => Step::Renew(consumer),
            65..75 => Step::TakeInMemory(consumer),
            75..95 => Step::Read,
            95..98 if trims => {
                let kept: Vec<u64> = self.truth().kept().collect();
                let newest = kept.len().saturating_sub(if races { SHORT } else { usize::MAX });
                let floor =
                    self.rng.pick(&kept[newest..]).map_or_else(|| self.truth().floor(), |seq| seq + 1);
                if races { Step::TrimAmidst(floor) } else { Step::Trim(floor) }
            }
            _ => Step::Settle,
        }
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        self.steps.push(step);
        match step {
            Step::Commit(size) => self.commit(size),
            Step::Publish => self.publish(),
            Step::PublishAmidst => self.publish_amidst()?,
            Step::Poll(place) => self.consumers[place].run(),
            Step::Renew(place) => {
                self.consumers[place].drop_wait();
                self.consumers[place].run();
            }
            Step::TakeInMemory(place) => self.consumers[place].take_in_memory(),
            Step::Read => self.disk.read(),
            Step::Trim(floor) => trim(&self.stage, floor),
            Step::TrimAmidst(floor) => self.trim_amidst(floor),
            Step::Settle => self.settle()?,
            Step::Close => {
                self.truth().is_closing = true;
                self.stage.log.close();
            }
        }
        self.look()
    }

    /// Checks the effects of a step, and puts a gate after the disk reads that the step has
    /// started.
    fn look(&mut self) -> Result<(), String> {
        for (place, consumer) in self.consumers.iter().enumerate() {
            consumer.fault().map_or(Ok(()), |fault| Err(format!("reader {place} {fault}")))?;
        }
        let reads = self.stage.reads(self.consumers.len());
        if reads > self.consumers.len() {
            return Err(format!("{reads} reads of {} readers are under way", self.consumers.len()));
        }
        if reads > self.reads || (reads > 0 && self.disk.is_at_last_gate()) {
            self.disk.put_gate();
        }
        self.reads = reads;
        Ok(())
    }

    fn commit(&mut self, size: usize) {
        static POOL: OnceLock<Vec<VerifiedEvent>> = OnceLock::new();
        let pool = POOL.get_or_init(pool);
        let first = self.rng.between(0, EVENTS - size);
        let numbers = self.last + 1..;
        let batch: Vec<_> = numbers.zip(pool[first..].iter().take(size).cloned()).collect();
        self.truth().write(batch.iter().map(|(seq, event)| (*seq, event.id())));
        self.writer.commit(batch.into_iter().map(|(seq, event)| verified(seq, event)).collect());
        self.last += size as u64;
        self.is_committed = true;
    }

    fn publish(&mut self) {
        self.truth().publish();
        self.writer.publish(std::thread::yield_now);
        self.is_committed = false;
    }

    /// Publishes while readers renew their waits. Renewing ends when the head moves: later, it
    /// would hide a missing wake-up.
    fn publish_amidst(&mut self) -> Result<(), String> {
        if self.rng.chance(0.7) {
            self.settle()?; // Most races are at the head.
        }
        self.truth().publish();
        let Self { disk, writer, stage, consumers, rng, .. } = self;
        let head = stage.log.head();
        disk.run_during(|| {
            writer.publish(|| {
                let consumer = &consumers[rng.below(consumers.len())];
                if stage.log.head() == head {
                    consumer.drop_wait();
                    consumer.run();
                }
            });
        });
        self.is_committed = false;
        Ok(())
    }

    /// Trims while the disk is read. Readers at the head restart close to it, so that reads are
    /// short and follow each other without a pause.
    fn trim_amidst(&mut self, floor: u64) {
        let Self { disk, stage, consumers, rng, .. } = self;
        let mut kept: Vec<u64> = stage.truth.lock().expect("not poisoned").kept().collect();
        kept.drain(..kept.len().saturating_sub(SHORT));
        disk.run_during(|| {
            std::thread::scope(|scope| {
                let trimming = scope.spawn(|| trim(stage, floor));
                while !trimming.is_finished() {
                    let consumer = &consumers[rng.below(consumers.len())];
                    if consumer.is_woken() {
                        consumer.run();
                    } else if let Some(seq) = rng.pick(&kept) {
                        consumer.begin_again_if_at_head(seq - 1);
                    }
                }
            });
        });
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..1_000 {
            let woken: Vec<_> = self.consumers.iter().filter(|consumer| consumer.is_woken()).collect();
            if woken.is_empty() && self.reads == 0 {
                for (place, consumer) in self.consumers.iter().enumerate() {
                    consumer
                        .fault_at_rest()
                        .map_or(Ok(()), |fault| Err(format!("reader {place} {fault}")))?;
                }
                return Ok(());
            }
            woken.into_iter().for_each(Consumer::run);
            self.look()?;
            self.disk.read();
            self.look()?;
        }
        Err("the readers never come to rest".into())
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.stage.truth.lock().expect("not poisoned")
    }
}

/// Trims by time: each event's time of receipt equals its number.
fn trim(stage: &Stage, floor: u64) {
    stage.truth.lock().expect("not poisoned").announce_floor(floor);
    let retention = Retention { age_ms_max: 1, ..Retention::default() };
    stage.log.trim(retention, floor + 1).expect("trims");
    assert_eq!(stage.log.floor().get(), floor);
    stage.truth.lock().expect("not poisoned").enforce_floor();
}

/// Writes a log as left by an earlier process that had reserved the last numbers without assigning
/// them.
fn write_history(folder: &Path, truth: &mut Truth, rng: &mut Rng) {
    let events = pool().into_iter().take(rng.between(1, 60)).zip(1..);
    let written: Vec<_> = events.map(|(event, seq)| verified(seq, event)).collect();
    truth.write((1..).zip(written.iter().map(|verified| verified.event.id())));
    truth.publish();
    truth.reopen();
    let last = written.len() as u64;
    let log = crate::bench::Running::open(folder);
    log.append(written);
    log.stop();
    let database = crate::marks::database(folder);
    let meta = database.cf_handle(keys::META).expect("a family");
    let reserved = last + rng.below(10) as u64;
    database.put_cf(meta, keys::META_RESERVED, reserved.to_be_bytes()).expect("written");
}

fn pool() -> Vec<VerifiedEvent> {
    let signer = Signer::from_seed(1);
    (1..=EVENTS as u64).map(|second| signer.sign(second, 1, &[] as &[Vec<String>], "")).collect()
}

fn verified(seq: u64, event: VerifiedEvent) -> Verified {
    let (relay, received) = ("ws://relay.example".into(), Instant::now());
    Verified { event, relay, received_at_ms: seq, received, budget: None }
}
