//! Followers that reconnect, with their own cursor or a stored one, get all missed signals once and
//! in order, whatever failed in between.

use std::collections::BTreeMap;
use std::time::Duration;

use relay_sim::Sim;
use relay_sim::wait::within;
use serde_json::Value;
use wire::{PublicKey, VerifiedEvent};

use crate::bots::{Bot, publish, relays};
use crate::client::Api;
use crate::connection::{Connection, Follower};
use crate::http::{Request, until};
use crate::postgres::Database;
use crate::program::{Running, Site};
use crate::token::now;

/// The number of missed signals.
const MISSED: usize = 1_000;
/// Signals a second. After an outage, a relay could return at most 500 signals of one second.
const RATE: usize = 250;

/// The events that the gateway should deliver, in the order of the gateway's log.
async fn logged(api: &Api, sim: &Sim) -> Vec<(u64, VerifiedEvent)> {
    let events: BTreeMap<String, VerifiedEvent> =
        sim.events().into_iter().map(|event| (event.id().to_string(), event)).collect();
    let id = |event: &Value| event["id"].as_str().expect("an id").to_owned();
    let log = api.log().await;
    log.iter().map(|(seq, event)| (*seq, events[&id(event)].clone())).collect()
}

/// Receives messages up to the sequence `until`, and acknowledges each if `acks` is set.
async fn receive(
    connection: &mut Connection,
    follower: &Follower,
    gateway: &PublicKey,
    until: u64,
    acks: bool,
) -> Vec<(u64, VerifiedEvent)> {
    let mut opener = follower.opener(gateway);
    let mut received = Vec::new();
    while received.last().is_none_or(|(seq, _)| *seq < until) {
        let message = connection.next().await;
        received.push((message.seq, opener.open(&message)));
        if acks {
            connection.ack(message.seq).await;
        }
    }
    received
}

/// Publishes signals at a steady rate while the test does other things.
async fn publish_at_a_pace(bot: &Bot, sim: &Sim, count: usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1_000 / RATE as u64));
    for _ in 0..count {
        ticks.tick().await;
        bot.publish(sim);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_missed_signals_come_in_order_and_once() {
    let sim = relays(4).await;
    let site = Site::on(&sim);
    let _running = site.start().await;
    within("the relays are asked", sim.wait_subscribed(4)).await;
    come_back(&site, &sim, async |api, bot| {
        for _ in 0..MISSED {
            bot.publish(&sim);
        }
        api.until_head(sim.ids().len()).await;
        None
    })
    .await;
}

/// A new consumer starts at the log's head at the time when the client connects, not when the
/// client proves its key.
#[tokio::test(flavor = "multi_thread")]
async fn signals_that_come_while_a_follower_proves_its_key_are_sent() {
    let sim = relays(1).await;
    let site = Site::on(&sim);
    let _running = site.start().await;
    within("the relays are asked", sim.wait_subscribed(1)).await;
    let api = Api::of(&site);
    let (gateway, bot, follower) = (api.identity().await, Bot::registered(1, &api).await, Follower::new(11));
    follower.follow(&api, bot.key.pubkey()).await;
    let mut connection = Connection::open(&api, "?consumer=desk").await;
    bot.publish(&sim);
    api.until_head(1).await;
    connection.prove(&api, &follower.key).await;
    assert_eq!(receive(&mut connection, &follower, &gateway, 1, false).await.len(), 1);
}

/// The gateway is killed and restarted on the same database. Before and after, Postgres stops and
/// returns.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_signals_survive_a_kill_and_a_restart_of_postgres() {
    let sim = relays(4).await;
    let database = Database::alone();
    let site = Site::on(&sim).set("RELAYER_POSTGRES__DSN", &*database.dsn);
    let running = site.start().await;
    come_back(&site, &sim, async |api, bot| {
        let dying = async {
            tokio::time::sleep(Duration::from_millis(800)).await;
            database.cluster().stop();
            tokio::time::sleep(Duration::from_millis(800)).await;
            running.kill();
            database.cluster().start();
            // While the gateway is down, relays get further events.
            tokio::time::sleep(Duration::from_millis(400)).await;
            site.start().await
        };
        let (running, ()) = tokio::join!(dying, publish_at_a_pace(bot, &sim, MISSED));
        until("the registry is read", async || api.status().await["registry"]["state"] == "up").await;
        api.until_head(sim.ids().len()).await;
        Some(running)
    })
    .await;
}

