//! Reads from simulated relays as fast as possible and discards all data, to measure the cost of
//! sending.
//!
//! `drain ws://127.0.0.1:7700/r/0 20` drains relays 0 to 19, and ends when nothing arrives for a
//! second.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Drains one relay. Returns the number of bytes, and the time at which the last bytes arrived.
fn drain(host: &str, relay: usize) -> std::io::Result<(u64, Instant)> {
    let mut socket = TcpStream::connect(host)?;
    let upgrade = format!("GET /r/{relay} HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    socket.write_all(upgrade.as_bytes())?;
    // A text frame with a mask of zeros.
    socket.write_all(&[&[0x81, 0x80 | 14, 0, 0, 0, 0], &br#"["REQ","s",{}]"#[..]].concat())?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buffer = vec![0; 256 << 10];
    let (mut bytes, mut last) = (0, Instant::now());
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        bytes += length as u64;
        last = Instant::now();
    }
    Ok((bytes, last))
}

fn main() {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_default();
    let relays = args.next().and_then(|relays| relays.parse().ok()).unwrap_or(1);
    let host = url.trim_start_matches("ws://").split('/').next().unwrap_or_default().to_owned();
    let began = Instant::now();
    let drained: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..relays)
            .map(|relay| {
                scope.spawn({
                    let host = &host;
                    move || drain(host, relay)
                })
            })
            .collect();
        readers.into_iter().filter_map(|reader| reader.join().ok()?.ok()).collect()
    });
    let bytes: u64 = drained.iter().map(|(bytes, _)| bytes).sum();
    let seconds =
        drained.iter().map(|(_, last)| last.duration_since(began).as_secs_f64()).fold(0.0, f64::max);
    println!(
        "{} relays, {bytes} bytes in {seconds:.3} s: {:.0} MB/s",
        drained.len(),
        bytes as f64 / 1e6 / seconds
    );
}
