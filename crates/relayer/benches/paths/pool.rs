//! The pool at 100, 1,000 and 10,000 relays: memory, CPU and time, compared with a bare loop that
//! only reads the same frames from the same relays.
//!
//! Gateway and loop run alternately in separate processes, with relays that send the same events at
//! the same rate. The cost of a frame is reported twice: with all of the gateway's threads, and
//! without the threads that verify and commit new events, because the loop does neither.

use std::time::Duration;

use tempfile::NamedTempFile;

use crate::figures::{Figure, Target};
use crate::player::Player;
use crate::pooled::{Measured, Place, Used};
use crate::traffic::Traffic;
use crate::{Fallible, Outcome, cpu};

/// Five seconds of 2,000 new events per second with 20 copies each.
const TRAFFIC: Traffic =
    Traffic { relays: 0, events: 10_000, copies: 20, rate: 2_000, spread_ms: 500, tls: false };
/// The number of rounds. The speed of a shared machine varies by a third from one minute to the
/// next, so a single ratio near its target says little.
const ROUNDS: usize = 2;

/// The time for new connections to settle.
const REST: Duration = Duration::from_secs(1);

/// The interval between health checks on idle connections. A connection's first check comes after
/// at least half of the interval, later checks once per interval.
const IDLE_HEALTH_CHECK_SECS: u64 = 15;
/// The default interval. Under load no check runs, because the load ends before the first check.
const HEALTH_CHECK_SECS: u64 = 30;

/// Measures the pool without TLS, and with a thousand relays over TLS.
pub fn run() -> Outcome {
    let none_kib = resident_without_relays("pooled")?;
    println!("a gateway without relays   {:>8.1} MB", megabytes(none_kib));
    let small = measure(100, false, none_kib)?;
    let middle = measure(1_000, false, none_kib)?;
    let large = measure(10_000, false, none_kib)?;
    let tls = measure(1_000, true, none_kib)?;
    let mut figures = Vec::from(large.figures_of_ten_thousand(200.0));
    figures.extend([&small, &middle, &large, &tls].into_iter().flat_map(Size::figures));
    let growth = Figure::ratio("a frame, 10,000 relays / 1,000", large.frame.all, middle.frame.all, 1.25);
    figures.push(growth);
    Ok(figures)
}

/// Measures the pool with ten thousand relays over TLS.
pub fn run_tls() -> Outcome {
    let large = measure(10_000, true, resident_without_relays("pooled")?)?;
    let mut figures = Vec::from(large.figures_of_ten_thousand(450.0));
    figures.extend(large.figures());
    Ok(figures)
}

/// The costs at one size of pool.
struct Size {
    name: String,
    connected: Duration,
    idle_kib: u64,
    frame: Frame,
}

/// CPU per frame, in microseconds.
struct Frame {
    bare: f64,
    /// The gateway's threads that read the sockets.
    sockets: f64,
    /// All threads of the gateway.
    all: f64,
}

impl Size {
    fn figures(&self) -> [Figure; 2] {
        let (name, Frame { bare, sockets, all }) = (&self.name, &self.frame);
        [
            Figure::ratio(format!("a frame, {name}, reading / bare"), *sockets, *bare, 1.3),
            Figure::ratio(format!("a frame, {name}, everything / bare"), *all, *bare, 1.3),
        ]
    }

    fn figures_of_ten_thousand(&self, megabytes_max: f64) -> [Figure; 2] {
        let (seconds, resident) = (self.connected.as_secs_f64(), megabytes(self.idle_kib));
        let name = &self.name;
        [
            Figure::plain(format!("{name}, all live after"), seconds, "s", Target::AtMost(60.0)),
            Figure::plain(format!("{name}, idle, resident"), resident, "MB", Target::AtMost(megabytes_max)),
        ]
    }
}

