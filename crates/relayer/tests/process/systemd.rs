//! What the program tells a service manager: the protocol of systemd, with a socket of the test.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdSocket};
use std::thread::available_parallelism;

use relay_sim::Sim;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::program::{PATIENCE, Running, Site};

/// The checks in one interval of the watchdog.
const CHECKS: usize = 4;

struct Manager {
    socket: UnixDatagram,
    address: String,
}

impl Manager {
    fn at_a_path(site: &Site) -> Self {
        let address = site.folder().join("notify").display().to_string();
        Self { socket: UnixDatagram::bind(&address).expect("a socket"), address }
    }

    fn with_an_abstract_name(site: &Site) -> Self {
        let name = site.folder().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = StdSocket::bind_addr(&address).expect("a socket");
        socket.set_nonblocking(true).expect("set");
        Self { socket: UnixDatagram::from_std(socket).expect("a socket"), address: format!("@{name}") }
    }

    /// Starts the program with a watchdog of a second.
    async fn start(&self, site: &Site, crash_points: &str) -> Running {
        let variables = [
            ("NOTIFY_SOCKET", self.address.clone()),
            ("WATCHDOG_USEC", "1000000".to_owned()),
            ("MOLTRADE_CRASH_POINT", crash_points.to_owned()),
        ];
        site.start_with(&variables).await
    }

    async fn next(&self) -> String {
        let mut message = [0; 4096];
        let length =
            timeout(PATIENCE, self.socket.recv(&mut message)).await.expect("a message").expect("read");
        String::from_utf8(message[..length].to_vec()).expect("UTF-8")
    }

    async fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let wait = async {
            loop {
                let message = self.next().await;
                if is_so(&message) {
                    return message;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no message: {what}"))
    }

    /// Waits until as many messages in a row as there are in two intervals have the property.
    async fn until_all(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let wait = async {
            let mut in_a_row = 0;
            while in_a_row < 2 * CHECKS {
                in_a_row = if is_so(&self.next().await) { in_a_row + 1 } else { 0 };
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never in a row: {what}"));
    }
}

fn is_sign_of_life(message: &str) -> bool {
    message.lines().any(|line| line == "WATCHDOG=1")
}

/// Whether the process has the thread that reports.
fn reports(running: &Running) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", running.id())).expect("it runs");
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.expect("an entry").path().join("comm")).unwrap_or_default()
    };
    threads.map(name).any(|name| name.trim_end() == "reports")
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_the_start_a_quiet_life_reloads_and_the_stop() {
    for connect in [Manager::at_a_path, Manager::with_an_abstract_name] {
        let site = Site::empty();
        std::fs::write(site.folder().join("config.toml"), "").expect("written");
        let manager = connect(&site);
        let mut running = manager.start(&site, "").await;
        assert!(manager.next().await.starts_with("STATUS=starting"), "the first message");
        let ready = manager.until("ready", |message| message.starts_with("READY=1\n")).await;
        assert_eq!(ready, "READY=1\nSTATUS=0 of 0 relays connected, 0 clients, head 0");
        assert!(running.get("/health").await.expect("it serves").contains("healthy"));
        manager.until_all("signs of life without traffic", is_sign_of_life).await;
        assert!(reports(&running));
        // An invalid configuration also ends the reload.
        for file in ["", "unknown = 1"] {
            std::fs::write(site.folder().join("config.toml"), file).expect("written");
            running.signal("HUP");
            let reloading = manager.until("reloading", |message| message.starts_with("RELOADING=1\n")).await;
            let since_boot = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the time");
            assert!(since_boot.parse::<u64>().expect("a number") > 0);
            manager.until("reloaded", |message| message == "READY=1").await;
        }
        running.signal("TERM");
        manager.until("stopping", |message| message.starts_with("STOPPING=1\n")).await;
        assert!(running.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_hangs_is_noticed_without_traffic() {
    let cores = available_parallelism().expect("known").get();
    // All threads of a runtime hang.
    let runtime = |name: &str| (2..=cores + 1).map(|time| format!("{name}:{time}:hang")).collect::<Vec<_>>();
    for (crash_points, stage) in [
        (format!("shard_probe:{}:hang", cores + 1), "shard-"),
        ("sequencer_probe:2:hang".to_owned(), "sequencer"),
        ("pool_probe:2:hang".to_owned(), "relay-pool"),
        (runtime("api-runtime").join(","), "api-runtime"),
        (runtime("fanout-runtime").join(","), "fanout-runtime"),
    ] {
        let site = Site::empty();
        let manager = Manager::at_a_path(&site);
        let running = manager.start(&site, &crash_points).await;
        manager.until("ready", |message| message.starts_with("READY=1\n")).await;
        // The pool runs in the API's runtime, so it may be named too.
        let is_noticed = |message: &str| {
            let stages = message.strip_prefix("STATUS=no progress: ").and_then(|rest| rest.split(';').next());
            stages.is_some_and(|stages| stages.contains(stage))
        };
        // A message with a sign of life does not begin with the status.
        manager.until_all(stage, is_noticed).await;
        running.until_stderr_contains("these stages make no progress").await;
    }
}

/// A restart frees no space.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_not_taken_for_a_hang() {
    let sim = Sim::builder().seed(61).relays(2).events(20_000).copies(1).start().await.expect("starts");
    let site = Site::on(&sim).set("RELAYER_STORAGE__MIN_FREE_BYTES", "1000000000000000000");
    let manager = Manager::at_a_path(&site);
    let running = manager.start(&site, "").await;
    manager.until("paused", |message| message.contains("the disk is full")).await;
    // The inboxes are in use only while the shards wait for the sequencer.
    running.until("shards wait", async |running| running.metric("events_in_queue").await > 1_000).await;
    manager
        .until_all("signs of life", |message| {
            is_sign_of_life(message) && message.contains("the disk is full")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_service_manager_nothing_is_reported() {
    let site = Site::empty();
    assert!(!reports(&site.start().await));
    let unusable = [("NOTIFY_SOCKET", "nowhere".to_owned())];
    let mut running = site.start_with(&unusable).await;
    running.until_healthy().await;
    assert!(!reports(&running));
    running.until_stderr_contains("NOTIFY_SOCKET cannot be used").await;
    running.signal("TERM");
    assert!(running.ended().await.success());
}
