//! A real HAProxy with the configuration of a test.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use relay_sim::wait::until;
use tempfile::TempDir;

const INSTALL: &str = "haproxy is not installed, and this test needs it: run `scripts/proxy haproxy`, or `apt-get install \
                       haproxy` on Debian and Ubuntu, `brew install haproxy` on macOS";

/// Dropping this stops it.
pub struct Haproxy {
    pub address: SocketAddr,
    _folder: TempDir,
    process: Child,
}

impl Haproxy {
    /// Starts HAProxy. `mode` is `http` or `tcp`, and `server` has the address of the server behind
    /// it with its options.
    pub async fn start(mode: &str, server: &str) -> Self {
        Self::listening(mode, "", server).await
    }

    /// Like [`start`](Self::start). Its own clients send a header of the PROXY protocol, so that
    /// they have any address.
    pub async fn start_accepting_proxy(mode: &str, server: &str) -> Self {
        Self::listening(mode, "accept-proxy", server).await
    }

    async fn listening(mode: &str, options: &str, server: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "defaults\n mode {mode}\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             frontend front\n bind {address} {options}\n default_backend relayer\n\
             backend relayer\n server gateway {server}\n"
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(binary().unwrap_or_else(|| panic!("{INSTALL}")));
        command.arg("-db").arg("-q").arg("-f").arg(file);
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let haproxy = Self { address, _folder: folder, process };
        until("haproxy", || TcpStream::connect(address).is_ok()).await;
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join("haproxy")).find(|file| file.is_file())
}
