//! Child process: sockets that read and discard everything.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Fallible;
use crate::player::told;

/// Builds an upgrade request. Callers check only the status of the response.
pub fn upgrade_request(address: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The path of the event stream; all other paths are those of WebSockets.
pub const STREAM: &str = "/api/events/stream?format=event";

/// Command `<number> <address> [<path>]`: opens this many sockets, requests the path if one is
/// given, and responds when all are open.
pub async fn play() -> Fallible<()> {
    loop {
        let line = told().await?;
        let words: Vec<&str> = line.split(' ').collect();
        let [number, address, path @ ..] = words.as_slice() else { return Ok(()) };
        for _ in 0..number.parse()? {
            let mut socket = TcpStream::connect(address).await?;
            if let [path] = path {
                let (request, expected) = match *path {
                    STREAM => (format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"), b"HTTP/1.1 200"),
                    _ => (upgrade_request(address, path), b"HTTP/1.1 101"),
                };
                socket.write_all(request.as_bytes()).await?;
                let mut status = [0; b"HTTP/1.1 101".len()];
                socket.read_exact(&mut status).await?;
                if status != *expected {
                    return Err("a client was not let in".into());
                }
            }
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                while socket.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
            });
        }
        println!("open");
    }
}
