//! The gateway as a separate process: the program in the same folder as this one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::Outcome;

const PROGRAM: &str = "moltrade-relayer";

/// The time limit for the gateway to start, to respond and to stop.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of log lines that are kept, to show them after a failure.
const LOG_LINES: usize = 30;
/// The text before the address in the gateway's log.
const SERVED_ON: &str = "events are served on ws://";

/// Returns the path of the gateway's program, in the folder of this program.
fn program() -> Outcome<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(PROGRAM);
    anyhow::ensure!(
        program.is_file(),
        "{} is missing: build the gateway in the same profile (cargo build --release), as `make demo` does",
        program.display()
    );
    Ok(program)
}

/// A running gateway. Dropping it kills the process.
pub struct Gateway {
    /// The address that the gateway listens on.
    pub address: SocketAddr,
    child: Mutex<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

/// How the gateway ended.
pub struct Stopped {
    pub status: ExitStatus,
    pub took: Duration,
}

/// The metrics by name and labels, as in `/metrics`.
pub type Metrics = BTreeMap<String, f64>;

impl Gateway {
    /// Starts the gateway on free ports, with its data in `folder`, and waits until it listens.
    pub async fn start(folder: &Path, relays: &[String]) -> Outcome<Self> {
        let mut command = Command::new(program()?);
        command.current_dir(folder);
        // Removes variables that are set in the user's shell.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("RELAYER_") || name == "RUST_LOG") {
                command.env_remove(name);
            }
        }
        command
            .env("RELAY_URLS", relays.join(","))
            .env("RELAYER_DEDUPLICATION__ROCKSDB_PATH", folder.join("rocksdb"))
            .env("RELAYER_OUTPUT__WEBSOCKET_PORT", "0")
            .env("RELAYER_MONITORING__PROMETHEUS_PORT", "0")
            // The verdict counts everything that broken and hostile relays send, so none of them
            // may be quarantined.
            .env("RELAYER_RELAY__MAX_OFFENCES_PER_HOUR", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("the gateway's process does not start")?;
        let stderr = child.stderr.take().context("the gateway's standard error is missing")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let (found, address) = tokio::sync::oneshot::channel();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || keep(stderr, &lines, found));
        let mut gateway = Self { address: ([127, 0, 0, 1], 0).into(), child: Mutex::new(child), log };
        match timeout(PATIENCE, address).await {
            Ok(Ok(address)) => gateway.address = address,
            _ => anyhow::bail!("the gateway does not start:\n{}", gateway.log()),
        }
        Ok(gateway)
    }

    /// The URL that delivers all events from the first one, in envelopes.
    pub fn events_url(&self) -> String {
        format!("ws://{}/ws?cursor=0", self.address)
    }

    /// Returns the parsed `/metrics`.
    pub async fn metrics(&self) -> Outcome<Metrics> {
        let text = self.get("/metrics").await?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')).filter_map(metric).collect())
    }

    pub async fn status(&self) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.get("/status").await?)?)
    }

    async fn get(&self, path: &str) -> Outcome<String> {
        let asked = async {
            let mut socket = TcpStream::connect(self.address).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
            socket.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(PATIENCE, asked).await.context("the gateway does not respond")??;
        let (head, body) = answer.split_once("\r\n\r\n").context("a response without a body")?;
        anyhow::ensure!(head.starts_with("HTTP/1.1 200 "), "GET {path}: {head}");
        Ok(body.to_owned())
    }

    /// Waits until the process ends by itself, and returns its status.
    pub async fn ended(&self) -> String {
        loop {
            match self.child().try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return status.to_string(),
                Err(error) => return error.to_string(),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops the gateway with SIGTERM, like an operator.
    pub async fn stop(&self) -> Outcome<Stopped> {
        let asked = Instant::now();
        kill_process(Pid::from_child(&self.child()), Signal::TERM)?;
        while asked.elapsed() < PATIENCE {
            let ended = self.child().try_wait()?;
            if let Some(status) = ended {
                return Ok(Stopped { status, took: asked.elapsed() });
            }
            sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the gateway does not stop within {} s:\n{}", PATIENCE.as_secs(), self.log())
    }

    /// The last lines of the gateway's log.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut child = self.child();
        // The process has already ended, unless the demo was interrupted.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Keeps the last lines of the log, and reports the address when a line contains it.
fn keep(log: impl Read, lines: &Mutex<Vec<String>>, found: tokio::sync::oneshot::Sender<SocketAddr>) {
    let mut found = Some(found);
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let address = line.split_once(SERVED_ON).and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        if let Some((address, found)) = address.zip(found.take_if(|_| address.is_some())) {
            let _ = found.send(address);
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.remove(0);
        }
        lines.push(line);
    }
}

fn metric((name, value): (&str, &str)) -> Option<(String, f64)> {
    Some((name.to_owned(), value.parse().ok()?))
}
