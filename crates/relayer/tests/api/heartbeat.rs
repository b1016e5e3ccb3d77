//! Heartbeats: a client whose selection matches nothing keeps a cursor that retention does not
//! overtake.

use futures_util::StreamExt;
use moltrade_relayer::clock::unix_ms;
use moltrade_relayer::config::Output;
use relay_sim::wait::within;
use serde_json::Value;

use crate::consumer_client::{Client, start, stored_cursor, until};
use crate::event_client::EventClient;
use crate::gateway::Gateway;

/// Events of kind 1, of which the clients select none.
const EVENTS: u64 = 100;

/// The next text message.
async fn text(client: &mut Client) -> Value {
    loop {
        let message = within("a message", client.0.next()).await.expect("it is open").expect("it is open");
        if let Some(text) = message.as_text() {
            return serde_json::from_str(text).expect("JSON");
        }
    }
}

/// Checks a heartbeat, and returns its sequence.
#[track_caller]
fn seq(message: &Value) -> u64 {
    let time = message["heartbeat"]["time"].as_u64().unwrap_or_else(|| panic!("no heartbeat: {message}"));
    assert!(time.abs_diff(unix_ms()) < 60_000, "{message}");
    assert_eq!((message.as_object().unwrap().len(), message["heartbeat"].as_object().unwrap().len()), (1, 2));
    message["heartbeat"]["seq"].as_u64().expect("a sequence")
}

/// Trims everything, and then adds an event that the clients select.
async fn move_on(gateway: &Gateway) {
    gateway.trim_below(EVENTS + 1);
    let none: [[&str; 2]; 0] = [];
    gateway.append(vec![gateway.signer.sign(0, 7, &none, "")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_of_a_selection_that_matches_nothing_stays_valid() {
    let gateway = start(Output::default()).await;
    let path = |query: &str| format!("{query}&kinds=7&heartbeat=5");
    let anonymous = path("?cursor=0");
    let named = path("?consumer=quiet&cursor=0");
    let mut client = Client::connect(&gateway, &anonymous).await;
    let mut consumer = Client::connect(&gateway, &named).await;
    let mut without = Client::connect(&gateway, "?consumer=deaf&cursor=0&kinds=7").await;
    let mut stream = EventClient::connect(&gateway, &anonymous, 0).await;
    gateway.append_numbered(EVENTS).await;

    assert_eq!(seq(&text(&mut client).await), EVENTS);
    assert_eq!(seq(&text(&mut consumer).await), EVENTS);
    consumer.ack(EVENTS).await;
    let heartbeat = stream.block().await.unwrap();
    assert_eq!((heartbeat.name.as_deref(), heartbeat.id), (Some("heartbeat"), Some(EVENTS)));
    assert_eq!(seq(&heartbeat.json()), EVENTS);
    until(|| stored_cursor(&gateway, "quiet") == EVENTS).await;

    drop((client, stream));
    consumer.leave(&gateway, "quiet").await;
    without.is_read().await;
    without.leave(&gateway, "deaf").await;
    move_on(&gateway).await;
    let mut client = Client::connect(&gateway, &path(&format!("?cursor={EVENTS}"))).await;
    client.expect([EVENTS + 1]).await;
    Client::connect(&gateway, &named).await.expect([EVENTS + 1]).await;
    EventClient::reconnect(&gateway, &anonymous, EVENTS).await.expect([EVENTS + 1]).await;
    // This is what heartbeats prevent.
    gateway.refused("/ws?cursor=1&kinds=7").await.error(410, "cursor_too_old");
    gateway.refused("/ws?consumer=deaf&kinds=7").await.error(410, "cursor_too_old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_may_acknowledge_a_heartbeat_and_nothing_beyond_it() {
    let gateway = start(Output::default()).await;
    let mut consumer = Client::connect(&gateway, "?consumer=a&cursor=0&kinds=7&heartbeat=5").await;
    gateway.append_numbered(EVENTS).await;
    assert_eq!(seq(&text(&mut consumer).await), EVENTS);
    gateway.append_numbered(1).await;
    consumer.ack(EVENTS).await;
    consumer.is_read().await;
    consumer.ack(EVENTS + 1).await;
    let end = consumer.end().await;
    assert_eq!(
        end,
        format!("1008 bad ack: {} was not sent to you on this connection; the last is {EVENTS}", EVENTS + 1)
    );
    assert_eq!(stored_cursor(&gateway, "a"), EVENTS);
}
