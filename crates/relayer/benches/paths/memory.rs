//! Resident memory per connection to a silent relay.

use std::time::Duration;

use crate::figures::{Figure, Target};
use crate::gateway::{Gateway, until};
use crate::player::{Player, told};
use crate::traffic::Traffic;
use crate::{Fallible, Outcome, gateway};

const RELAYS: usize = 1_000;
const SILENT: Traffic = Traffic { relays: RELAYS, events: 0, copies: 1, rate: 0, spread_ms: 0, tls: false };

pub fn run() -> Outcome {
    let (_relays, urls) = SILENT.player()?;
    let none = resident(&[])?;
    let all = resident(&urls)?;
    let each = (all - none) / RELAYS as f64;
    println!("gateway with no connection {none:.0} KiB, with {RELAYS} idle ones {all:.0} KiB");
    println!("each                     {each:>10.2} KiB");
    Ok(vec![Figure::plain("resident, an idle relay connection", each, "KiB", Target::AtMost(12.0))])
}

/// Returns the resident KiB of a gateway that runs in a separate process and is connected to these
/// relays.
fn resident(urls: &[String]) -> Fallible<f64> {
    let arguments = std::iter::once("idle-gateway").chain(urls.iter().map(String::as_str));
    let mut gateway = Player::start(&arguments.collect::<Vec<_>>())?;
    Ok(gateway.hear()?.parse()?)
}

/// Connects to the relays, waits, and reports the memory of this process.
pub async fn play(urls: &[&str]) -> Fallible<()> {
    let gateway = Gateway::start(gateway::config(urls.iter().map(|url| (*url).to_owned()))?).await?;
    let peers = gateway.pool.peers();
    until(|| peers.iter().all(|peer| peer.state().label() == "live")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{}", resident_kib()?);
    told().await?;
    Ok(())
}

/// Resident memory of this process.
pub fn resident_kib() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(resident.trim().trim_end_matches(" kB").parse()?)
}