/// Two followers get a few signals, disconnect, and reconnect after `meanwhile`.
async fn come_back(site: &Site, sim: &Sim, meanwhile: impl AsyncFnOnce(&Api, &Bot) -> Option<Running>) {
    let api = Api::of(site);
    let gateway = api.identity().await;
    let bot = Bot::registered(1, &api).await;
    let stranger = Bot::registered(2, &api).await;
    let (by_cursor, by_name) = (Follower::new(11), Follower::new(12).sharing("what only they know"));
    for follower in [&by_cursor, &by_name] {
        follower.follow(&api, bot.key.pubkey()).await;
    }
    let mut cursor = by_cursor.connect(&api, "").await;
    let mut name = Connection::with_answer(&api, "?consumer=desk", &by_name.key).await;
    for _ in 0..10 {
        bot.publish(sim);
    }
    api.until_head(10).await;
    // The first follower has three signals. The second has ten and has acknowledged four.
    assert_eq!(receive(&mut cursor, &by_cursor, &gateway, 3, false).await.len(), 3);
    cursor.leave().await;
    assert_eq!(receive(&mut name, &by_name, &gateway, 10, false).await.len(), 10);
    name.ack(4).await;
    name.leave().await;

    stranger.publish(sim);
    let _running = meanwhile(&api, &bot).await;

    let log = logged(&api, sim).await;
    let last = log.last().expect("events").0;
    let of_bot = |after: u64| -> Vec<(u64, VerifiedEvent)> {
        let of_bot = log.iter().filter(|(seq, event)| *seq > after && event.pubkey() == bot.key.pubkey());
        of_bot.cloned().collect()
    };
    assert_eq!(of_bot(0).len(), 10 + MISSED);
    let mut cursor = Connection::with_answer(&api, "?cursor=3", &by_cursor.key).await;
    let mut name = by_name.connect(&api, "?consumer=desk").await;
    let received = tokio::join!(
        receive(&mut cursor, &by_cursor, &gateway, last, false),
        receive(&mut name, &by_name, &gateway, last, true),
    );
    assert_eq!(received, (of_bot(3), of_bot(4)));
    // New signals follow the replay.
    let live = bot.publish(sim);
    for (connection, follower) in [(&mut cursor, &by_cursor), (&mut name, &by_name)] {
        let [(seq, event)] = &receive(connection, follower, &gateway, last + 1, false).await[..] else {
            panic!("not once");
        };
        assert_eq!((*seq, event), (last + 1, &live));
    }
}

/// A consumer stays connected while the gateway is killed repeatedly. Acknowledged signals may
/// repeat if the cursor was not written, but no signal is missing.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_the_cursor_of_a_follower_is_never_ahead_of_its_acks() {
    const KILLS: usize = 3;
    let sim = relays(4).await;
    let site = Site::on(&sim);
    let mut running = site.start().await;
    let api = Api::of(&site);
    let gateway = api.identity().await;
    let bot = Bot::registered(1, &api).await;
    let follower = Follower::new(11);
    follower.follow(&api, bot.key.pubkey()).await;
    let mut lives: Vec<Vec<u64>> = Vec::new();
    let mut acked = 0;
    for life in 0..=KILLS {
        let mut connection = follower.connect(&api, "?consumer=desk&cursor=0").await;
        for _ in 0..100 {
            bot.publish(&sim);
        }
        api.until_head(100 * (life + 1)).await;
        // The client receives all but 10 signals, and acknowledges all but 10 of the received ones.
        let last = (100 * (life + 1)) as u64;
        let until = if life == KILLS { last } else { last - 10 };
        let received = receive(&mut connection, &follower, &gateway, until, false).await;
        let received: Vec<u64> = received.iter().map(|(seq, _)| *seq).collect();
        assert!(received[0] <= acked + 1, "{} were acknowledged, and {} is next", acked, received[0]);
        acked = until - 20;
        connection.ack(acked).await;
        lives.push(received);
        running.kill();
        running = site.start().await;
    }
    for life in &lives {
        assert!(life.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap in {life:?}");
    }
    assert_eq!(lives.last().and_then(|life| life.last()), Some(&(100 * (KILLS + 1) as u64)));
}

