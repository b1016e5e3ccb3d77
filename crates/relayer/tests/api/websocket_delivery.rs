//! Clients get every event once, in order, in the requested format.

use crate::gateway::{Gateway, Setup, next, next_seqs};

#[tokio::test(flavor = "multi_thread")]
async fn without_parameters_bare_events_come_from_now_on() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(5).await;
    let mut client = gateway.connect("").await;
    gateway.append_numbered(2).await;
    for seq in [6, 7] {
        let delivery = next(&mut client).await;
        assert_eq!((delivery.seq, &delivery.event), (None, gateway.event(seq).json()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_cursor_envelopes_come_from_there_on() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(5).await;
    let mut client = gateway.connect("?cursor=3").await;
    for seq in [4, 5] {
        let delivery = next(&mut client).await;
        let event = gateway.event(seq).json().clone();
        let envelope = format!(
            r#"{{"seq":{seq},"log":"{}","received_at":{},"relay":"wss://relay.example","event":{}}}"#,
            gateway.log.id(),
            seq * 1_000,
            std::str::from_utf8(&event).unwrap()
        );
        assert_eq!((delivery.seq, delivery.received_at), (Some(seq), Some(seq * 1_000)));
        assert_eq!(delivery.relay.as_deref(), Some("wss://relay.example"));
        assert_eq!((delivery.event, delivery.message_bytes), (event, envelope.len()));
    }
    gateway.append_numbered(1).await;
    assert_eq!(next_seqs(&mut client, 1).await, [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_can_be_chosen() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(2).await;
    let mut bare = gateway.connect("?cursor=1&format=event").await;
    let delivery = next(&mut bare).await;
    assert_eq!((delivery.seq, &delivery.event), (None, gateway.event(2).json()));
    let mut envelopes = gateway.connect("?format=envelope").await;
    gateway.append_numbered(1).await;
    assert_eq!(next_seqs(&mut envelopes, 1).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_zero_is_valid_for_an_empty_log() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect("?cursor=0").await;
    gateway.append_numbered(1).await;
    assert_eq!(next_seqs(&mut client, 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_zero_is_the_oldest_that_is_kept() {
    let gateway = Gateway::start_with(Setup { tail_bytes: 1, ..Setup::default() }).await;
    gateway.append_numbered(50).await;
    gateway.trim_below(20);
    let mut client = gateway.connect("?cursor=0").await;
    assert_eq!(next_seqs(&mut client, 31).await, (20..=50).collect::<Vec<_>>());
    let mut client = gateway.connect("?cursor=19").await;
    assert_eq!(next_seqs(&mut client, 31).await, (20..=50).collect::<Vec<_>>());
}

/// Clients start anywhere while events are appended, and see every sequence once and in order. The
/// tail is so small that the clients alternate between memory and disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_gap_and_no_repeat_between_replay_and_live() {
    const EVENTS: u64 = 3_000;
    let gateway = Gateway::start_with(Setup { tail_bytes: 32 << 10, ..Setup::default() }).await;
    gateway.append_numbered(500).await;
    let clients = async {
        let mut clients = tokio::task::JoinSet::new();
        for cursor in [0, 1, 250, 499, 500, 0, 400, 500] {
            let mut client = gateway.connect(&format!("?cursor={cursor}")).await;
            clients.spawn(async move {
                for seq in cursor + 1..=EVENTS {
                    assert_eq!(next(&mut client).await.seq, Some(seq));
                }
            });
            tokio::task::yield_now().await;
        }
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
    };
    tokio::join!(clients, gateway.append_numbered(EVENTS - 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resumes_with_its_cursor_misses_nothing() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(100).await;
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let mut client = gateway.connect(&format!("?cursor={}", seen.last().unwrap_or(&0))).await;
        seen.extend(next_seqs(&mut client, 20).await);
    }
    assert_eq!(seen, (1..=100).collect::<Vec<_>>());
}
