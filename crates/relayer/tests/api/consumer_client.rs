//! A client of `/ws` that sends acknowledgements, and access to the stored cursor.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use moltrade_relayer::config::Output;
use moltrade_relayer::event_log::{CursorRow, Cursors, EventLog, StoreOptions};
use moltrade_relayer::telemetry::metrics::label_value;
use relay_sim::Delivery;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use crate::gateway::{Gateway, Setup};

/// A time limit that no test reaches.
pub const LONG: Duration = Duration::from_secs(30);

pub const HOUR_MS: u64 = 3_600_000;

/// A client that can send messages.
pub struct Client(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub async fn connect(gateway: &Gateway, query: &str) -> Self {
        let url = format!("ws://{}/ws{query}", gateway.address);
        let builder = ClientBuilder::new().uri(&url).unwrap();
        Self(timeout(LONG, builder.connect()).await.unwrap().unwrap().0)
    }

    /// The next event's sequence; after a close, the code and reason.
    pub async fn next(&mut self) -> Result<u64, String> {
        loop {
            let message = timeout(LONG, self.0.next()).await.expect("something comes");
            let Some(Ok(message)) = message else { return Err("it broke".to_owned()) };
            if let Some((code, reason)) = message.as_close() {
                return Err(format!("{} {reason}", u16::from(code)));
            }
            if message.is_text() {
                let delivery = Delivery::parse(&message.into_payload().into()).unwrap();
                return Ok(delivery.seq.expect("an envelope"));
            }
        }
    }

    pub async fn expect(&mut self, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            assert_eq!(self.next().await, Ok(seq));
        }
    }

    pub async fn ack(&mut self, seq: u64) {
        self.say(Message::text(format!("{{\"ack\":{seq}}}"))).await;
    }

    pub async fn say(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// Waits until the gateway has read all messages of the client.
    pub async fn is_read(&mut self) {
        self.say(Message::ping("heard?")).await;
        while !timeout(LONG, self.0.next()).await.unwrap().unwrap().unwrap().is_pong() {}
    }

    /// Skips events until the close, and returns the close code and reason.
    pub async fn end(&mut self) -> String {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    /// Disconnects, and waits until the gateway has noticed the disconnect.
    pub async fn leave(mut self, gateway: &Gateway, name: &str) {
        self.0.close().await.unwrap();
        while timeout(LONG, self.0.next()).await.unwrap().is_some_and(|message| message.is_ok()) {}
        until(|| !is_connected(gateway, name)).await;
    }
}

pub async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, waiting).await.expect("it becomes so");
}

pub fn shown(gateway: &Gateway, name: &str) -> Option<CursorRow> {
    let consumers = gateway.consumers.list();
    consumers.into_iter().find(|(found, _)| &**found == name).map(|(_, row)| row)
}

pub fn is_connected(gateway: &Gateway, name: &str) -> bool {
    shown(gateway, name).is_some_and(|row| row.unused_since_ms == 0)
}

/// The stored row of a consumer.
pub fn stored(gateway: &Gateway, name: &str) -> Option<CursorRow> {
    let rows = gateway.log.cursors(Cursors::Consumers).unwrap();
    rows.into_iter().find(|(found, _)| found == name).map(|(_, row)| row)
}

pub fn stored_cursor(gateway: &Gateway, name: &str) -> u64 {
    stored(gateway, name).expect("it is known").cursor.get()
}

pub fn closed(gateway: &Gateway, reason: &'static str) -> u64 {
    gateway.metrics.websocket.closed[label_value(reason).expect("a reason")].get()
}

pub fn output(max_consumers: usize) -> Output {
    Output { max_consumers: NonZeroUsize::new(max_consumers).unwrap(), ..Output::default() }
}

pub async fn start(output: Output) -> Gateway {
    Gateway::start_with(Setup { output, supervised: false, ..Setup::default() }).await
}

/// Runs a gateway in a separate runtime, and then ends all tasks of this runtime.
pub fn in_a_process<T>(folder: &Path, body: impl AsyncFnOnce(Gateway) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (folder, output) = (Some(folder.to_owned()), Output::default());
    let setup = Setup { folder, output, supervised: false, ..Setup::default() };
    let result = runtime.block_on(async { body(Gateway::start_with(setup).await).await });
    runtime.shutdown_timeout(LONG);
    result
}

/// Writes cursor rows before the gateway starts.
pub fn prepare(folder: &Path, rows: &[(&str, CursorRow)]) {
    let log =
        EventLog::open(folder, StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20).unwrap();
    for (name, row) in rows {
        log.set_cursor(Cursors::Consumers, name, *row).unwrap();
    }
}
