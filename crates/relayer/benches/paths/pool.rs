//! The pool at 100, 1,000 and 10,000 relays: memory, CPU and time, beside a bare loop that only reads the
//! same frames of the same relays.
//!
//! Gateway and loop are processes of their own, one after the other, with relays that send the same at the
//! same rate. What a frame costs is told twice: all that the gateway does, and without the threads that
//! verify and commit new events, of which the loop has nothing.

use std::time::Duration;

use tempfile::NamedTempFile;

use crate::figures::{Figure, Target};
use crate::pooled::{Measured, Place, Used};
use crate::traffic::Traffic;
use crate::{Fallible, Outcome, cpu};

/// 2,000 new events a second with 20 copies each, for ten seconds.
const TRAFFIC: Traffic =
    Traffic { relays: 0, events: 20_000, copies: 20, rate: 2_000, spread_ms: 500, tls: false };

/// What a gateway without relays, or a loop, is given to come to rest.
const REST: Duration = Duration::from_secs(1);

/// Health checks are so far apart: within that time there is one for each connection.
const HEALTH_CHECK: Duration = Duration::from_secs(30);

/// Plain, and a thousand with TLS.
pub fn run() -> Outcome {
    let none = empty()?;
    println!("a gateway without relays   {:>8.1} MB", megabytes(none));
    let small = measure(100, false, none)?;
    let middle = measure(1_000, false, none)?;
    let large = measure(10_000, false, none)?;
    let tls = measure(1_000, true, none)?;
    let mut figures = vec![
        Figure::plain("10,000 relays, all live", large.connected.as_secs_f64(), "s", Target::AtMost(60.0)),
        Figure::plain(
            "10,000 relays, idle, resident",
            megabytes(large.idle_kib),
            "MB",
            Target::AtMost(120.0),
        ),
    ];
    figures.extend([&small, &middle, &large, &tls].into_iter().flat_map(Size::figures));
    figures.push(Figure::ratio("a frame, 10,000 relays / 1,000", large.frame.all, middle.frame.all, 1.25));
    Ok(figures)
}

/// Ten thousand with TLS, which takes a minute and a half: most of it are handshakes.
pub fn run_tls() -> Outcome {
    let large = measure(10_000, true, empty()?)?;
    let mut figures = vec![
        Figure::plain(
            "10,000 relays, TLS, all live",
            large.connected.as_secs_f64(),
            "s",
            Target::AtMost(60.0),
        ),
        Figure::plain(
            "10,000 relays, TLS, idle, resident",
            megabytes(large.idle_kib),
            "MB",
            Target::AtMost(450.0),
        ),
    ];
    figures.extend(large.figures());
    Ok(figures)
}

/// What a number of relays takes.
struct Size {
    relays: usize,
    tls: bool,
    connected: Duration,
    idle_kib: u64,
    frame: Frame,
}

/// CPU a frame, in microseconds.
struct Frame {
    bare: f64,
    /// Of the gateway's threads that read sockets.
    sockets: f64,
    /// Of all.
    all: f64,
}

impl Size {
    fn figures(&self) -> [Figure; 2] {
        let name = format!("{} relays{}", self.relays, if self.tls { ", TLS" } else { "" });
        let Frame { bare, sockets, all } = self.frame;
        [
            Figure::ratio(format!("a frame, {name}, reading / bare"), sockets, bare, 1.3),
            Figure::ratio(format!("a frame, {name}, everything / bare"), all, bare, 1.3),
        ]
    }
}

fn measure(relays: usize, tls: bool, none_kib: u64) -> Fallible<Size> {
    let traffic = Traffic { relays, tls, ..TRAFFIC };
    let gateway = Run::of("pooled", traffic)?;
    let bare = Run::of("bare", traffic)?;
    let each = |kib: u64| kib as f64 / relays as f64;
    println!("\n{relays} relays{}", if tls { ", TLS" } else { "" });
    println!("all live after             {:>8.1} s", gateway.connected.as_secs_f64());
    println!(
        "idle, resident             {:>8.1} MB, {:.2} KiB a connection; bare {:.2}",
        megabytes(gateway.idle_kib),
        each(gateway.idle_kib.saturating_sub(none_kib)),
        each(bare.idle_kib.saturating_sub(bare.start_kib)),
    );
    println!(
        "idle, CPU                  {:>8.1} us a connection and health check, which is once in {} s",
        cpu::micros_each(gateway.idle.cpu, relays as u64),
        HEALTH_CHECK.as_secs(),
    );
    let frames = traffic.frames();
    let frame = Frame {
        bare: cpu::micros_each(bare.load.cpu, frames),
        sockets: cpu::micros_each(gateway.load.sockets, frames),
        all: cpu::micros_each(gateway.load.cpu, frames),
    };
    println!(
        "{} frames a second, CPU  {:>8.2} us a frame; without verifying and committing {:.2}; bare {:.2}",
        TRAFFIC.rate * TRAFFIC.copies,
        frame.all,
        frame.sockets,
        frame.bare,
    );
    println!("after that, resident       {:>8.1} MB", megabytes(gateway.load.resident_kib));
    Ok(Size { relays, tls, connected: gateway.connected, idle_kib: gateway.idle_kib, frame })
}

/// A run of the gateway or of the loop.
struct Run {
    connected: Duration,
    start_kib: u64,
    idle_kib: u64,
    /// For as long as a health check of each connection takes.
    idle: Used,
    load: Used,
}

impl Run {
    fn of(part: &str, traffic: Traffic) -> Fallible<Self> {
        let start_kib = if part == "bare" { resident_without_relays(part)? } else { 0 };
        let (mut relays, urls) = traffic.player()?;
        let ca_file = NamedTempFile::new()?;
        let ca_path = ca_file.path().display().to_string();
        if traffic.tls {
            relays.ask(&format!("ca {ca_path}"))?;
        }
        let url = urls.first().and_then(|url| url.strip_suffix("/r/0")).ok_or("no relays")?.to_owned();
        let place = Place { relays: traffic.relays, url, ca_file: traffic.tls.then_some(ca_path) };
        let mut measured = Measured::start(part, &place)?;
        relays.ask("subscribed")?;
        std::thread::sleep(REST);
        let before = measured.used(0)?;
        let mut idle = before - before;
        if part != "bare" {
            std::thread::sleep(HEALTH_CHECK);
            idle = measured.used(0)? - before;
        }
        let before_load = measured.used(0)?;
        relays.ask("go")?;
        relays.ask("sent")?;
        std::thread::sleep(REST);
        let load = measured.used(traffic.frames())? - before_load;
        Ok(Self { connected: measured.connected, start_kib, idle_kib: before.resident_kib, idle, load })
    }
}

/// KiB of a gateway without relays.
fn empty() -> Fallible<u64> {
    resident_without_relays("pooled")
}

fn resident_without_relays(part: &str) -> Fallible<u64> {
    let mut nobody =
        Measured::start(part, &Place { relays: 0, url: "ws://127.0.0.1:9".into(), ca_file: None })?;
    std::thread::sleep(REST);
    Ok(nobody.used(0)?.resident_kib)
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
