//! Heartbeats of sinks over TCP: a line with the position when nothing else was sent.

use moltrade_relayer::config::Framing;
use relay_sim::wait::until;
use serde_json::Value;
use tempfile::TempDir;

use crate::gateway::{Gateway, sink, within};
use crate::receiver::{Connection, Receiver};

const HEARTBEAT: &str = "framing = 'ndjson'\nheartbeat_secs = 5\n";

/// The sequence of the next line, which must be a heartbeat.
async fn heartbeat(session: &mut Connection) -> u64 {
    let line = within("a heartbeat", session.next()).await.expect("it is open");
    assert!(line["heartbeat"]["time"].is_u64(), "{line}");
    line["heartbeat"]["seq"].as_u64().expect("a sequence")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_may_acknowledge_a_heartbeat_and_nothing_beyond_it() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let options = format!("{HEARTBEAT}ack = true\nkinds = [7]");
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
    let mut session = receiver.accept(Framing::Ndjson).await;
    gateway.append(1..=10);
    assert_eq!(heartbeat(&mut session).await, 10);
    // Skipped events move the cursor also without an acknowledgement.
    gateway.until_delivered(0, 10).await;
    session.ack(10).await;
    session.ack(10).await;
    gateway.append(11..=12);
    gateway.until_delivered(0, 12).await;
    assert_eq!(gateway.sink(0).ack_errors.get(), 0);
    session.ack(12).await;
    let reason = gateway.until_away(0).await;
    assert!(reason.contains("acknowledged 12, which was not sent"), "{reason}");
    gateway.stop_with(session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_an_unacknowledged_event_holds_the_cursor_whatever_heartbeats_say() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &format!("{HEARTBEAT}ack = true"))]);
    let mut session = receiver.accept(Framing::Ndjson).await;
    gateway.append(1..=10);
    assert_eq!(session.seqs(10).await, (1..=10).collect::<Vec<_>>());
    session.ack(4).await;
    gateway.until_delivered(0, 4).await;
    assert_eq!(heartbeat(&mut session).await, 10, "everything up to here was sent");
    assert_eq!(gateway.sink(0).cursor().get(), 4);
    session.ack(10).await;
    gateway.until_delivered(0, 10).await;
    gateway.stop_with(session).await;
}

/// A sink that does not acknowledge gets heartbeats, too, and sees when the gateway is gone.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_come_while_nothing_else_is_sent() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, HEARTBEAT)]);
    let mut session = receiver.accept(Framing::Ndjson).await;
    assert_eq!(heartbeat(&mut session).await, 0);
    gateway.append(1..=3);
    assert_eq!(session.dates(3).await, [1, 2, 3]);
    until("everything is delivered", || gateway.sink(0).delivered.get() == 3).await;
    assert_eq!(heartbeat(&mut session).await, 3);
    gateway.stop().await;
    assert_eq!(within("the end", session.next()).await, None::<Value>);
}
