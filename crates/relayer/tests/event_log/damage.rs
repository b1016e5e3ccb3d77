//! Invariant 7: a failure of RocksDB is reported as an error, never as "absent".

use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::event_log::reader::ReadError;
use tempfile::TempDir;
use wire::ClaimedId;

use crate::bench::{Running, events};

/// A log of 500 events whose SST files have damaged data blocks.
fn damaged(folder: &TempDir) -> (Running, Vec<ClaimedId>) {
    let log = Running::open(folder.path());
    let written = events(1..=500);
    let ids = written.iter().map(|verified| verified.event.id().into()).collect();
    log.append(written);
    log.stop();
    // Reopening the log flushes the write-ahead log into SST files.
    Running::open(folder.path()).stop();
    for file in std::fs::read_dir(folder.path()).expect("readable") {
        let path = file.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).expect("readable");
            if bytes.len() < 10_000 {
                continue; // A small file with the numbers in `meta`.
            }
            // Data blocks are at the beginning of the file. RocksDB needs the end to open the file.
            for byte in bytes.iter_mut().take(4_000).skip(100).step_by(50) {
                *byte ^= 0xff;
            }
            std::fs::write(&path, bytes).expect("written");
        }
    }
    (Running::open(folder.path()), ids)
}

#[test]
fn invariant_7_a_damaged_file_is_never_read_as_absent() {
    let folder = TempDir::new().expect("a folder");
    let (log, ids) = damaged(&folder);
    let answers: Vec<_> = ids.iter().map(|id| log.log.contains(id)).collect();
    let absent = answers.iter().filter(|answer| matches!(answer, Ok(false))).count();
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(absent, 0, "events that are there were called absent");
    assert!(failed > 0, "nothing was damaged, so nothing was shown");
}

#[tokio::test]
async fn invariant_7_a_reader_that_finds_damage_stops_the_process() {
    let folder = TempDir::new().expect("a folder");
    let (log, _) = damaged(&folder);
    let lost = log.log.reader(Cursor::START).next().await.expect_err("damaged");
    assert!(matches!(lost, ReadError::Storage(_)), "{lost}");
    // The pipeline waits for this failure and for its stages.
    let failure = log.log.failure().await;
    assert_eq!(failure.to_string(), lost.to_string());
}
