//! Ten thousand clients of `/ws` at 20 events per second. Measures the latency from the relay's
//! socket to each client, the memory, and whether any client missed an event.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::figures::{Figure, Target};
use crate::gateway::Gateway;
use crate::memory::resident_kib;
use crate::player::Player;
use crate::{Outcome, cpu, gateway};

const CLIENTS: usize = 10_000;
/// Events for half a minute.
const EVENTS: usize = 600;
/// Events per second.
const RATE: usize = 20;
/// The time for new connections to settle.
const REST: Duration = Duration::from_secs(2);

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut audience = Player::start(&["audience", &EVENTS.to_string(), &RATE.to_string()])?;
        let (mut config, folder) = gateway::config([audience.hear()?])?;
        // One more client maps events to sequences.
        config.output.max_clients = NonZeroUsize::new(CLIENTS + 1).ok_or("no clients")?;
        let gateway = Gateway::start((config, folder)).await?;
        audience.ask("subscribed")?;
        tokio::time::sleep(REST).await;
        let none_kib = resident_kib()?;
        audience.ask(&format!("open {CLIENTS} {}", gateway.address))?;
        tokio::time::sleep(REST).await;
        let each_kib = |all_kib: u64| all_kib.saturating_sub(none_kib) as f64 / CLIENTS as f64;
        let idle_kib = each_kib(resident_kib()?);
        let (before, begin) = (cpu::used(), Instant::now());
        let answer = audience.ask("go")?;
        let (time, ours) = (begin.elapsed(), cpu::used() - before);
        let busy_kib = each_kib(resident_kib()?);
        gateway.stop().await?;
        let numbers: Vec<f64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [whole, half, most, all, theirs] = *numbers.as_slice() else { return Err("five figures".into()) };
        let each = |micros: f64| micros / (CLIENTS * EVENTS) as f64;
        let ours = ours.as_secs_f64() * 1e6;
        println!(
            "{EVENTS} events to {CLIENTS} clients, {RATE} a second: {:.2} us of CPU a message, {:.2} us of the clients",
            each(ours),
            each(theirs),
        );
        println!("gateway and clients together: {:.2} cores", (ours + theirs) / 1e6 / time.as_secs_f64());
        println!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", half / 1e3, most / 1e3, all / 1e3);
        println!(
            "resident, a client: {idle_kib:.1} KiB before the first event, {busy_kib:.1} KiB after the last"
        );
        let count = CLIENTS as f64;
        Ok(vec![
            Figure::plain("10,000 clients, relay to client, p50", half / 1e3, "ms", Target::AtMost(250.0)),
            Figure::plain("10,000 clients, relay to client, p99", most / 1e3, "ms", Target::AtMost(250.0)),
            Figure::plain("10,000 clients, resident, each", busy_kib, "KiB", Target::AtMost(20.0)),
            Figure::plain("10,000 clients, that got everything", whole, "", Target::AtLeast(count)),
        ])
    })
}
