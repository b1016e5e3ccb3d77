//! Retention that trims events before a sink has them: lost events are counted and reported.

use moltrade_relayer::config::Framing;
use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::sink::SinkLabel;
use moltrade_relayer::sink::needed_after;
use tempfile::TempDir;

use crate::gateway::{Gateway, sink, until};
use crate::hook::Hook;
use crate::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_events_are_counted_and_delivery_continues_at_the_oldest() {
    for had in [0, 3] {
        let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
        let config = sink("a", &receiver, "ack = true");
        let gateway = Gateway::start(&folder, std::slice::from_ref(&config));
        let mut session = receiver.accept(Framing::Length).await;
        if had > 0 {
            gateway.append(1..=had);
            session.seqs(had as usize).await;
            session.ack(had).await;
            gateway.until_delivered(0, had).await;
        }
        gateway.stop_with(session).await;
        let gateway = Gateway::start(&folder, &[]);
        gateway.append(had + 1..=20);
        gateway.running.log.trim(Retention { age_ms_max: 1, ..Retention::default() }, 15_001).unwrap();
        assert_eq!(gateway.running.log.floor().get(), 15);
        gateway.stop().await;
        let gateway = Gateway::start(&folder, &[config]);
        let mut session = receiver.accept(Framing::Length).await;
        assert_eq!(session.seqs(6).await, (15..=20).collect::<Vec<_>>());
        session.ack(20).await;
        gateway.until_delivered(0, 20).await;
        assert_eq!(gateway.sink(0).lost.get(), 14 - had, "after {had}");
        assert_eq!(gateway.metrics.lost.get_or_create(&SinkLabel::new("a")).get(), 14 - had);
        gateway.stop_with(session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_age_waits_for_the_slowest_sink() {
    let (folder, fast, slow) = (TempDir::new().unwrap(), Receiver::start().await, Receiver::start().await);
    let configs = [sink("fast", &fast, "ack = true"), sink("slow", &slow, "ack = true")];
    let gateway = Gateway::start(&folder, &configs);
    let mut sessions = [fast.accept(Framing::Length).await, slow.accept(Framing::Length).await];
    gateway.append(1..=20);
    for (index, acked) in [(0, 20), (1, 4)] {
        sessions[index].seqs(20).await;
        sessions[index].ack(acked).await;
        until("the cursor on disk", || gateway.sink(index).saved_cursor().get() == acked).await;
    }
    let trim = || {
        let needed_after = needed_after(&gateway.sinks());
        let retention = Retention { age_ms_max: 1, needed_after, ..Retention::default() };
        gateway.running.log.trim(retention, 15_001).unwrap();
        gateway.running.log.floor().get()
    };
    assert_eq!(trim(), 5);
    sessions[1].ack(20).await;
    until("the cursor on disk", || gateway.sink(1).saved_cursor().get() == 20).await;
    assert_eq!(trim(), 15);
    assert_eq!(gateway.sink(1).lost.get(), 0);
    assert_eq!(needed_after(&[]), moltrade_relayer::event_log::Cursor::END, "without sinks nobody waits");
    drop(sessions);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_events_of_an_http_sink_are_shown_as_a_range() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("start = 'oldest'"));
    gateway.append(1..=3);
    assert_eq!(hook.dates(3).await, [1, 2, 3]);
    gateway.until_delivered(0, 3).await;
    gateway.stop().await;
    let gateway = Gateway::start(&folder, &[]);
    gateway.append(4..=20);
    gateway.running.log.trim(Retention { age_ms_max: 1, ..Retention::default() }, 15_001).unwrap();
    gateway.stop().await;
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    assert_eq!(hook.dates(6).await, (15..=20).collect::<Vec<_>>());
    gateway.until_delivered(0, 20).await;
    let ranges = serde_json::to_string(&gateway.sink(0).lost_ranges()).unwrap();
    assert_eq!((gateway.sink(0).lost.get(), &*ranges), (11, r#"[{"first":4,"last":14}]"#));
    gateway.stop().await;
}
