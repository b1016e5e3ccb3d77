//! Sinks and named consumers: paused, resumed, moved and forgotten, and dead letters.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use futures_util::{SinkExt, StreamExt};
use moltrade_relayer::testing::TestGateway;
use relay_sim::wait::{until, within};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};
use wire::Signer;

use crate::browser::drive;
use crate::gateway::{HOSTILE, TOKEN, append, event, start};

const EVENTS: usize = 6;

/// Starts an HTTP receiver that rejects every event with a hostile reason, until something is
/// posted to /accept. Returns its URL.
async fn receiver() -> String {
    let accepts = Arc::new(AtomicBool::new(false));
    let reply = {
        let accepts = Arc::clone(&accepts);
        move || {
            let is_accepted = accepts.load(Ordering::Relaxed);
            let answer =
                if is_accepted { (StatusCode::OK, "") } else { (StatusCode::UNPROCESSABLE_ENTITY, HOSTILE) };
            std::future::ready(answer)
        }
    };
    let accept = move || {
        accepts.store(true, Ordering::Relaxed);
        std::future::ready(StatusCode::OK)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/events", post(reply)).route("/accept", post(accept));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects a named consumer that has acknowledged the events up to a sequence.
async fn consumer(gateway: &TestGateway, name: &str, acknowledged: u64) -> Client {
    let url = format!("ws://{}/ws?consumer={name}&cursor=0", gateway.address);
    let (mut client, _) = ClientBuilder::new().uri(&url).unwrap().connect().await.unwrap();
    // Only events that were received may be acknowledged.
    let mut received = 0;
    while received < acknowledged {
        received += u64::from(within("an event", client.next()).await.unwrap().unwrap().is_text());
    }
    client.send(Message::text(format!("{{\"ack\":{acknowledged}}}"))).await.unwrap();
    let cursor = || {
        gateway.consumers.list().into_iter().find(|(key, _)| &**key == name).map(|(_, row)| row.cursor.get())
    };
    until("the acknowledgement", || cursor() == Some(acknowledged)).await;
    client
}

/// Reads messages of the gateway, which also answers its pings.
async fn read(mut client: Client) {
    while client.next().await.is_some_and(|message| message.is_ok()) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_and_consumers_are_shown_and_controlled() {
    let (folder, receiver) = (TempDir::new().unwrap(), receiver().await);
    let text = format!(
        "[[output.rest]]\nname = 'analytics'\naddress = '{receiver}/events'\nstart = 'oldest'\n\
         [[output.tcp]]\nname = 'nowhere'\naddress = '127.0.0.1:1'\nstart = 'oldest'"
    );
    let gateway = start(&folder, &text, |_| {}).await;
    let key = Signer::from_seed(7);
    append(&gateway, (0..EVENTS).map(|_| event(&key, 1, HOSTILE)).collect()).await;
    let analytics = gateway.sinks.list().into_iter().find(|sink| &*sink.name == "analytics").unwrap();
    until("all events are rejected", || analytics.dead_letters.len() == EVENTS).await;
    let connected = tokio::spawn(read(consumer(&gateway, "indexer", 4).await));
    drop(consumer(&gateway, "old", 1).await);
    until("the second consumer has left", || {
        gateway.consumers.list().iter().any(|(name, row)| &**name == "old" && row.unused_since_ms != 0)
    })
    .await;
    drive("sinks", gateway.address, json!({ "token": TOKEN, "receiver": receiver, "hostile": HOSTILE }))
        .await;
    connected.abort();
    assert_eq!(analytics.dead_letters.len(), 0, "letters are replayed or dropped");
}