#[tokio::test]
async fn a_name_belongs_to_one_follower() {
    let sim = relays(2).await;
    let site = Site::on(&sim);
    let _running = site.start().await;
    let api = Api::of(&site);
    let gateway = api.identity().await;
    let bot = Bot::registered(1, &api).await;
    let followers = [Follower::new(11), Follower::new(12)];
    for follower in &followers {
        follower.follow(&api, bot.key.pubkey()).await;
    }
    for _ in 0..5 {
        bot.publish(&sim);
    }
    api.until_head(5).await;
    let name = "?consumer=desk&cursor=0";
    let mut first = followers[0].connect(&api, name).await;
    let mut second = followers[1].connect(&api, name).await;
    for (connection, follower, ack) in [(&mut first, &followers[0], 2), (&mut second, &followers[1], 4)] {
        assert_eq!(receive(connection, follower, &gateway, 5, false).await.len(), 5);
        connection.ack(ack).await;
        connection.flush().await;
    }
    // A follower takes over its own connection, not the other follower's connection.
    let mut again = followers[0].connect(&api, name).await;
    let closed = first.text().await.unwrap_err();
    assert_eq!((closed.code, &*closed.reason), (1008, "another connection took over this consumer"));
    assert_eq!(again.next().await.seq, 3);
    second.leave().await;
    assert_eq!(followers[1].connect(&api, name).await.next().await.seq, 5);
    // The consumers of /ws do not include followers.
    assert_eq!(api.get("/api/consumers").await.json()["consumers"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn one_follower_has_at_most_sixteen_consumers() {
    let site = Site::empty();
    let _running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::registered(1, &api).await;
    let (follower, other) = (Follower::new(11), Follower::new(12));
    for follower in [&follower, &other] {
        follower.follow(&api, bot.key.pubkey()).await;
    }
    for number in 0..16 {
        let mut connection = follower.connect(&api, &format!("?consumer=desk-{number}")).await;
        connection.ack(0).await;
        connection.flush().await;
        connection.leave().await;
    }
    let refused = api.call(&follower.key, Request::upgrade("/fanout?consumer=one-more")).await;
    refused.assert(409, "too_many_consumers_of_follower", "16");
    // The follower's existing names still work, and other followers have separate limits.
    follower.connect(&api, "?consumer=desk-0").await;
    other.connect(&api, "?consumer=one-more").await;
}

#[tokio::test]
async fn a_key_without_follows_cannot_be_a_consumer() {
    let site = Site::empty();
    let _running = site.start().await;
    let api = Api::of(&site);
    let follower = Follower::new(11);
    let answer = api.call(&follower.key, Request::upgrade("/fanout?consumer=desk")).await;
    answer.assert(403, "not_following", "subscribe first");
    // The refusal is the same if the key is proved only after the upgrade.
    let mut connection = Connection::with_answer(&api, "?consumer=desk", &follower.key).await;
    let closed = connection.text().await.unwrap_err();
    assert_eq!((closed.code, &closed.reason[..11]), (1008, "restricted:"));
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere() {
    let sim = Sim::builder().seed(5).relays(1).events(4_000).copies(1).start().await.expect("starts");
    let site = Site::on(&sim);
    let running = site.start().await;
    Api::of(&site).until_head(3_900).await;
    running.kill();
    // At the next start, retention trims all but the newest megabyte.
    let site = site.set("RELAYER_STORAGE__MAX_BYTES", "1048576");
    let _running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::registered(1, &api).await;
    let follower = Follower::new(11);
    follower.follow(&api, bot.key.pubkey()).await;
    let refused = async |query: &str, status, code: &str| {
        let request = Request::upgrade(&format!("/fanout?{query}"));
        api.call(&follower.key, request).await.assert(status, code, "");
        // The gateway refuses the request before it sends a challenge.
        Request::upgrade(&format!("/fanout?{query}")).send(api.address).await.assert(status, code, "");
    };
    for (query, code) in [
        ("cursor=99999999", "cursor_ahead"),
        ("cursor=-1", "bad_cursor"),
        ("cursor=x", "bad_cursor"),
        ("cursor=1&cursor=2", "repeated_parameter"),
        ("consumer=a%20b", "bad_consumer"),
        ("seek=1", "bad_seek"),
        ("format=event", "unknown_parameter"),
        ("kinds=30931", "unknown_parameter"),
    ] {
        refused(query, 400, code).await;
    }
    until("the log is trimmed", async || api.get("/status").await.json()["log"]["floor"].as_u64() > Some(2))
        .await;
    refused("cursor=1", 410, "cursor_too_old").await;
    let gone = api.call(&follower.key, Request::upgrade("/fanout?cursor=1")).await.json();
    assert!(
        gone["oldest"].as_u64() > Some(2) && gone["newest"].as_u64() >= gone["oldest"].as_u64(),
        "{gone}"
    );
    follower.connect(&api, &format!("?cursor={}", gone["oldest"])).await;
}

/// For each signal, whether it came with a warning that it is too old to trade on.
async fn stale(site: Site, sim: &Sim) -> Vec<bool> {
    let bot = Bot::new(1);
    for age in [3_000, 700, 500, 0] {
        publish(sim, &bot.event(30_931, now() - age));
    }
    // A date in the future does not make a signal younger.
    publish(sim, &bot.event(30_931, now() + 300));
    let _running = site.start().await;
    let api = Api::of(&site);
    api.register(&bot.key, &bot.name).await;
    let follower = Follower::new(11);
    follower.follow(&api, bot.key.pubkey()).await;
    api.until_head(5).await;
    let mut connection = follower.connect(&api, "?cursor=0").await;
    let mut messages = Vec::new();
    for _ in 0..5 {
        messages.push(connection.next().await);
    }
    messages.sort_by_key(|message| message.created_at);
    messages.iter().map(|message| message.stale).collect()
}

#[tokio::test]
async fn old_signals_are_marked_as_stale() {
    let sim = relays(2).await;
    assert_eq!(stale(Site::on(&sim), &sim).await, [true, true, false, false, false]);
}

#[tokio::test]
async fn the_maximum_age_can_be_set() {
    let sim = relays(2).await;
    let site = Site::on(&sim).set("RELAYER_FANOUT__MAX_AGE_SECS", "100");
    assert_eq!(stale(site, &sim).await, [true, true, true, false, false]);
}

#[tokio::test]
async fn without_an_age_nothing_is_old() {
    let sim = relays(2).await;
    let site = Site::on(&sim).set("RELAYER_FANOUT__MAX_AGE_SECS", "0");
    assert_eq!(stale(site, &sim).await, [false; 5]);
}
