//! A real nginx in front of the sink. After `keepalive_requests`, nginx closes an HTTP/2 connection
//! with GOAWAY.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::gateway::{Gateway, until};
use crate::hook::Hook;
use crate::https::{certificates, sink};

const INSTALL: &str = "nginx is not installed, and this test needs it: run scripts/nginx, or `apt-get install nginx` on \
                       Debian and Ubuntu, `brew install nginx` on macOS";

/// An nginx with TLS that proxies to a server. Dropping this value stops nginx.
struct Nginx {
    address: SocketAddr,
    folder: TempDir,
    process: Child,
}

impl Nginx {
    async fn before(behind: SocketAddr, parameters: &str, keepalive_requests: usize) -> Self {
        let (folder, (pem, certificate, key)) = (TempDir::new().unwrap(), certificates("localhost"));
        let path = |name: &str| folder.path().join(name);
        let as_pem = |label, der: &[u8]| {
            let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        fs::write(path("ca.pem"), pem).unwrap();
        fs::write(path("cert.pem"), as_pem("CERTIFICATE", &certificate)).unwrap();
        fs::write(path("key.pem"), as_pem("PRIVATE KEY", key.secret_pkcs8_der())).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log errors warn;
             events {{ worker_connections 256; }}
             http {{
                 log_format requests '$connection $connection_requests $server_protocol $status';
                 access_log requests requests;
                 client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                 uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                 server {{
                     listen {address} ssl{parameters};
                     ssl_certificate cert.pem; ssl_certificate_key key.pem;
                     keepalive_requests {keepalive_requests};
                     location / {{ proxy_pass http://{behind}; }}
                 }}
             }}"
        );
        fs::write(path("nginx.conf"), config).unwrap();
        let mut command = Command::new(binary().unwrap_or_else(|| panic!("{INSTALL}")));
        command.arg("-p").arg(folder.path()).arg("-c").arg("nginx.conf").arg("-e").arg("errors");
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Self { address, folder, process };
        until("nginx", || std::net::TcpStream::connect(address).is_ok()).await;
        nginx
    }

    /// The number of requests on each connection, and the protocols of the requests.
    fn requests(&self) -> (BTreeMap<u64, usize>, Vec<String>) {
        let log = fs::read_to_string(self.folder.path().join("requests")).unwrap();
        let (mut connections, mut protocols) = (BTreeMap::new(), Vec::new());
        for line in log.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            *connections.entry(fields[0].parse().unwrap()).or_default() += 1;
            protocols.push(fields[2].to_owned());
        }
        protocols.sort_unstable();
        protocols.dedup();
        (connections, protocols)
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

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_once_and_in_order_while_nginx_closes_connections() {
    const EVENTS: usize = 3_000;
    const REQUESTS: usize = 5;
    for (parameters, protocol) in [(" http2", "HTTP/2.0"), ("", "HTTP/1.1")] {
        let mut hook = Hook::start().await;
        let nginx = Nginx::before(hook.address, parameters, REQUESTS).await;
        let folder = TempDir::new().unwrap();
        let gateway = Gateway::start_with(&folder, &sink(nginx.address, &nginx.folder.path().join("ca.pem")));
        gateway.append(1..=EVENTS as u64);
        assert_eq!(hook.dates(EVENTS).await, (1..=EVENTS as u64).collect::<Vec<_>>(), "{protocol}");
        gateway.until_delivered(0, EVENTS as u64).await;
        hook.nothing().await;
        assert_eq!((gateway.sink(0).retries.get(), gateway.sink(0).last_error()), (0, None), "{protocol}");
        gateway.stop().await;
        // nginx logs a request after the request has ended.
        until("the log of nginx", || nginx.requests().0.values().sum::<usize>() == EVENTS).await;
        let (connections, protocols) = nginx.requests();
        assert_eq!((connections.len(), protocols), (EVENTS / REQUESTS, vec![protocol.to_owned()]));
        assert!(connections.values().all(|requests| *requests == REQUESTS), "{connections:?}");
    }
}
