//! Invariant 3: nothing is delivered before it is committed.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use moltrade_relayer::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use moltrade_relayer::event_log::{Cursor, EventLog, StoreOptions};
use tempfile::TempDir;

use crate::bench::events;

#[test]
fn invariant_3_a_batch_is_on_disk_before_anybody_sees_it() {
    let folder = TempDir::new().expect("a folder");
    let log = EventLog::open(folder.path(), StoreOptions { fsync: true, ..StoreOptions::default() }, 1 << 20)
        .expect("opens");
    let options = SequencerOptions { batch_size: 10 };
    let sequencer = Sequencer::new(Arc::clone(&log), options, Arc::new(DiskFull::default())).expect("a log");
    let (sender, receiver) = sync_channel(10);
    for start in [0, 100, 200] {
        sender.send(events(start..start + 25).into_iter().map(Into::into).collect()).expect("room");
    }
    drop(sender);
    let mut batches = 0;
    sequencer
        .run(&receiver, |entries| {
            batches += 1;
            let first = entries[0].seq.get();
            assert_eq!(log.head().get(), first - 1, "the head has not moved");
            let mut reader = log.reader(Cursor::from_number(first - 1));
            assert!(reader.next_in_memory().is_none(), "nobody can read it");
            for entry in entries {
                assert!(log.contains(&entry.event.id().into()).expect("readable"), "it is on disk");
            }
        })
        .expect("commits");
    assert_eq!(log.head().get(), 75);
    assert!(batches >= 8, "batches of at most ten");
}
