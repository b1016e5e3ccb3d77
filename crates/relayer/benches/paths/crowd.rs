//! Child process: sockets that read and discard everything.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Fallible;
use crate::player::told;

/// Builds an upgrade request. Callers do not check the response.
pub fn upgrade_request(address: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Command `<number> <address> [<path>]`: opens this many sockets, requests an upgrade on each if a
/// path is given, and responds when all are open.
pub async fn play() -> Fallible<()> {
    loop {
        let line = told().await?;
        let words: Vec<&str> = line.split(' ').collect();
        let [number, address, path @ ..] = words.as_slice() else { return Ok(()) };
        for _ in 0..number.parse()? {
            let mut socket = TcpStream::connect(address).await?;
            if let [path] = path {
                socket.write_all(upgrade_request(address, path).as_bytes()).await?;
                socket.read_exact(&mut [0; b"HTTP/1.1 101".len()]).await?;
            }
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                while socket.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
            });
        }
        println!("open");
    }
}
