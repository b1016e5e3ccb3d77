//! A real nginx with the configuration of a test.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use relay_sim::wait::until;
use tempfile::TempDir;

const INSTALL: &str = "nginx is not installed, and this test needs it: run `scripts/proxy nginx`, or `apt-get install nginx` on \
                       Debian and Ubuntu, `brew install nginx` on macOS";

/// Dropping this stops it.
pub struct Nginx {
    pub address: SocketAddr,
    pub folder: TempDir,
    process: Child,
}

impl Nginx {
    /// Starts nginx in a folder with the files that its configuration names. `http` is the
    /// configuration of the HTTP server that listens on the address.
    pub async fn start(folder: TempDir, http: impl FnOnce(SocketAddr) -> String) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log errors warn;
             events {{ worker_connections 256; }}
             http {{
                 client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                 uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                 {}
             }}",
            http(address)
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new(binary().unwrap_or_else(|| panic!("{INSTALL}")));
        command.arg("-p").arg(folder.path()).arg("-c").arg("nginx.conf").arg("-e").arg("errors");
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Self { address, folder, process };
        until("nginx", || TcpStream::connect(address).is_ok()).await;
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join("nginx")).find(|file| file.is_file())
}
