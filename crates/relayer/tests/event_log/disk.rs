//! A full disk pauses ingest; nothing is lost, and it goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moltrade_relayer::event_log::free_space::FreeSpace;
use tempfile::TempDir;

use crate::bench::{Options, Running, events};

#[test]
fn a_full_disk_pauses_ingest_until_there_is_room() {
    let folder = TempDir::new().expect("a folder");
    let free = Arc::new(AtomicU64::new(1_000));
    let free_space = {
        let free = Arc::clone(&free);
        FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)))
    };
    let log = Running::open_with(folder.path(), Options { free_space, ..Options::default() });
    log.append(events([1]));
    assert!(!log.disk_full.is_paused());
    free.store(999, Ordering::Relaxed);
    log.send(events([2, 3]));
    while !log.disk_full.is_paused() {
        std::thread::yield_now();
    }
    assert_eq!(log.seqs(), [1]);
    free.store(1_000, Ordering::Relaxed);
    while log.log.head().get() < 3 {
        std::thread::yield_now();
    }
    assert!(!log.disk_full.is_paused());
    assert_eq!(log.seqs(), [1, 2, 3]);
}

#[test]
fn stopping_on_a_full_disk_does_not_wait_for_room() {
    let folder = TempDir::new().expect("a folder");
    let free_space = FreeSpace::from_fn(|| Ok(0));
    let log = Running::open_with(folder.path(), Options { free_space, ..Options::default() });
    log.send(events([1]));
    while !log.disk_full.is_paused() {
        std::thread::yield_now();
    }
    log.stop();
    let log = Running::open(folder.path());
    assert_eq!(log.log.head().get(), 0, "nothing was committed, and nothing is damaged");
}