fn measure(relays: usize, tls: bool, none_kib: u64) -> Fallible<Size> {
    let traffic = Traffic { relays, tls, ..TRAFFIC };
    let name = format!("{relays} relays{}", if tls { ", TLS" } else { "" });
    println!("\n{name}");
    let idle = Idle::of("pooled", traffic)?;
    let bare_each = {
        let bare = Idle::of("bare", traffic)?;
        bare.resident_kib.saturating_sub(resident_without_relays("bare")?) as f64 / relays as f64
    };
    println!("all live after             {:>8.1} s", idle.connected.as_secs_f64());
    println!(
        "idle, resident             {:>8.1} MB, {:.2} KiB a connection; bare {bare_each:.2}",
        megabytes(idle.resident_kib),
        idle.resident_kib.saturating_sub(none_kib) as f64 / relays as f64,
    );
    println!(
        "idle, CPU                  {:>8.1} us a connection and health check",
        cpu::micros_each(idle.health_check, relays as u64),
    );
    let frame = load(traffic)?;
    Ok(Size { name, connected: idle.connected, idle_kib: idle.resident_kib, frame })
}

/// Returns the cost of a frame in the best round. All three values come from one round, so that
/// their ratios are comparable.
fn load(traffic: Traffic) -> Fallible<Frame> {
    let each = |time| cpu::micros_each(time, traffic.frames());
    let mut quietest: Option<Frame> = None;
    for _ in 0..ROUNDS {
        let bare = each(loaded("bare", traffic)?.cpu);
        let gateway = loaded("pooled", traffic)?;
        let round = Frame { bare, sockets: each(gateway.sockets), all: each(gateway.cpu) };
        println!(
            "{} frames a second, CPU  {:>8.2} us a frame; without verifying and committing {:.2}; bare {:.2}",
            TRAFFIC.rate * TRAFFIC.copies,
            round.all,
            round.sockets,
            round.bare,
        );
        let is_quieter = |than: &Frame| round.all + round.bare < than.all + than.bare;
        if quietest.as_ref().is_none_or(is_quieter) {
            quietest = Some(round);
        }
    }
    quietest.ok_or_else(|| "no round".into())
}

/// Returns the resources used for reading all frames.
fn loaded(part: &str, traffic: Traffic) -> Fallible<Used> {
    let mut scene = Scene::start(part, traffic, HEALTH_CHECK_SECS)?;
    let before = scene.measured.used(0)?;
    scene.relays.ask("go")?;
    scene.relays.ask("sent")?;
    std::thread::sleep(REST);
    Ok(scene.measured.used(traffic.frames())? - before)
}

/// Connections on which nothing happens.
struct Idle {
    connected: Duration,
    resident_kib: u64,
    /// CPU for one health check of each connection.
    health_check: Duration,
}

impl Idle {
    fn of(part: &str, traffic: Traffic) -> Fallible<Self> {
        let mut scene = Scene::start(part, traffic, IDLE_HEALTH_CHECK_SECS)?;
        let before = scene.measured.used(0)?;
        let mut health_check = Duration::ZERO;
        if part != "bare" {
            std::thread::sleep(Duration::from_secs(IDLE_HEALTH_CHECK_SECS));
            health_check = (scene.measured.used(0)? - before).cpu;
        }
        let connected = scene.measured.connected;
        Ok(Self { connected, resident_kib: before.resident_kib, health_check })
    }
}

/// The relays, and the process that connects to them.
struct Scene {
    measured: Measured,
    relays: Player,
    _ca_file: NamedTempFile,
}

impl Scene {
    fn start(part: &str, traffic: Traffic, health_check_secs: u64) -> Fallible<Self> {
        let (mut relays, urls) = traffic.player()?;
        let file = NamedTempFile::new()?;
        let path = file.path().display().to_string();
        if traffic.tls {
            relays.ask(&format!("ca {path}"))?;
        }
        let url = urls.first().and_then(|url| url.strip_suffix("/r/0")).ok_or("no relays")?.to_owned();
        let ca_file = traffic.tls.then_some(path);
        let place = Place { relays: traffic.relays, url, ca_file, health_check_secs };
        let measured = Measured::start(part, &place)?;
        relays.ask("subscribed")?;
        std::thread::sleep(REST);
        Ok(Self { measured, relays, _ca_file: file })
    }
}

fn resident_without_relays(part: &str) -> Fallible<u64> {
    let url = "ws://127.0.0.1:9".to_owned();
    let nobody = Place { relays: 0, url, ca_file: None, health_check_secs: HEALTH_CHECK_SECS };
    let mut measured = Measured::start(part, &nobody)?;
    std::thread::sleep(REST);
    Ok(measured.used(0)?.resident_kib)
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
