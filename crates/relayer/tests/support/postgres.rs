//! PostgreSQL for tests: a temporary server, or a fresh database in the server that
//! `TEST_DATABASE_URL` names.

#![allow(dead_code, reason = "each test binary that includes this uses another part of it")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use url::Url;

/// The password of the user `relayer`. No message may contain it.
pub const PASSWORD: &str = "hunter2-not-shown";

const INSTALL: &str = "PostgreSQL is not installed, and these tests need its server: `apt-get install postgresql` on \
                       Debian and Ubuntu, `brew install postgresql` on macOS. Or let TEST_DATABASE_URL name a server \
                       on which databases may be made.";

#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    binaries: PathBuf,
    /// The user and group that the server runs as, because it refuses to run as root.
    user: Option<(u32, u32)>,
    port: u16,
    server: Mutex<Option<Child>>,
}

impl Cluster {
    /// Starts a server for one test, which may stop it.
    pub fn start_one() -> Self {
        let binaries = binaries().unwrap_or_else(|| panic!("{INSTALL}"));
        let folder = TempDir::with_prefix("relayer-postgres-").expect("a folder");
        let user =
            rustix::process::geteuid().is_root().then(|| ["postgres", "nobody"].into_iter().find_map(ids));
        let user = user.map(|user| user.expect("a user postgres or nobody"));
        let cluster = Self { folder, binaries, user, port: free_port(), server: Mutex::new(None) };
        cluster.init();
        cluster.start();
        cluster
    }

