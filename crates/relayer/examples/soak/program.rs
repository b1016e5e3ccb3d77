//! The built program, as a child process that is killed and restarted.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::Outcome;

/// The time limit for the program to start, to respond and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Any key works: the simulated relays accept every client that proves a key.
const SECRET_KEY: &str = "00000000000000000000000000000000000000000000000000000000000050a4";

/// How to start the program, and its current process. Dropping this value kills the process.
pub struct Program {
    /// The main port.
    pub address: SocketAddr,
    /// The Prometheus port.
    pub metrics: SocketAddr,
    path: PathBuf,
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// Starts the program with the given folders for its data and its log, and waits until it
    /// responds.
    pub async fn start(
        path: PathBuf,
        (data, log): (&Path, &Path),
        relays: &[String],
        environment: &[(&str, &Path)],
    ) -> Outcome<Self> {
        let (address, metrics) = (free_address()?, free_address()?);
        let mut settings: Vec<(String, String)> = [
            ("RELAY_URLS", relays.join(",")),
            ("RELAYER_DEDUPLICATION__ROCKSDB_PATH", data.join("rocksdb").display().to_string()),
            ("RELAYER_OUTPUT__WEBSOCKET_PORT", address.port().to_string()),
            ("RELAYER_MONITORING__PROMETHEUS_PORT", metrics.port().to_string()),
            ("RELAYER_RELAY__HEALTH_CHECK_INTERVAL", "5".to_owned()),
            // Without a key, the program would wait for hours before it redials relays that require
            // a key.
            ("RELAYER_RELAY__AUTHENTICATE", "true".to_owned()),
            ("RELAYER_NOSTR__SECRET_KEY", SECRET_KEY.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let environment =
            environment.iter().map(|(name, path)| ((*name).to_owned(), path.display().to_string()));
        settings.extend(environment);
        let log = log.join("gateway.log");
        let mut program = Self { address, metrics, path, settings, log, child: None };
        program.go_on().await?;
        Ok(program)
    }

    /// Starts the process again.
    pub async fn go_on(&mut self) -> Outcome<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.path);
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {}", self.path.display()))?);
        let answers = async {
            while self.status().await.is_err() {
                self.check_runs()?;
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        timeout(PATIENCE, answers).await.context("the gateway does not respond")?
    }

    /// Fails if the process has ended on its own.
    fn check_runs(&self) -> Outcome<()> {
        let ended = self.resident_bytes().is_none();
        anyhow::ensure!(!ended, "the gateway has exited; its log is {}", self.log.display());
        Ok(())
    }

    /// Kills the process like `kill -9`.
    pub fn kill(&mut self) -> Outcome<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops the process cleanly.
    pub async fn stop(&mut self) -> Outcome<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        let ends = async {
            loop {
                if let Some(status) = child.try_wait()? {
                    anyhow::ensure!(status.success(), "SIGTERM: the gateway ended with {status}");
                    return Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = timeout(PATIENCE, ends).await.context("the gateway does not stop")?;
        if ended.is_err() {
            child.kill()?;
        }
        ended
    }

    /// `VmRSS` of the process; `None` if it has ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        let id = self.child.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    }

    /// The response to `/status`.
    pub async fn status(&self) -> Outcome<Value> {
        let body = get(self.address, "/status").await?;
        Ok(serde_json::from_str(&body)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill the gateway: {error}");
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> Outcome<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let (head, body) = ask(address, &request).await?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200 "), "GET {path}: {head}");
    Ok(body)
}

/// Sends a request, and returns the response's head and body.
pub async fn ask(address: SocketAddr, request: &str) -> Outcome<(String, String)> {
    let asked = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(PATIENCE, asked).await.context("the gateway does not respond")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("a response without a body")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// A port that is free now. The system assigns other ports before it assigns this one again.
fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
