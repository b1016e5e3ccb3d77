//! Consumer names: how many there can be, and when a consumer is deleted or its cursor is moved.

use std::time::Duration;

use moltrade_relayer::clock::unix_ms;
use moltrade_relayer::config::Output;
use moltrade_relayer::event_log::{Cursor, CursorRow};
use moltrade_relayer::serve::ClientRefusal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::consumer_client::*;
use crate::gateway::{Gateway, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn names_are_checked() {
    let gateway = start(Output::default()).await;
    let long = "x".repeat(65);
    for name in ["", "a%20b", "a/b", "%C3%A4", "a:1", "a%00", &long] {
        let told = gateway.refused(&format!("/ws?consumer={name}")).await.error(400, "bad_consumer");
        assert!(told.contains("1 to 64 of the characters"), "{told}");
    }
    gateway.refused("/ws?consumer=a&consumer=b").await.error(400, "repeated_parameter");
    gateway.refused("/ws?seek=0").await.error(400, "bad_seek");
    gateway.refused("/ws?consumer=a&cursor=1").await.error(400, "cursor_ahead");
    gateway.refused("/ws?consumer=a&seek=1").await.error(400, "cursor_ahead");
    // A refused client does not use up a name.
    gateway.get("/ws?consumer=a").await.error(426, "upgrade_required");
    assert!(gateway.consumers.list().is_empty());
    Client::connect(&gateway, &format!("?consumer={}", "A.z_0-9".repeat(9))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_names_is_limited() {
    let gateway = start(output(2)).await;
    gateway.append_numbered(1).await;
    let mut first = Client::connect(&gateway, "?consumer=a&cursor=0").await;
    first.expect([1]).await;
    first.ack(1).await;
    first.is_read().await;
    let _second = Client::connect(&gateway, "?consumer=b").await;
    let answer = gateway.refused("/ws?consumer=c").await;
    let told = answer.error(503, "too_many_consumers");
    assert!(told.contains("[output] max_consumers"), "{told}");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(gateway.metrics.websocket.refused[ClientRefusal::TooManyConsumers].get(), 1);
    // Disconnected consumers are kept, and known names are admitted.
    first.leave(&gateway, "a").await;
    gateway.refused("/ws?consumer=c").await.error(503, "too_many_consumers");
    let first = Client::connect(&gateway, "?consumer=a").await;
    first.leave(&gateway, "a").await;
    assert_eq!(gateway.change("DELETE", "/api/consumers/a", "").await.status, 200);
    Client::connect(&gateway, "?consumer=c").await;
    assert_eq!(gateway.metrics.websocket.consumers.get(), 2);
}

#[test]
fn unused_consumers_are_forgotten() {
    let folder = TempDir::new().unwrap();
    let row =
        |hours| CursorRow { unused_since_ms: unix_ms() - hours * HOUR_MS, ..CursorRow::at(Cursor::START) };
    let keep = Output::default().keep_unused.as_secs() / 3_600;
    let rows = [("away", row(keep - 1)), ("gone", row(keep + 1)), ("here", CursorRow::at(Cursor::START))];
    prepare(folder.path(), &rows);
    in_a_process(folder.path(), async |gateway| {
        let names: Vec<_> = gateway.consumers.list().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["away", "here"]);
        assert_eq!(stored(&gateway, "gone"), None);
        assert_eq!(stored(&gateway, "away").unwrap().unused_since_ms, rows[0].1.unused_since_ms);
        assert_ne!(stored(&gateway, "here").unwrap().unused_since_ms, 0, "unused from now on");
    });
}

/// On a full disk, a known name is admitted: after a crash, its stored cursor would merely be old.
/// A new name would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_no_new_name_is_taken_and_changes_are_refused() {
    let gateway = Gateway::start_with(Setup { output: output(9), ..Setup::default() }).await;
    Client::connect(&gateway, "?consumer=known").await.leave(&gateway, "known").await;
    gateway.set_free_bytes(0);
    let told = gateway.refused("/ws?consumer=new").await;
    assert_eq!(told.header("retry-after"), Some("5"));
    assert!(told.error(503, "disk_full").contains("make room"));
    let known = Client::connect(&gateway, "?consumer=known").await;
    gateway
        .change("POST", "/api/relays/add", r#"{"url":"wss://93.184.215.14"}"#)
        .await
        .error(503, "disk_full");
    known.leave(&gateway, "known").await;
    assert_eq!(gateway.change("DELETE", "/api/consumers/known", "").await.status, 200);
    gateway.set_free_bytes(u64::MAX);
    Client::connect(&gateway, "?consumer=new").await;
}

/// When a new name needs room, unused consumers are deleted, without a restart. Connected consumers
/// are kept.
#[tokio::test(flavor = "multi_thread")]
async fn room_is_made_for_a_new_name() {
    let gateway = start(Output { keep_unused: Duration::from_millis(300), ..output(2) }).await;
    Client::connect(&gateway, "?consumer=old").await.leave(&gateway, "old").await;
    Client::connect(&gateway, "?consumer=back").await.leave(&gateway, "back").await;
    let _back = Client::connect(&gateway, "?consumer=back").await;
    sleep(Duration::from_millis(400)).await;
    let _new = Client::connect(&gateway, "?consumer=new").await;
    assert_eq!((stored(&gateway, "old"), shown(&gateway, "old")), (None, None));
    assert!(is_connected(&gateway, "back") && is_connected(&gateway, "new"));
    gateway.refused("/ws?consumer=newer").await.error(503, "too_many_consumers");
}

/// Short connections without acknowledgements must not use up all names.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_never_acknowledged_gives_way_to_a_new_one() {
    let gateway = start(output(4)).await;
    gateway.append_numbered(2).await;
    let mut acked = Client::connect(&gateway, "?consumer=acked&cursor=0").await;
    acked.expect([1]).await;
    acked.ack(1).await;
    acked.leave(&gateway, "acked").await;
    // A name with acknowledgements is kept, even after reconnects without acknowledgements.
    Client::connect(&gateway, "?consumer=acked").await.leave(&gateway, "acked").await;
    let _connected = Client::connect(&gateway, "?consumer=connected").await;
    for junk in ["junk1", "junk2", "junk3", "junk4"] {
        Client::connect(&gateway, &format!("?consumer={junk}")).await.leave(&gateway, junk).await;
        // The times of disconnects have millisecond resolution.
        let left = unix_ms();
        until(|| unix_ms() > left).await;
    }
    let _new = Client::connect(&gateway, "?consumer=new").await;
    let kept: Vec<_> = gateway.consumers.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept.iter().map(|name| &**name).collect::<Vec<_>>(), ["acked", "connected", "junk4", "new"]);
    assert_eq!((stored(&gateway, "junk3"), stored_cursor(&gateway, "acked")), (None, 1));
}

