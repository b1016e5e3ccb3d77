//! Healthy and faulty receivers for every transport, written from the documentation. Each checks
//! that events arrive in order and without gaps.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::program::{PATIENCE, Site};

#[derive(Debug, Default)]
pub struct Got {
    pub highest: u64,
    pub repeats: u64,
    /// The number of connections; for HTTP, of requests. WebSockets are not counted.
    pub connections: u64,
    pub finished: Option<Instant>,
}

/// A receiver whose progress can be queried.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub name: &'static str,
    got: Arc<Mutex<Got>>,
    up_to: u64,
}

impl Receiver {
    fn new(name: &'static str, up_to: u64) -> Self {
        Self { name, got: Arc::default(), up_to }
    }

    /// Accepts the next sequence or a repeat. Panics on a gap.
    fn take(&self, seq: u64) {
        let mut got = self.got.lock().unwrap();
        assert!(seq <= got.highest + 1, "{}: {seq} after {}: something is missing", self.name, got.highest);
        got.repeats += u64::from(seq <= got.highest);
        got.highest = got.highest.max(seq);
        if got.highest == self.up_to {
            got.finished.get_or_insert_with(Instant::now);
        }
    }

    fn connected(&self) {
        self.got.lock().unwrap().connections += 1;
    }

    pub fn is_finished(&self) -> bool {
        self.got.lock().unwrap().finished.is_some()
    }

    pub fn highest(&self) -> u64 {
        self.got.lock().unwrap().highest
    }

    /// Waits until the receiver has all events.
    pub async fn finished(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.is_finished() {
            assert!(Instant::now() < deadline, "{} has {:?}", self.name, self.got.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A summary, with the time between `since` and the last event.
    pub fn report(&self, since: Instant) -> String {
        let got = self.got.lock().unwrap();
        let after = got.finished.map(|finished| finished.saturating_duration_since(since).as_secs_f64());
        let when = after.map_or("not yet".to_owned(), |after| format!("{after:.1} s"));
        let Got { highest, repeats, connections, .. } = &*got;
        format!("{:<8} {when:>8}: {highest} events, {repeats} repeats, {connections} connections", self.name)
    }
}

/// The fault of a receiver.
#[derive(Debug, Clone)]
pub enum Behavior {
    Steady,
    /// Reads nothing until released.
    Frozen(watch::Receiver<bool>),
    /// Accepts one event a second until released.
    Slow(watch::Receiver<bool>),
    /// Dies this many times, each time with unacknowledged events.
    Dies(u64),
}

/// A client of `/ws` that resumes with its cursor.
pub async fn websocket(name: &'static str, site: &Site, up_to: u64) -> Receiver {
    let receiver = Receiver::new(name, up_to);
    let mut consumer = site.consumer("?cursor=0").await;
    let taking = receiver.clone();
    tokio::spawn(async move {
        while !taking.is_finished() {
            let delivery = consumer.next().await.expect("it comes back");
            taking.take(delivery.seq.expect("an envelope"));
        }
    });
    receiver
}

/// A TCP sink that acknowledges events, and its configuration.
pub async fn tcp(name: &'static str, up_to: u64, behavior: Behavior) -> (Receiver, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let sink = format!(
        "{{ name = '{name}', address = '{address}', framing = 'ndjson', ack = true, start = 'oldest' }}"
    );
    let receiver = Receiver::new(name, up_to);
    tokio::spawn(serve(listener, receiver.clone(), behavior));
    (receiver, sink)
}

/// Serves until the test ends, even after the last event: if the gateway crashes between delivery
/// and the cursor write, it delivers events again.
async fn serve(listener: TcpListener, receiver: Receiver, mut behavior: Behavior) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        receiver.connected();
        connection(stream, &receiver, &mut behavior).await;
    }
}

async fn connection(stream: TcpStream, receiver: &Receiver, behavior: &mut Behavior) {
    let (input, mut output) = stream.into_split();
    let (mut lines, mut previous, mut taken) = (BufReader::new(input).lines(), None, 0_u64);
    loop {
        match behavior {
            Behavior::Frozen(released) => drop(released.wait_for(|released| *released).await),
            Behavior::Slow(released) => {
                let released = released.wait_for(|released| *released);
                let _ = tokio::time::timeout(Duration::from_secs(1), released).await;
            }
            Behavior::Dies(lives @ 1..) if taken >= 150 => {
                *lives -= 1;
                return;
            }
            _ => {}
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        // A killed gateway may leave an incomplete last line.
        let Ok(envelope) = serde_json::from_str::<Value>(&line) else { return };
        let seq = envelope["seq"].as_u64().expect("a sequence");
        assert!(previous.is_none_or(|previous| seq == previous + 1), "out of order");
        previous = Some(seq);
        receiver.take(seq);
        taken += 1;
        // A receiver does not acknowledge the last events before it dies.
        if !matches!(behavior, Behavior::Dies(1..) if taken > 100) {
            let _ = output.write_all(format!("{{\"ack\":{seq}}}\n").as_bytes()).await;
        }
    }
}

/// A TCP sink that gets bare events and does not acknowledge them. Returns the receiver, the
/// configuration, and the received ids, which the test compares with the log.
pub async fn plain(name: &'static str, up_to: u64) -> (Receiver, String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let sink = format!("{{ name = '{name}', address = '{address}', framing = 'ndjson', start = 'oldest' }}");
    let (receiver, ids) = (Receiver::new(name, up_to), Arc::<Mutex<Vec<String>>>::default());
    let (taking, kept) = (receiver.clone(), Arc::clone(&ids));
    tokio::spawn(async move {
        let mut known = HashSet::new();
        // Serves until the test ends, like `serve`.
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            taking.connected();
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { break };
                let id = event["id"].as_str().expect("an id").to_owned();
                if known.insert(id.clone()) {
                    kept.lock().unwrap().push(id);
                    taking.take(known.len() as u64);
                } else {
                    taking.got.lock().unwrap().repeats += 1;
                }
            }
        }
    });
    (receiver, sink, ids)
}

/// An HTTP sink that gets batches and responds with 500 to every n-th request.
pub async fn http(name: &'static str, up_to: u64, fails_every: Option<u64>) -> (Receiver, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let sink = format!("{{ name = '{name}', address = 'http://{address}/', batch = 100, start = 'oldest' }}");
    let receiver = Receiver::new(name, up_to);
    let taking = receiver.clone();
    let take = move |body: Bytes| async move {
        taking.connected();
        let requests = taking.got.lock().unwrap().connections;
        if fails_every.is_some_and(|every| requests.is_multiple_of(every)) {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        let envelopes: Vec<Value> = serde_json::from_slice(&body).expect("an array");
        for envelope in envelopes {
            taking.take(envelope["seq"].as_u64().expect("a sequence"));
        }
        StatusCode::NO_CONTENT
    };
    let router = Router::new().route("/", post(take)).layer(axum::extract::DefaultBodyLimit::disable());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (receiver, sink)
}

/// The ids of all logged events in order, from the API.
pub async fn ids_of_the_log(running: &crate::program::Running) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), 0);
    loop {
        let page = running.json(&format!("/api/events?cursor={cursor}&limit=1000")).await;
        let events = page["events"].as_array().expect("events").clone();
        ids.extend(events.iter().map(|envelope| envelope["event"]["id"].as_str().expect("an id").to_owned()));
        cursor = page["next_cursor"].as_u64().expect("a cursor");
        if page["head"] == cursor {
            return ids;
        }
    }
}

/// A time limit that no test with this number of events reaches.
pub fn patience(events: u64) -> Duration {
    PATIENCE + Duration::from_millis(20 * events)
}
