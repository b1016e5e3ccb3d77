//! Follower examples in each language, against the built program and simulated relays. Follower and
//! gateway are killed, but each example gets every signal of its bot in order, and no signal of
//! another bot.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_sim::Sim;
use relay_sim::rng::Rng;
use relay_sim::wait::until_async;
use serde_json::Value;
use wire::{Filter, Signer};

use crate::consumer::Language;
use crate::follower::{Follower, publish as publish_by_example, register};
use crate::program::{PATIENCE, Running, Site};

const RELAYS: usize = 3;
/// The total number of published events, which have several signers and kinds.
const EVENTS: usize = 900;
/// The number of kills of the follower. Every third kill also kills the gateway.
const KILLS: usize = 6;
const SECRET: &str = "thirty-two bytes that nobody sees";
const SIGNALS: &str = "kinds=30931,30932,30933,30934";

/// The gateway's key, which owns the registry.
const GATEWAY_KEY: &str = "5f1b0a9d3c7e48261b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";

struct Keys {
    bot: Signer,
    /// A registered bot without followers.
    other_bot: Signer,
    /// A key that the gateway does not know.
    stranger: Signer,
    follower: Signer,
}

impl Keys {
    fn new(seed: u64) -> Self {
        let [bot, other_bot, stranger, follower] =
            [1, 2, 3, 4].map(|number| Signer::from_seed(seed << 8 | number));
        Self { bot, other_bot, stranger, follower }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn site_on(sim: &Sim) -> Site {
    Site::on(sim).set("RELAYER_NOSTR__SECRET_KEY", GATEWAY_KEY)
}

fn gateway(site: &Site) -> String {
    format!("http://127.0.0.1:{}", site.port())
}

/// Publishes events of all keys at all relays, spread over some seconds.
async fn publish(sim: Arc<Sim>, seed: u64) {
    let (keys, mut rng) = (Keys::new(seed), Rng::new(&[seed, 1]));
    for number in 0..EVENTS {
        let (key, kind) = match rng.below(10) {
            0..6 => (&keys.bot, 30931 + rng.below(4) as u16),
            6..8 => (&keys.other_bot, 30931),
            8 => (&keys.stranger, 30931),
            // An event that the bot signs but that is not a signal.
            _ => (&keys.bot, 1),
        };
        let (name, content) = (format!("signal {number}"), "x".repeat(rng.below(3_000)));
        let event = key.sign(now(), kind, &[["d", name.as_str()]], &content);
        sim.publish(0..RELAYS, event.json().clone());
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
}

/// A relay stores the events that the example publishes. The example reports refused events.
#[tokio::test(flavor = "multi_thread")]
async fn each_language_publishes() {
    let sim = Sim::builder().scripted(1).start().await.expect("starts");
    for (number, language) in [Language::Rust, Language::Python, Language::JavaScript].into_iter().enumerate()
    {
        let event = publish_by_example(language, &sim.url(0), &Keys::new(61).bot, "long BTC");
        assert_eq!((&event["kind"], &event["content"]), (&Value::from(30931), &Value::from("long BTC")));
        let held = sim.holds(0, &Filter::new());
        // Two identical events of the same second count once.
        assert!((1..=number + 1).contains(&held.len()));
        assert!(held.iter().any(|held| event["id"] == held.id().to_string()), "{language:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_survives_kills() {
    survives_kills(Language::Rust, None, 51).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_survives_kills_with_a_shared_secret() {
    survives_kills(Language::Rust, Some(SECRET), 52).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_survives_kills() {
    survives_kills(Language::Python, None, 53).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_survives_kills() {
    survives_kills(Language::JavaScript, None, 54).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_survives_kills_with_a_shared_secret() {
    survives_kills(Language::JavaScript, Some(SECRET), 55).await;
}

async fn survives_kills(language: Language, shared_secret: Option<&str>, seed: u64) {
    let sim = Arc::new(Sim::builder().seed(seed).scripted(RELAYS).start().await.expect("starts"));
    let site = site_on(&sim);
    let mut running = site.start().await;
    let keys = Keys::new(seed);
    for bot in [&keys.bot, &keys.other_bot] {
        let answer = register(language, &gateway(&site), bot, "Momentum");
        assert_eq!(answer["bot_pubkey"], bot.pubkey().to_string());
    }
    let mut follower =
        Follower::new(language, &gateway(&site), &keys.bot.pubkey().to_string(), &keys.follower);
    if let Some(secret) = shared_secret {
        follower = follower.shared_secret(secret);
    }
    follower.start();
    follower.until_stderr_contains("connected; going on after 0").await;
    let published = tokio::spawn(publish(Arc::clone(&sim), seed));
    let mut rng = Rng::new(&[seed]);
    for kill in 1..=KILLS {
        // More than half of the events are signals of the bot.
        follower.until_lines(kill * EVENTS / 2 / (KILLS + 2)).await;
        // Each kill comes at a different moment.
        tokio::time::sleep(Duration::from_millis(rng.below(50) as u64)).await;
        if kill % 3 == 0 {
            running.kill();
            running = site.start().await;
        }
        follower.kill();
        follower.start();
    }
    // Only the gateway is killed, so the example must reconnect.
    running.kill();
    let running = site.start().await;
    published.await.expect("published");
    let log = signals_in_log(&running, &sim, &keys.bot).await;
    let last = log.last().and_then(|envelope| envelope["seq"].as_u64()).expect("signals");
    follower.until_printed(last).await;
    follower.kill();
    let lives = follower.printed();
    println!("lives: {:?}", lives.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(once(&lives), log);
    assert!(lives.iter().filter(|life| !life.is_empty()).count() > 3, "too few kills hit a running transfer");
}

/// The bot's signals in the gateway's log, as soon as the log has all events of the relays.
async fn signals_in_log(running: &Running, sim: &Sim, bot: &Signer) -> Vec<Value> {
    let wanted =
        sim.events().iter().filter(|event| event.pubkey() == bot.pubkey() && event.kind() != 1).count();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut signals: Vec<Value> = Vec::new();
        loop {
            let after = signals.last().map_or(0, |envelope| envelope["seq"].as_u64().expect("a number"));
            let page = format!("/api/events?cursor={after}&limit=1000&{SIGNALS}&authors={}", bot.pubkey());
            let page = running.json(&page).await;
            let events = page["events"].as_array().expect("a list");
            if events.is_empty() {
                break;
            }
            let bare = |envelope: &Value| serde_json::json!({ "seq": envelope["seq"], "stale": false, "event": envelope["event"] });
            signals.extend(events.iter().map(bare));
        }
        if signals.len() == wanted {
            return signals;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} of {wanted}", signals.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns each printed signal once. Asserts that each run resumed where the previous run was
/// killed. One signal may repeat: the one handled before the cursor was stored.
#[track_caller]
fn once(lives: &[Vec<Value>]) -> Vec<Value> {
    let seq = |signal: &Value| signal["seq"].as_u64().expect("a number");
    let mut all: Vec<Value> = Vec::new();
    for (number, life) in lives.iter().enumerate() {
        assert!(life.is_sorted_by(|one, next| seq(one) < seq(next)), "life {number} is out of order");
        let known = all.last().map_or(0, &seq);
        let repeats = life.iter().take_while(|signal| seq(signal) <= known).count();
        assert!(repeats <= 1, "life {number} repeats {repeats} signals");
        assert!(
            life[..repeats].iter().all(|signal| all.last() == Some(signal)),
            "life {number} repeats another"
        );
        all.extend(life[repeats..].iter().cloned());
    }
    let ids: HashSet<&str> = all.iter().filter_map(|signal| signal["event"]["id"].as_str()).collect();
    assert_eq!(ids.len(), all.len(), "a signal has two numbers");
    all
}

const ALL: [Language; 3] = [Language::Rust, Language::Python, Language::JavaScript];

#[tokio::test(flavor = "multi_thread")]
async fn old_signals_are_stale() {
    let sim = Sim::builder().seed(61).scripted(1).start().await.expect("starts");
    let keys = Keys::new(61);
    for (number, seconds_ago) in [1_200, 0].into_iter().enumerate() {
        let number = number.to_string();
        let tags = [["d", number.as_str()]];
        sim.publish([0], keys.bot.sign(now() - seconds_ago, 30931, &tags, "long").json().clone());
    }
    let site = site_on(&sim);
    let _running = site.start().await;
    register(Language::Rust, &gateway(&site), &keys.bot, "Momentum");
    for language in ALL {
        let mut follower =
            Follower::new(language, &gateway(&site), &keys.bot.pubkey().to_string(), &keys.follower);
        follower.start();
        follower.until_lines(2).await;
        let printed = follower.printed().concat();
        for signal in printed {
            let age = now() - signal["event"]["created_at"].as_u64().expect("a number");
            assert_eq!(signal["stale"], age > 600, "{language:?}: {signal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_failures_end_the_example() {
    let site = Site::empty().set("RELAYER_NOSTR__SECRET_KEY", GATEWAY_KEY);
    let running = site.start().await;
    let keys = Keys::new(62);
    let key = running.json("/api/identity").await["pubkey"].as_str().expect("a key").to_owned();
    for language in ALL {
        let follower = |bot: &str| Follower::new(language, &gateway(&site), bot, &keys.follower);
        let ends_with = async |mut follower: Follower, reason: &str| {
            follower.start();
            assert!(!follower.ended().await.success(), "{language:?}: {reason}");
            assert!(follower.stderr().contains(reason), "{language:?}: {reason}: {}", follower.stderr());
        };
        register(language, &gateway(&site), &keys.bot, "Momentum");
        let bot = keys.bot.pubkey().to_string();
        ends_with(follower(&keys.stranger.pubkey().to_string()), "404").await;
        ends_with(follower("npub1xyz"), "npub1xyz").await;

        let cursor_of_another = follower(&bot);
        cursor_of_another.write_state(&key, 7);
        ends_with(cursor_of_another, "400").await;

        let known_by_another_key = follower(&bot);
        known_by_another_key.write_state(&keys.stranger.pubkey().to_string(), 0);
        ends_with(known_by_another_key, "the gateway's key was").await;

        let with_something_else = follower(&bot);
        std::fs::write(with_something_else.state(), "shopping list").expect("written");
        ends_with(with_something_else, "state.json").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_resume_at_the_oldest_event_if_their_cursor_is_too_old() {
    const NOTES: usize = 3_000;
    let sim = Sim::builder().seed(63).relays(2).events(NOTES).start().await.expect("starts");
    let site = site_on(&sim);
    let running = site.start().await;
    let have_come = async || running.json("/api/metrics/summary").await["log_head_seq"] == NOTES;
    until_async("all have come", have_come).await;
    let keys = Keys::new(63);
    register(Language::Rust, &gateway(&site), &keys.bot, "Momentum");
    let key = running.json("/api/identity").await["pubkey"].as_str().expect("a key").to_owned();
    running.kill();
    // Retention runs as soon as the program starts.
    let running = site.start_with(&[("RELAYER_STORAGE__MAX_BYTES", (1 << 20).to_string())]).await;
    running.until_stderr_contains("events are served").await;
    let mut oldest = 1;
    let is_trimmed = async || {
        let summary = running.json("/api/metrics/summary").await;
        oldest = summary["log_floor_seq"].as_u64().expect("a number");
        oldest > 1
    };
    until_async("something is trimmed", is_trimmed).await;
    assert!(oldest > 101, "hardly anything was trimmed: {oldest}");
    for language in ALL {
        let mut follower =
            Follower::new(language, &gateway(&site), &keys.bot.pubkey().to_string(), &keys.follower);
        follower.write_state(&key, 100);
        follower.start();
        follower.until_stderr_contains(&format!("signals between 101 and {} are lost", oldest - 1)).await;
        follower.until_stderr_contains(&format!("connected; going on after {}", oldest - 1)).await;
    }
}
