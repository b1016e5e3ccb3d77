//! Signals travel from the relays to all followers of their bots, and to no other client.
//!
//! `FANOUT_FOLLOWERS` sets the number of followers. The runs print their times.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use relay_sim::Sim;
use relay_sim::rng::Rng;
use relay_sim::wait::{settled, within};
use wire::{PublicKey, VerifiedEvent};

use crate::bots::{Bot, SIGNAL_KINDS, publish};
use crate::client::Api;
use crate::connection::{Connection, Delivered, Follower};
use crate::postgres::Database;
use crate::program::{Running, Site};
use crate::token::now;

const BOTS: usize = 10;
/// The number of signals of each bot and signal kind. Other kinds have half as many events.
const SIGNALS: usize = 4;
/// The number of events by other authors. Four in ten have a signal kind.
const STRANGE: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_follower_gets_the_signals_of_its_bots_with_the_embedded_registry() {
    run_fan_out(Site::empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_follower_gets_the_signals_of_its_bots_with_postgres() {
    let database = Database::fresh();
    run_fan_out(Site::empty().set("RELAYER_POSTGRES__DSN", &*database.dsn)).await;
}

/// A follower and its bots.
struct Fan {
    follower: Follower,
    follows: Vec<usize>,
    connections: Vec<Connection>,
}

async fn run_fan_out(site: Site) {
    let followers =
        std::env::var("FANOUT_FOLLOWERS").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    let sim = Sim::builder().seed(51).relays(4).events(STRANGE).copies(2).hold().start().await.unwrap();
    let site = site
        .set("RELAY_URLS", sim.urls().join(","))
        .set("RELAYER_FANOUT__DAILY_LIMIT", "0")
        .set("RELAYER_OUTPUT__MAX_CLIENTS_PER_ADDRESS", "0");
    let running = site.start().await;
    let api = Api::of(&site);
    let gateway = api.identity().await;

    let bots: Vec<Bot> =
        stream::iter(0..BOTS).then(|n| Bot::registered(1_000 + n as u64, &api)).collect().await;
    // Every follower follows this bot, so its signal marks the end.
    let bell = Bot::registered(999, &api).await;
    let began = Instant::now();
    let fans: Vec<Fan> = stream::iter(0..followers)
        .map(|number| join(number, &api, &bots, &bell))
        .buffered(16)
        .collect()
        .await;
    let connections: usize = fans.iter().map(|fan| fan.connections.len()).sum();
    println!("{followers} followers, {connections} connections after {:.1?}", began.elapsed());
    let status = api.status().await;
    assert_eq!(status["clients"], connections, "{status}");

    within("the relays are asked", sim.wait_subscribed(4)).await;
    let queries = settled_queries(&running).await;
    let began = Instant::now();
    let signals = publish_all(&sim, &bots);
    within("every event is sent", sim.wait_first_copies()).await;
    api.until_head(sim.ids().len()).await;
    let logged = began.elapsed();
    bell.publish(&sim);
    api.until_head(sim.ids().len()).await;
    let log = api.log().await;
    let log: Vec<(u64, VerifiedEvent)> = in_log(&log, &sim);
    assert_eq!(log.len(), sim.ids().len());

    let receiving = fans.into_iter().flat_map(|fan| {
        let wanted: HashSet<PublicKey> = fan.follows.iter().map(|bot| *bots[*bot].key.pubkey()).collect();
        let expected: Vec<(u64, VerifiedEvent)> = log
            .iter()
            .filter(|(_, event)| wanted.contains(event.pubkey()) && SIGNAL_KINDS.contains(&event.kind()))
            .cloned()
            .collect();
        assert_eq!(expected.len(), wanted.len() * SIGNALS * SIGNAL_KINDS.len());
        let (follower, bell) = (fan.follower, *bell.key.pubkey());
        fan.connections.into_iter().map(move |connection| {
            let (follower, expected) = (follower.clone(), expected.clone());
            tokio::spawn(async move { receive(connection, &follower, &gateway, &bell, &expected).await })
        })
    });
    let receiving: Vec<_> = receiving.collect();
    let messages: usize =
        stream::iter(receiving).buffered(1_000).try_fold(0, async |sum, got| Ok(sum + got)).await.unwrap();
    println!(
        "{} signals among {} events in the log after {logged:.1?}; {messages} messages received, decrypted and \
         verified after {:.1?}; {} MB resident",
        signals.len(),
        log.len(),
        began.elapsed(),
        resident(&running).await
    );
    let queries = queries_sent(&running).await - queries;
    println!("{queries} statements to the registry's database meanwhile");
    // The gateway tests its database connection with one statement for each 15 seconds of silence.
    assert!(queries <= began.elapsed().as_secs() / 15 + 1, "{queries}");
}

/// The number of statements that the gateway has sent to the registry's database.
async fn queries_sent(running: &Running) -> u64 {
    let metrics = running.get("/metrics").await.expect("an answer");
    let line = metrics.lines().find_map(|line| line.strip_prefix("registry_queries_total "));
    line.expect("the metric").parse().expect("a number")
}

/// The number of statements, after the notifications of the subscriptions have been processed.
async fn settled_queries(running: &Running) -> u64 {
    let sent = async || queries_sent(running).await;
    settled("the registry is quiet", Duration::from_millis(500), sent).await
}

/// Subscribes a follower to some bots and connects it. `number` determines the details.
async fn join(number: usize, api: &Api, bots: &[Bot], bell: &Bot) -> Fan {
    let follower = Follower::new(10_000 + number as u64);
    let follower = match number % 3 {
        0 => follower.sharing(&format!("what {number} and the gateway know")),
        _ => follower,
    };
    let mut rng = Rng::new(&[number as u64]);
    let count = rng.between(1, 5);
    let follows = rng.distinct(count, bots.len());
    for bot in &follows {
        follower.follow(api, bots[*bot].key.pubkey()).await;
    }
    follower.follow(api, bell.key.pubkey()).await;
    let mut connections = Vec::new();
    for connection in 0..if number.is_multiple_of(10) { 3 } else { 1 } {
        connections.push(match (number + connection) % 2 {
            0 => Connection::with_token(api, "", &follower.key).await,
            _ => Connection::with_answer(api, "", &follower.key).await,
        });
    }
    Fan { follower, follows, connections }
}

fn publish_all(sim: &Sim, bots: &[Bot]) -> Vec<VerifiedEvent> {
    sim.go();
    let mut signals = Vec::new();
    for round in 0..SIGNALS {
        for bot in bots {
            for kind in SIGNAL_KINDS {
                let signal = bot.event(kind, now());
                publish(sim, &signal);
                signals.push(signal);
            }
            if round % 2 == 0 {
                publish(sim, &bot.event(1, now()));
                publish(sim, &bot.event(30_930, now()));
            }
        }
    }
    signals
}

/// The entries of the log, each with the original event.
fn in_log(log: &[(u64, serde_json::Value)], sim: &Sim) -> Vec<(u64, VerifiedEvent)> {
    let events = sim.events();
    let events: std::collections::HashMap<String, &VerifiedEvent> =
        events.iter().map(|event| (event.id().to_string(), event)).collect();
    log.iter().map(|(seq, event)| (*seq, events[event["id"].as_str().unwrap()].clone())).collect()
}

/// Receives until the last signal. Checks that all expected signals came once and in order, and no
/// others.
async fn receive(
    mut connection: Connection,
    follower: &Follower,
    gateway: &PublicKey,
    bell: &PublicKey,
    expected: &[(u64, VerifiedEvent)],
) -> usize {
    let mut opener = follower.opener(gateway);
    let mut expected = expected.iter();
    let mut count = 1;
    loop {
        let message: Delivered = connection.next().await;
        let event = opener.open(&message);
        if event.pubkey() == bell {
            assert_eq!(expected.next(), None, "something is missing");
            return count;
        }
        let (seq, signal) = expected.next().expect("something else came");
        assert_eq!((message.seq, &event), (*seq, signal));
        count += 1;
    }
}

async fn resident(running: &Running) -> u64 {
    running.json("/api/metrics/memory").await["resident_bytes"].as_u64().expect("bytes") / 1_000_000
}