    /// The server that all tests of this process share.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().expect("no test panicked in here");
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start_one());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    pub fn dsn(&self, database: &str) -> String {
        format!("postgres://relayer:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&self) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.path("data")).arg("-p").arg(self.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // The data need not survive a crash of the machine.
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "shared_buffers=16MB",
            "autovacuum=off",
            "jit=off",
            "log_min_messages=fatal",
        ] {
            command.arg("-c").arg(setting);
        }
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let mut server = command.spawn().expect("postgres starts");
        let since = Instant::now();
        while !fs::read_to_string(self.path("data/postmaster.pid")).is_ok_and(|state| state.contains("ready"))
        {
            let has_ended = server.try_wait().expect("a child").is_some();
            if has_ended || since.elapsed() > Duration::from_secs(30) {
                panic!(
                    "postgres does not start: {}",
                    fs::read_to_string(self.path("log")).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
        *self.server.lock().expect("not poisoned") = Some(server);
    }

    /// Starts the server as a standby without a primary. A standby accepts no writes until it is
    /// promoted.
    pub fn start_as_standby(&self) {
        fs::write(self.path("data/standby.signal"), "").expect("written");
        self.start();
    }

    /// Stops the server gracefully; clients are notified.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// Freezes the server with SIGSTOP: connections stay open, and the server does not respond.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes a frozen server.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn init(&self) {
        if let Some((user, group)) = self.user {
            chown(self.folder.path(), Some(user), Some(group)).expect("a folder of its own");
        }
        let password = self.path("password");
        fs::write(&password, PASSWORD).expect("written");
        let mut command = self.command("initdb");
        command.arg("-D").arg(self.path("data")).arg("--pwfile").arg(&password);
        command.args(["-U", "relayer", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        let done = command.output().expect("initdb starts");
        assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signals the parent process first, because it starts the other processes.
    fn signal(&self, signal: Signal) {
        if let Some(server) = &*self.server.lock().expect("not poisoned") {
            let server = Pid::from_child(server);
            kill_process(server, signal).expect("a signal");
            for child in children(server) {
                kill_process(child, signal).ok();
            }
        }
    }

    fn end(&self, signal: Signal) {
        let Some(mut server) = self.server.lock().expect("not poisoned").take() else { return };
        let pid = Pid::from_child(&server);
        kill_process(pid, signal).ok();
        let since = Instant::now();
        while server.try_wait().expect("a child").is_none() {
            if since.elapsed() > Duration::from_secs(10) {
                for child in children(pid) {
                    kill_process(child, Signal::KILL).ok();
                }
                server.kill().ok();
                server.wait().ok();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.thaw();
        // An immediate shutdown, which also ends the child processes.
        self.end(Signal::QUIT);
    }
}

/// A fresh database. Dropping this value drops the database.
#[derive(Debug)]
pub struct Database {
    pub dsn: String,
    cluster: Option<Arc<Cluster>>,
    /// The DSN of the server, and the name of this database.
    made_by: (String, String),
}

impl Database {
    /// Creates a database on the server that `TEST_DATABASE_URL` names, or on the server that the
    /// tests of this process share.
    pub fn fresh() -> Self {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(dsn) => Self::made(dsn, None),
            Err(_) => Self::of_cluster(Cluster::shared()),
        }
    }

    /// Creates a database on a dedicated server, which the test may stop.
    pub fn alone() -> Self {
        Self::of_cluster(Arc::new(Cluster::start_one()))
    }

    /// The server of a database made by [`alone`](Self::alone).
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("a server of our own")
    }

    /// The DSN after a change.
    pub fn dsn_with(&self, change: impl FnOnce(&mut Url)) -> String {
        let mut url = Url::parse(&self.dsn).expect("a URL");
        change(&mut url);
        url.into()
    }

    fn of_cluster(cluster: Arc<Cluster>) -> Self {
        Self::made(cluster.dsn("postgres"), Some(cluster))
    }

    fn made(by: String, cluster: Option<Arc<Cluster>>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("relayer_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&by, format!("CREATE DATABASE {name}")).expect("TEST_DATABASE_URL may make databases");
        let mut url = Url::parse(&by).expect("a URL");
        url.set_path(&name);
        Self { dsn: url.into(), cluster, made_by: (by, name) }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A temporary server removes all its databases itself.
        if self.cluster.is_none() {
            let (by, name) = &self.made_by;
            if let Err(error) = run(by, format!("DROP DATABASE {name} WITH (FORCE)")) {
                eprintln!("the database {name} is left: {error}");
            }
        }
    }
}

/// Runs a statement on a separate thread, because the caller may already be in a runtime.
fn run(dsn: &str, statement: String) -> Result<(), sqlx::Error> {
    let dsn = dsn.to_owned();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let pool = PgPoolOptions::new().max_connections(1).connect(&dsn).await?;
            sqlx::raw_sql(&statement).execute(&pool).await?;
            pool.close().await;
            Ok(())
        })
    };
    thread::spawn(work).join().expect("it does not panic")
}

/// The folder with `initdb` and `postgres`.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Debian installs several versions outside of the PATH.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> =
        versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).collect();
    versions.sort_unstable();
    let debian = versions.iter().rev().map(|version| format!("/usr/lib/postgresql/{version}/bin").into());
    folders.extend(debian);
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    folders.into_iter().find(|folder| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file()))
}

/// The ids of a user and its group.
fn ids(user: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(user))?;
    let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// The child processes of a process.
fn children(parent: Pid) -> Vec<Pid> {
    let read = |output: &str| -> Option<(i32, i32)> {
        let mut fields = output.split_whitespace().map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    let pairs: Vec<(i32, i32)> = if Path::new("/proc/self/stat").exists() {
        let stats = fs::read_dir("/proc").into_iter().flatten().flatten();
        let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        // "12 (a name with spaces) S 1 …"
        let of_stat = |stat: String| {
            let (before, after) = stat.rsplit_once(')')?;
            let state_and_parent: Vec<&str> = after.split_whitespace().take(2).collect();
            Some((before.split_whitespace().next()?.parse().ok()?, state_and_parent.get(1)?.parse().ok()?))
        };
        stats.filter_map(of_stat).collect()
    } else {
        let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("ps");
        String::from_utf8_lossy(&output.stdout).lines().filter_map(read).collect()
    };
    let of_parent = pairs.into_iter().filter(|(_, of)| *of == parent.as_raw_nonzero().get());
    of_parent.filter_map(|(child, _)| Pid::from_raw(child)).collect()
}
