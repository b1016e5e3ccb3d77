//! A full disk: dead letters and cursors that cannot be stored wait for free space.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moltrade_relayer::event_log::Seq;
use moltrade_relayer::sink::Command;
use tempfile::TempDir;

use crate::gateway::{Gateway, until};
use crate::hook::{Hook, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_what_is_refused_on_a_full_disk_is_sent_again_until_it_can_be_kept() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let free = Arc::new(AtomicU64::new(1_000));
    let gateway = Gateway::start_on(&folder, &hook.output("start = 'oldest'"), Arc::clone(&free));
    gateway.append(1..=3);
    let first = hook.next().await;
    assert_eq!(first.date(), 1);
    free.store(999, Ordering::Relaxed);
    first.answer(Reply::status(422));
    let reason = gateway.until_away(0).await;
    assert!(reason.contains("the disk is full") && reason.contains("min_free_bytes"), "{reason}");
    let again = hook.next().await;
    assert_eq!((again.date(), gateway.sink(0).cursor().get()), (1, 0), "it is not passed");
    assert!(gateway.sink(0).dead_letters.is_empty());
    free.store(1_000, Ordering::Relaxed);
    again.answer(Reply::status(422));
    for expected in 2..=3 {
        let post = hook.next().await;
        assert_eq!(post.date(), expected);
        post.answer(Reply::status(204));
    }
    gateway.until_delivered(0, 3).await;
    let letters = gateway.sink(0).dead_letters.page(Seq::FIRST, 100, usize::MAX).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.entry.seq.get()).collect::<Vec<_>>(), [1]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_cursors_move_in_memory_and_are_stored_when_there_is_room() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let free = Arc::new(AtomicU64::new(1_000));
    let gateway = Gateway::start_on(&folder, &hook.output("start = 'oldest'"), Arc::clone(&free));
    gateway.append(1..=20);
    let first = hook.next().await;
    free.store(999, Ordering::Relaxed);
    first.answer(Reply::status(204));
    for _ in 2..=20 {
        hook.next().await.answer(Reply::status(204));
    }
    gateway.until_delivered(0, 20).await;
    assert_eq!(gateway.saved("a"), 0);
    let refused = gateway.sink(0).command(Command::Pause).await.unwrap_err().to_string();
    assert!(refused.contains("the disk is full"), "{refused}");
    free.store(1_000, Ordering::Relaxed);
    until("the cursor is written", || gateway.saved("a") == 20).await;
    gateway.sink(0).command(Command::Pause).await.expect("there is room");
    gateway.stop().await;
}
