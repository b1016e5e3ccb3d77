//! Marks: a statement about a relay is written with the events that prove it, or later, but never
//! earlier.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use moltrade_relayer::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use moltrade_relayer::event_log::{Checkpoint, EventLog, Mark, RelayTable, StoreOptions, Submission, keys};
use relay_sim::wait::until_blocking;
use rocksdb::{DB, Options};
use tempfile::TempDir;
use tokio::sync::oneshot::Receiver;
use wire::ClaimedId;

use crate::bench::{Running, TAIL_BYTES, event, events};

const RELAY: &str = "ws://relay.example/";

/// A mark for a relay's coverage, and the receiver of its confirmation.
fn mark(relay: &str, row: &[u8]) -> (Mark, Confirmation) {
    let (mark, receipt) = Mark::new(RelayTable::Coverage, relay.into(), row.to_vec());
    (mark, Confirmation { receipt, came: false })
}

struct Confirmation {
    receipt: Receiver<()>,
    came: bool,
}

impl Confirmation {
    fn has_come(&mut self) -> bool {
        self.came |= self.receipt.try_recv().is_ok();
        self.came
    }
}

fn row(log: &EventLog, relay: &str) -> Option<Vec<u8>> {
    log.relay_row(RelayTable::Coverage, relay).expect("readable")
}

/// All interleavings of two shards' submissions, each as a list of shards in the order of arrival.
fn interleavings(left: [usize; 2]) -> Vec<Vec<usize>> {
    if left == [0, 0] {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shard in [0, 1] {
        let mut rest = left;
        if let Some(fewer) = rest[shard].checked_sub(1) {
            rest[shard] = fewer;
            all.extend(interleavings(rest).into_iter().map(|rest| [vec![shard], rest].concat()));
        }
    }
    all
}

/// Two shards each send two events, a part of a checkpoint, and another event. For every
/// interleaving and batch size, the row of the mark may exist only if the four events exist.
#[test]
fn invariant_6_a_mark_is_committed_with_the_events_before_it_or_later() {
    let folder = TempDir::new().expect("a folder");
    let log =
        EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, TAIL_BYTES)
            .expect("opens");
    let mut with_events = 0;
    for (number, order) in interleavings([4, 4]).into_iter().enumerate() {
        for batch_size in [1, 2, 3, 100] {
            let relay = format!("{RELAY}{number}/{batch_size}");
            let first = (number * 1_000 + batch_size * 8) as u64;
            let written = events(first..first + 6);
            let ids: Vec<ClaimedId> = written.iter().map(|event| event.event.id().into()).collect();
            let (mark, mut told) = mark(&relay, b"proven");
            let checkpoint = Checkpoint::new(mark, 2);
            let mut shards = [[0, 1, 4], [2, 3, 5]].map(|of_shard| {
                let mut sent: Vec<Submission> =
                    of_shard.map(|place| event(first + place).into()).into_iter().collect();
                sent.insert(2, Submission::Checkpoint(Arc::clone(&checkpoint)));
                sent.into_iter()
            });
            let (sender, receiver) = sync_channel(order.len());
            for shard in &order {
                let arrival = shards[*shard].next().expect("as many as are sent");
                sender.send(vec![arrival]).expect("room");
            }
            drop(sender);
            let is_logged = |id| log.contains(id).expect("readable");
            let before = &ids[..4];
            sequencer(&log, batch_size)
                .run(&receiver, |_| {
                    if row(&log, &relay).is_some() {
                        assert!(before.iter().all(is_logged), "{order:?} by {batch_size}: too early");
                        with_events += 1;
                    }
                    assert!(!told.has_come() || row(&log, &relay).is_some());
                })
                .expect("commits");
            assert!(ids.iter().all(is_logged));
            assert_eq!(row(&log, &relay).as_deref(), Some(&b"proven"[..]), "{order:?} by {batch_size}");
            assert!(told.has_come(), "{order:?} by {batch_size}: nobody was told");
        }
    }
    assert!(with_events > 0, "no mark was seen in a batch of events, so nothing was shown");
}

fn sequencer(log: &Arc<EventLog>, batch_size: usize) -> Sequencer {
    let options = SequencerOptions { batch_size };
    Sequencer::new(Arc::clone(log), options, Arc::new(DiskFull::default())).expect("a log")
}

#[test]
fn invariant_6_a_mark_that_did_not_come_through_all_shards_is_never_committed() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    let (mark, mut told) = mark(RELAY, b"proven");
    let checkpoint = Checkpoint::new(mark, 3);
    for second in 1..=2 {
        log.submit(vec![event(second).into(), Submission::Checkpoint(Arc::clone(&checkpoint))]);
    }
    log.append(events(3..=50));
    assert_eq!(row(&log.log, RELAY), None);
    drop(checkpoint);
    log.stop();
    assert!(!told.has_come());
    let log = Running::open(folder.path());
    assert_eq!((log.log.head().get(), row(&log.log, RELAY)), (50, None));
}

#[test]
fn marks_alone_do_not_move_the_head_and_survive_a_restart() {
    for fsync in [true, false] {
        let folder = TempDir::new().expect("a folder");
        let open =
            || Running::open_with(folder.path(), crate::bench::Options { fsync, ..Default::default() });
        let log = open();
        log.append(events(1..=3));
        for value in [&b"first"[..], b"second"] {
            let (mark, mut told) = mark(RELAY, value);
            log.submit(vec![Submission::Checkpoint(Checkpoint::new(mark, 1))]);
            until_blocking("the commit is told", || told.has_come());
            assert_eq!(row(&log.log, RELAY).as_deref(), Some(value), "it is there when that is told");
        }
        assert_eq!(log.log.head().get(), 3);
        log.stop();
        let log = open();
        assert_eq!(row(&log.log, RELAY).as_deref(), Some(&b"second"[..]));
        assert_eq!(log.seqs(), [1, 2, 3]);
        log.append(events([4]));
        assert_eq!(log.seqs(), [1, 2, 3, 4], "no number was spent on a mark");
    }
}

/// Opens the database of a log directly.
pub fn database(folder: &Path) -> DB {
    let options = Options::default();
    let families = DB::list_cf(&options, folder).expect("a database");
    DB::open_cf(&options, folder, families).expect("opens")
}

pub fn format(folder: &Path) -> u64 {
    let database = database(folder);
    let meta = database.cf_handle(keys::META).expect("a family");
    let format = database.get_cf(meta, keys::META_FORMAT).expect("readable").expect("a number");
    u64::from_be_bytes(format.try_into().expect("eight bytes"))
}