#[test]
fn whether_a_name_has_acknowledged_is_kept() {
    let folder = TempDir::new().unwrap();
    let away = CursorRow { unused_since_ms: unix_ms(), ..CursorRow::at(Cursor::START) };
    prepare(folder.path(), &[("acked", away), ("never", CursorRow { has_acked: false, ..away })]);
    in_a_process(folder.path(), async |gateway| {
        Client::connect(&gateway, "?consumer=never").await.leave(&gateway, "never").await;
        let has_acked = |name| stored(&gateway, name).unwrap().has_acked;
        assert_eq!((has_acked("acked"), has_acked("never")), (true, false));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_listed_and_forgotten() {
    let gateway = start(Output::default()).await;
    assert_eq!(gateway.get("/api/consumers").await.json(), json!({ "head": 0, "consumers": [] }));
    gateway.append_numbered(5).await;
    let mut here = Client::connect(&gateway, "?consumer=here&cursor=0").await;
    here.expect(1..=5).await;
    here.ack(3).await;
    here.is_read().await;
    Client::connect(&gateway, "?consumer=away").await.leave(&gateway, "away").await;
    let mut listed = gateway.get("/api/consumers").await.json();
    let since = listed["consumers"][0]["unused_since"].take().as_u64().unwrap();
    assert!(since.abs_diff(unix_ms()) < 60_000, "{since}");
    let lag_seconds = listed["consumers"][1]["lag_seconds"].take().as_f64().unwrap();
    assert!(lag_seconds > 1e9, "the event is from 1970: {lag_seconds}");
    assert_eq!(
        listed,
        json!({ "head": 5, "consumers": [
            { "name": "away", "cursor": 5, "lag": 0, "lag_seconds": 0.0, "connected": false, "unused_since": Value::Null },
            { "name": "here", "cursor": 3, "lag": 2, "lag_seconds": null, "connected": true, "unused_since": Value::Null },
        ]})
    );
    gateway.change("DELETE", "/api/consumers/here", "").await.error(409, "consumer_connected");
    gateway.change("DELETE", "/api/consumers/nobody", "").await.error(404, "consumer_not_found");
    gateway.call("DELETE", "/api/consumers/away", &["host: x"], "").await.error(403, "admin_token_required");
    let forgotten = gateway.change("DELETE", "/api/consumers/away", "").await.json();
    assert_eq!(forgotten, json!({ "forgotten": true, "name": "away" }));
    assert_eq!((stored(&gateway, "away"), shown(&gateway, "away")), (None, None));
    assert_eq!(gateway.metrics.websocket.consumers.get(), 1);
    // The next client with this name is a new consumer.
    Client::connect(&gateway, "?consumer=away&cursor=1").await.expect(2..=5).await;
    // The other consumer continues.
    here.ack(5).await;
    until(|| stored_cursor(&gateway, "here") == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_events_are_trimmed_is_told_and_can_be_moved() {
    let gateway = start(Output::default()).await;
    let early = Client::connect(&gateway, "?consumer=early&cursor=0").await;
    early.leave(&gateway, "early").await;
    gateway.append_numbered(30).await;
    let mut client = Client::connect(&gateway, "?consumer=a&cursor=0").await;
    client.expect(1..=30).await;
    client.ack(10).await;
    client.leave(&gateway, "a").await;
    gateway.trim_below(21);
    for query in ["consumer=a", "consumer=a&cursor=0", "consumer=a&cursor=25"] {
        let answer = gateway.refused(&format!("/ws?{query}")).await;
        let told = answer.error(410, "cursor_too_old");
        assert!(told.contains("the consumer a is at cursor 10") && told.contains("seek=20"), "{told}");
        assert_eq!(
            (answer.json()["oldest"].as_u64(), answer.json()["newest"].as_u64()),
            (Some(21), Some(30))
        );
    }
    // Trimmed events also count as missed if the consumer has not received any event.
    let told = gateway.refused("/ws?consumer=early&cursor=0").await.error(410, "cursor_too_old");
    assert!(told.contains("at cursor 0"), "{told}");
    gateway.refused("/ws?consumer=a&seek=19").await.error(410, "cursor_too_old");
    gateway.refused("/ws?consumer=a&seek=31").await.error(400, "cursor_ahead");
    assert_eq!(stored_cursor(&gateway, "a"), 10, "it was not moved");
    let mut client = Client::connect(&gateway, "?consumer=a&seek=25").await;
    client.expect(26..=30).await;
    client.leave(&gateway, "a").await;
    let mut client = Client::connect(&gateway, "?consumer=a&seek=0").await;
    client.expect(21..=30).await;
    client.leave(&gateway, "a").await;
    assert_eq!(stored_cursor(&gateway, "a"), 20, "moved to a fixed cursor");
    // A new consumer can also start with a seek.
    Client::connect(&gateway, "?consumer=new&seek=28").await.expect([29, 30]).await;
}

/// A restore can leave a cursor beyond the head; later, new events will have the sequences in
/// between.
#[test]
fn a_cursor_beyond_the_head_is_at_the_head() {
    let folder = TempDir::new().unwrap();
    prepare(folder.path(), &[("a", CursorRow::at(Cursor::from_number(1_000)))]);
    in_a_process(folder.path(), async |gateway| {
        gateway.append_numbered(3).await;
        let mut client = Client::connect(&gateway, "?consumer=a").await;
        assert_eq!(stored_cursor(&gateway, "a"), 3);
        gateway.append_numbered(1).await;
        client.expect([4]).await;
        client.ack(4).await;
        client.leave(&gateway, "a").await;
        assert_eq!(stored_cursor(&gateway, "a"), 4);
    });
}
