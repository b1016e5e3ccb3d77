//! Tells systemd, or another service manager that sets `NOTIFY_SOCKET`, how the process is doing
//! (`sd_notify(3)`). Without the variable nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::limits::NOTIFY_TIMEOUT;

/// A connection to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// A failure is logged once, until a message is accepted again.
    is_failing: AtomicBool,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. An address that cannot be used is
    /// logged.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        match connect(&address) {
            Ok(manager) => Self {
                manager: Some(manager),
                watchdog: watchdog(variable),
                is_failing: AtomicBool::default(),
            },
            Err(error) => {
                tracing::warn!(
                    name: "service_manager_unreachable",
                    ?address, %error, "NOTIFY_SOCKET cannot be used: the service manager is not notified"
                );
                Self::default()
            }
        }
    }

    /// Whether a service manager listens.
    pub fn is_supervised(&self) -> bool {
        self.manager.is_some()
    }

    /// The time after which the service manager restarts a process that is not
    /// [alive](Self::alive); `None` if it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    pub fn alive(&self, status: &str) {
        self.send(&format!("WATCHDOG=1\nSTATUS={status}"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping: finishing what has been read");
    }

    /// Announces a reload, which lasts until the returned value is dropped.
    pub fn reloading(&self) -> Reloading<'_> {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        Reloading(self)
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.manager else { return };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => self.is_failing.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        name: "service_manager_unreachable",
                        %error, "the service manager cannot be notified"
                    );
                }
            }
        }
    }
}

/// A reload in progress.
#[derive(Debug)]
#[must_use = "the reload ends when this is dropped"]
pub struct Reloading<'a>(&'a Notifier);

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.send("READY=1");
    }
}

fn connect(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => abstract_address(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "only /path and @name are supported")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
    Ok((socket, address))
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract sockets"))
}

/// The interval of the service manager's watchdog, unless it watches another process.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|microseconds| *microseconds > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;

    use tempfile::TempDir;

    use super::*;

    fn notifier(variables: &[(&str, &OsStr)]) -> Notifier {
        Notifier::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn received(manager: &UnixDatagram) -> String {
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_arrive_at_a_path_and_at_an_abstract_name() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let name = format!("relayer-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (manager, variable) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ] {
            let notifier = notifier(&[("NOTIFY_SOCKET", &variable)]);
            notifier.ready("head 1");
            assert_eq!(received(&manager), "READY=1\nSTATUS=head 1");
            notifier.alive("head 2");
            assert_eq!(received(&manager), "WATCHDOG=1\nSTATUS=head 2");
            let reloading = notifier.reloading();
            let message = received(&manager);
            let since_boot = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&message);
            assert!(since_boot.parse::<u64>().unwrap() > 0, "{message}");
            drop(reloading);
            assert_eq!(received(&manager), "READY=1");
        }
    }

    #[test]
    fn an_unusable_address_and_a_missing_manager_are_tolerated() {
        for address in ["relative", "vsock:2:1", "@", "/no/such/socket"] {
            let notifier = notifier(&[("NOTIFY_SOCKET", OsStr::new(address))]);
            notifier.ready("");
            let _ended = notifier.reloading();
        }
        assert!(!notifier(&[]).is_supervised());
        assert!(!notifier(&[("NOTIFY_SOCKET", OsStr::new(""))]).is_supervised());
    }

    #[test]
    fn a_manager_that_reads_nothing_delays_a_message_by_a_second_at_most() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notifier = notifier(&[("NOTIFY_SOCKET", path.as_os_str())]);
        let started = std::time::Instant::now();
        while !notifier.is_failing.load(Ordering::Relaxed) {
            notifier.status("another one");
            assert!(started.elapsed() < Duration::from_secs(20), "the queue never fills");
        }
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let own = std::process::id().to_string();
        let watchdog = |usec: &str, pid: Option<&str>| {
            let mut variables =
                vec![("NOTIFY_SOCKET", OsStr::new("@x")), ("WATCHDOG_USEC", OsStr::new(usec))];
            variables.extend(pid.map(|pid| ("WATCHDOG_PID", OsStr::new(pid))));
            notifier(&variables).watchdog()
        };
        assert_eq!(watchdog("2000000", Some(&own)), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", None), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", Some("1")), None);
        assert_eq!(watchdog("0", Some(&own)), None);
        assert_eq!(watchdog("soon", Some(&own)), None);
    }
}
