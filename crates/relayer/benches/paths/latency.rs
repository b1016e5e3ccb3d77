//! Latency from the first copy on a relay's socket to a client of `/ws`, at 2,000 new events per
//! second.

use crate::figures::{Figure, Target};
use crate::gateway::Gateway;
use crate::traffic::Traffic;
use crate::{Outcome, gateway};

const TRAFFIC: Traffic =
    Traffic { relays: 25, events: 40_000, copies: 10, rate: 2_000, spread_ms: 100, tls: false };

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut player, urls) = TRAFFIC.player()?;
        let gateway = Gateway::start(gateway::config(urls)?).await?;
        player.ask(&format!("client ws://{}/ws?cursor=0", gateway.address))?;
        player.ask("subscribed")?;
        let answer = player.ask("go")?;
        let batch = TRAFFIC.events as f64 / gateway.metrics.ingest.batches_committed.get() as f64;
        gateway.stop().await?;
        let micros: Vec<f64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [half, most, all] = *micros.as_slice() else { return Err("three figures".into()) };
        println!("2,000 new events a second, 10 copies each, fsync; {batch:.1} events a commit");
        println!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", half / 1e3, most / 1e3, all / 1e3);
        Ok(vec![
            Figure::plain("relay to /ws, p50", half / 1e3, "ms", Target::AtMost(2.0)),
            Figure::plain("relay to /ws, p99", most / 1e3, "ms", Target::AtMost(10.0)),
        ])
    })
}
