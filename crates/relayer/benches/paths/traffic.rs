//! Child process: simulated relays, and a client of `/ws` that shares the relays' clock.

use std::time::Duration;

use relay_sim::{Consumer, Pace, Sim, Sizes};
use wire::UnverifiedEvent;

use crate::Fallible;
use crate::player::{Player, told};

/// What the relays send.
#[derive(Clone, Copy)]
pub struct Traffic {
    pub relays: usize,
    pub events: usize,
    pub copies: usize,
    /// New events per second; 0 means as fast as the sockets accept them.
    pub rate: usize,
    /// The delay between the first copy and the last, in milliseconds.
    pub spread_ms: u64,
    /// Whether the relays serve `wss://`.
    pub tls: bool,
}

/// The size of an event's JSON in bytes.
pub const EVENT_BYTES: usize = 600;

impl Traffic {
    /// Starts a child process that serves this traffic and waits for `go`. Also returns the relays'
    /// URLs.
    pub fn player(self) -> Fallible<(Player, Vec<String>)> {
        let (spread_ms, tls) = (self.spread_ms as usize, usize::from(self.tls));
        let numbers = [self.relays, self.events, self.copies, self.rate, spread_ms, tls];
        let numbers = numbers.map(|number| number.to_string());
        let mut arguments = vec!["traffic"];
        arguments.extend(numbers.iter().map(String::as_str));
        let mut player = Player::start(&arguments)?;
        let address = player.hear()?;
        let relays =
            (0..self.relays).map(|relay| relay_url(&format!("{}://{address}", self.scheme()), relay));
        Ok((player, relays.collect()))
    }

    const fn scheme(self) -> &'static str {
        if self.tls { "wss" } else { "ws" }
    }

    /// The number of event frames that the relays send.
    pub const fn frames(self) -> u64 {
        (self.events * self.copies) as u64
    }
}

/// Returns the URL of one of the relays at this address.
pub fn relay_url(place: &str, relay: usize) -> String {
    format!("{place}/r/{relay}")
}

/// Commands: `ca <file>` writes the relays' CA certificate to a file. `subscribed` responds when
/// all relays have a subscription. `client <url>` connects a client. `go` starts the events and, as
/// soon as the client has all events, responds with p50, p99 and the maximum of the microseconds
/// from the first copy to the client. `sent` responds when all copies have been sent.
pub async fn play(numbers: &[&str]) -> Fallible<()> {
    let numbers: Vec<usize> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [relays, events, copies, rate, spread_ms, tls] = *numbers.as_slice() else {
        return Err("six numbers".into());
    };
    let pace = if rate == 0 { Pace::Fast } else { Pace::PerSecond(rate as f64) };
    let sim = Sim::builder().relays(relays).events(events).copies(copies).spread_ms(spread_ms as u64);
    let sim = if tls == 0 { sim } else { sim.tls() };
    let sim = sim.sizes(Sizes::Exactly(EVENT_BYTES)).pace(pace).hold().start().await?;
    println!("{}", sim.address());
    let mut client = None;
    loop {
        let line = told().await?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("ca", file) => {
                std::fs::write(file, sim.ca_pem().unwrap_or_default())?;
                println!("written");
            }
            ("sent", _) => {
                sim.wait_sent().await;
                println!("sent");
            }
            ("subscribed", _) => {
                sim.wait_subscribed(relays).await;
                println!("subscribed");
            }
            ("client", url) => {
                client = Some(Consumer::connect_within(url, Duration::from_secs(5)).await?);
                println!("connected");
            }
            ("go", _) => {
                sim.go();
                match &mut client {
                    Some(client) => println!("{}", receive(client, &sim, events).await?),
                    None => println!("gone"),
                }
            }
            _ => return Ok(()),
        }
    }
}

async fn receive(client: &mut Consumer, sim: &Sim, events: usize) -> Fallible<String> {
    let mut received = Vec::with_capacity(events);
    while received.len() < events {
        let delivery = client.next().await?;
        received.push((delivery.event, delivery.at_us));
    }
    let mut latencies = Vec::with_capacity(events);
    for (event, at_us) in received {
        let id = UnverifiedEvent::parse(&event)?.id;
        let sent_us = sim.first_sent_us(&id).ok_or("an event that was not sent")?;
        latencies.push(at_us.saturating_sub(sent_us));
    }
    latencies.sort_unstable();
    let share = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).or(latencies.last());
    let figures = [share(0.5), share(0.99), share(1.0)].map(|figure| figure.map_or(0, |figure| *figure));
    Ok(figures.map(|figure| figure.to_string()).join(" "))
}
