//! A log, its writer and its sinks, which a test can stop and restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moltrade_relayer::config::{Config, Framing, Output, TcpSink};

use moltrade_relayer::event_log::Cursors;
use moltrade_relayer::event_log::free_space::FreeSpace;
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::sink::SinkMetrics;
use moltrade_relayer::sink::{Sink, Workers};
use tempfile::TempDir;

use crate::bench::{Options, Running, events};
use crate::receiver::{Connection, Receiver};

pub use relay_sim::wait::within;

/// The maximum duration of a stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    relay_sim::wait::until(what, holds).await;
}

pub struct Gateway {
    pub running: Running,
    pub metrics: Arc<SinkMetrics>,
    workers: Workers,
}

impl Gateway {
    pub fn start(folder: &TempDir, sinks: &[TcpSink]) -> Self {
        Self::start_with(folder, &Output { tcp: sinks.to_vec(), ..Output::default() })
    }

    pub fn start_with(folder: &TempDir, output: &Output) -> Self {
        Self::start_at(folder, output, Resolver::system())
    }

    /// Starts a gateway that resolves names with the test's resolver.
    pub fn start_at(folder: &TempDir, output: &Output, resolver: Resolver) -> Self {
        Self::start_in(Running::open(folder.path()), output, resolver)
    }

    /// Starts a gateway that needs 1,000 free bytes, on a disk whose free bytes the test sets.
    pub fn start_on(folder: &TempDir, output: &Output, free: Arc<AtomicU64>) -> Self {
        let free_space = FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)));
        let options = Options { free_space, ..Options::default() };
        Self::start_in(Running::open_with(folder.path(), options), output, Resolver::system())
    }

    fn start_in(running: Running, output: &Output, resolver: Resolver) -> Self {
        let metrics = Arc::new(SinkMetrics::default());
        let workers = Workers::start(output, &running.log, resolver, &metrics).unwrap();
        Self { running, metrics, workers }
    }

    /// Appends events whose `created_at` equals their sequence.
    pub fn append(&self, seqs: impl IntoIterator<Item = u64>) {
        self.running.append(events(seqs));
    }

    pub fn sinks(&self) -> Vec<Arc<Sink>> {
        self.workers.list()
    }

    pub fn sink(&self, index: usize) -> Arc<Sink> {
        self.workers.list().swap_remove(index)
    }

    /// The stored cursor.
    pub fn saved(&self, name: &str) -> u64 {
        let rows = self.running.log.cursors(Cursors::Sinks).unwrap();
        rows.iter().find(|(found, _)| found == name).expect("a cursor").1.cursor.get()
    }

    pub async fn until_delivered(&self, index: usize, cursor: u64) {
        let what = format!("cursor {cursor} of sink {index}");
        until(&what, || self.sink(index).cursor().get() == cursor).await;
    }

    /// Waits until a sink is disconnected, and returns the reason.
    pub async fn until_away(&self, index: usize) -> String {
        until("a reason", || self.sink(index).last_error().is_some()).await;
        self.sink(index).last_error().expect("a reason")
    }

    /// Stops gracefully.
    pub async fn stop(self) {
        self.stop_within(PATIENCE).await;
    }

    /// Stops gracefully, with a time limit for the sinks.
    pub async fn stop_within(self, time: Duration) {
        self.running.log.close();
        self.workers.drain(time).await;
        drop(self.workers);
        closed(self.running).await;
    }

    /// Closes the receiver's connection, so that no more acknowledgements come, and stops
    /// gracefully.
    pub async fn stop_with(self, session: Connection) {
        drop(session);
        self.stop().await;
    }

    /// Ends as in a crash: nothing more is stored.
    pub async fn crash(self) {
        drop(self.workers);
        closed(self.running).await;
    }
}

/// Waits until the database has no users: aborted tasks and reads end a little later.
async fn closed(running: Running) {
    let log = Arc::downgrade(&running.log);
    drop(running);
    until("the last user of the log", || log.strong_count() == 0).await;
}

/// A gateway whose only sink has acknowledged ten events, and this sink's connection.
pub async fn ten_delivered(folder: &TempDir, receiver: &Receiver) -> (Gateway, Connection) {
    let gateway = Gateway::start(folder, &[sink("a", receiver, "ack = true")]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=10);
    session.seqs(10).await;
    session.ack(10).await;
    gateway.until_delivered(0, 10).await;
    (gateway, session)
}

/// The configuration of a sink with these options.
pub fn sink(name: &str, receiver: &Receiver, options: &str) -> TcpSink {
    let text = format!("[[output.tcp]]\nname = \"{name}\"\naddress = \"{}\"\n{options}", receiver.address);
    let loaded = Config::parse(Some((std::path::Path::new("config.toml"), &text)), []);
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.output.tcp_sinks().remove(0)
}

pub fn framing_option(framing: Framing) -> String {
    format!("framing = \"{framing}\"\n")
}
