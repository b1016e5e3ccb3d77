//! Child process: the gateway with its pool, or a bare loop, connected to simulated relays. The
//! process reports its cost on command.

use std::time::{Duration, Instant};

use moltrade_relayer::testing::Setup;

use crate::gateway::until;
use crate::memory::resident_kib;
use crate::player::{Player, told};
use crate::traffic::relay_url;
use crate::{Fallible, cpu, gateway};

/// The relays to connect to, as the child process gets them in an argument.
#[derive(Debug, Clone)]
pub struct Place {
    pub relays: usize,
    /// Scheme, address and port.
    pub url: String,
    /// The CA file for the relays' certificates, if they use TLS.
    pub ca_file: Option<String>,
    /// The gateway's interval between health checks.
    pub health_check_secs: u64,
}

impl Place {
    /// Encodes the place as the argument of the child process.
    fn argument(&self) -> String {
        let Self { relays, url, ca_file, health_check_secs } = self;
        format!("{relays} {url} {health_check_secs} {}", ca_file.as_deref().unwrap_or_default())
    }

    pub fn of(argument: &str) -> Fallible<Self> {
        let words: Vec<&str> = argument.split(' ').collect();
        let [relays, url, health_check_secs, ca_file] = *words.as_slice() else {
            return Err("no place".into());
        };
        Ok(Self {
            relays: relays.parse()?,
            url: url.to_owned(),
            ca_file: (!ca_file.is_empty()).then(|| ca_file.to_owned()),
            health_check_secs: health_check_secs.parse()?,
        })
    }

    pub fn urls(&self) -> impl Iterator<Item = String> {
        (0..self.relays).map(|relay| relay_url(&self.url, relay))
    }
}

/// The resources used by a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    pub cpu: Duration,
    /// The part used by Tokio's threads, which do all work except verifying and committing.
    pub sockets: Duration,
    pub resident_kib: u64,
}

impl Used {
    fn now() -> Fallible<Self> {
        let sockets = cpu::used_by_named(|name| name.starts_with("tokio"))?;
        Ok(Self { cpu: cpu::used(), sockets, resident_kib: resident_kib()? })
    }
}

impl std::ops::Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let (cpu, sockets) = (self.cpu - before.cpu, self.sockets - before.sockets);
        Self { cpu, sockets, ..self }
    }
}

/// A measured process.
pub struct Measured {
    player: Player,
    /// The time until all connections were live.
    pub connected: Duration,
}

impl Measured {
    /// Starts a gateway, or a `bare` loop, that connects to all relays.
    pub fn start(part: &str, place: &Place) -> Fallible<Self> {
        let mut player = Player::start(&[part, &place.argument()])?;
        let micros = player.hear()?.parse()?;
        Ok(Self { player, connected: Duration::from_micros(micros) })
    }

    /// Waits until the process has read `events` events, and returns the resources used.
    pub fn used(&mut self, events: u64) -> Fallible<Used> {
        let answer = self.player.ask(&events.to_string())?;
        let numbers: Vec<u64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [cpu, sockets, resident_kib] = *numbers.as_slice() else { return Err("three numbers".into()) };
        Ok(Used { cpu: Duration::from_micros(cpu), sockets: Duration::from_micros(sockets), resident_kib })
    }
}

/// Reports the time to connect. Then, for each requested number of events, waits until they are
/// read and reports the resources used.
pub async fn tell(connected: Duration, has_read: impl Fn(u64) -> bool) -> Fallible<()> {
    println!("{}", connected.as_micros());
    while let Ok(events) = told().await?.parse() {
        until(|| has_read(events)).await;
        let Used { cpu, sockets, resident_kib } = Used::now()?;
        println!("{} {} {resident_kib}", cpu.as_micros(), sockets.as_micros());
    }
    Ok(())
}

/// Runs the gateway with the default configuration, except for the interval of health checks.
pub async fn play(place: &str) -> Fallible<()> {
    let place = Place::of(place)?;
    let (mut config, _folder) = gateway::config(place.urls())?;
    config.relay.backfill = Some(Duration::from_secs(3600));
    config.relay.health_check_interval = Duration::from_secs(place.health_check_secs);
    config.relay.extra_ca_file = place.ca_file.map(Into::into);
    let begin = Instant::now();
    let gateway = Setup::new(config).start().await?;
    let peers = gateway.pool.peers();
    until(|| peers.iter().all(|peer| peer.state().label() == "live")).await;
    let connected = begin.elapsed();
    let metrics = &gateway.metrics;
    tell(connected, |events| {
        metrics.ingest.events_processed.get() + metrics.ingest.duplicates.total() >= events
    })
    .await
}
