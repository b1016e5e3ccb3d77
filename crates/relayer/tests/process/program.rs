//! The program, with a folder and a port that outlive the process.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relay_sim::{Consumer, Sim};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The time limit of every wait, reached only when something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder, port and settings of a gateway. A site survives crashes of its gateway.
pub struct Site {
    folder: TempDir,
    address: SocketAddr,
    settings: HashMap<String, String>,
}

impl Site {
    pub fn on(sim: &Sim) -> Self {
        let urls = sim.urls().join(",");
        Self::empty().set("RELAY_URLS", urls)
    }

    /// A configuration without relays.
    pub fn empty() -> Self {
        let folder = TempDir::new().expect("a folder");
        // The listener only finds a free port. The system does not reuse the port soon.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let site = Self { folder, address, settings: HashMap::new() };
        let log = site.log_path().display().to_string();
        site.set("RELAY_URLS", "")
            .set("RELAYER_DEDUPLICATION__ROCKSDB_PATH", log)
            .set("RELAYER_OUTPUT__WEBSOCKET_PORT", address.port().to_string())
            .set("RELAYER_MONITORING__PROMETHEUS_PORT", "0")
            .set("RELAYER_STORAGE__MIN_FREE_BYTES", "0")
            .set("RELAYER_RELAY__MAX_OFFENCES_PER_HOUR", "0")
    }

    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Removes a setting from the environment.
    pub fn unset(mut self, key: &str) -> Self {
        self.settings.remove(key);
        self
    }

    pub fn log_path(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moltrade-relayer"));
        // The program does not inherit the caller's environment.
        command.env_clear().envs(&self.settings).current_dir(self.folder.path());
        command
    }

    /// Starts the program and waits until it is healthy.
    pub async fn start(&self) -> Running {
        let running = self.start_with(&[]).await;
        running.until_healthy().await;
        running
    }

    pub async fn start_with(&self, environment: &[(&str, String)]) -> Running {
        let mut command = self.command();
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        self.start_captured(command)
    }

    /// Like [`start`](Self::start), with a limit on open files.
    pub async fn start_with_files(&self, files: u64) -> Running {
        let program = self.command();
        let mut command = Command::new("sh");
        let script = format!("ulimit -S -n 256; ulimit -H -n {files}; exec \"$0\"");
        command.arg("-c").arg(script).arg(program.get_program());
        command.env_clear().envs(&self.settings).current_dir(self.folder.path());
        self.start_captured(command)
    }

    fn start_captured(&self, command: Command) -> Running {
        let mut running = self.spawn(command, Stdio::piped());
        let (mut stderr, heard) = (running.child.stderr.take().expect("piped"), Arc::clone(&running.said));
        running.listener = Some(std::thread::spawn(move || {
            for line in BufReader::new(&mut stderr).lines() {
                let line = line.expect("UTF-8");
                *heard.lock().expect("whole") += &format!("{line}\n");
            }
        }));
        running
    }

    /// Starts the program with the given standard error, which is then not captured.
    pub async fn start_with_stderr(&self, environment: &[(&str, String)], stderr: Stdio) -> Running {
        let mut command = self.command();
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        self.spawn(command, stderr)
    }

    fn spawn(&self, mut command: Command, stderr: Stdio) -> Running {
        let child = command.stderr(stderr).stdout(Stdio::null()).spawn().expect("it starts");
        Running { child, address: self.address, said: Arc::default(), listener: None }
    }

    /// Runs the program to the end and captures the output.
    pub fn run(&self) -> Output {
        self.run_with(&[])
    }

    /// Like [`run`](Self::run), with arguments.
    pub fn run_with(&self, arguments: &[&str]) -> Output {
        self.run_in(&[], arguments)
    }

    /// Like [`run_with`](Self::run_with), with more environment variables.
    pub fn run_in(&self, environment: &[(&str, String)], arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        command.args(arguments).output().expect("it runs")
    }

    pub fn ws(&self, query: &str) -> String {
        format!("ws://{}/ws{query}", self.address)
    }

    pub async fn consumer(&self, query: &str) -> Consumer {
        Consumer::connect_within(&self.ws(query), PATIENCE).await.expect("connects").reconnect(PATIENCE)
    }
}

/// A running program. Dropping this value kills the program.
pub struct Running {
    child: Child,
    address: SocketAddr,
    /// The captured standard error, and the thread that reads it.
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

impl Running {
    pub async fn until_healthy(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/health").await.is_none_or(|answer| !answer.contains("\"healthy\"")) {
            assert!(Instant::now() < deadline, "the gateway did not become healthy");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The response to a GET: head and body.
    pub async fn get(&self, path: &str) -> Option<String> {
        get(self.address, path).await
    }

    /// The JSON body of the response to a GET.
    pub async fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path).await.expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer}"))
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").await.expect("an answer");
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect(name).parse().expect("a number")
    }

    /// Waits until a condition holds.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        self.until_within(PATIENCE, what, is_so).await;
    }

    pub async fn until_within(&self, patience: Duration, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        while !is_so(self).await {
            assert!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The program's address space, in bytes.
    pub fn virtual_bytes(&self) -> u64 {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.id())).expect("it runs");
        let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
        pages * rustix::param::page_size() as u64
    }

    /// Kills the program by SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it ends");
    }

    /// Waits until the process ends on its own.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// The program's standard error, after the process has ended.
    pub fn stderr(mut self) -> String {
        self.listener.take().expect("it listens").join().expect("it heard all");
        self.said.lock().expect("whole").clone()
    }

    /// Waits until standard error contains this text.
    pub async fn until_stderr_contains(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.lock().expect("whole").contains(text) {
            assert!(Instant::now() < deadline, "{}", self.said.lock().expect("whole"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The response to a GET: head and body.
pub async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    String::from_utf8(answer).ok()
}
