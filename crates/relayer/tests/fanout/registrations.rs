//! Who may register bots, and the calls of the operator.

use serde_json::Value;
use wire::VerifiedEvent;

use crate::bots::{Bot, publish, relays};
use crate::client::{Api, registration, subscription};
use crate::connection::Follower;
use crate::http::{Request, Response, until};
use crate::program::Site;
use crate::token::now;

const ADMIN: &str = "0123456789abcdef0123";

/// Sends a call of the operator.
async fn operator(api: &Api, method: &str, path: &str) -> Response {
    api.send(Request::new(method, path).header("Authorization", format!("Bearer {ADMIN}"))).await
}

async fn listed(api: &Api) -> Vec<(String, String)> {
    let answer = operator(api, "GET", "/api/bots").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let bots = answer.json()["bots"].as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    bots.iter().map(|bot| (text(&bot["bot_pubkey"]), text(&bot["state"]))).collect()
}

async fn site(settings: &[(&str, &str)]) -> (relay_sim::Sim, Site) {
    let sim = relays(1).await;
    let site = Site::on(&sim).set("RELAYER_API__ADMIN_TOKEN", ADMIN);
    let site = settings.iter().fold(site, |site, (key, value)| site.set(key, *value));
    (sim, site)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_registry_takes_a_new_bot_and_the_operator_lists_and_removes_bots() {
    let (sim, site) = site(&[("RELAYER_FANOUT__MAX_BOTS", "3")]).await;
    let _running = site.start().await;
    let api = Api::of(&site);
    for seed in 1..=10 {
        Bot::registered(seed, &api).await;
    }
    let real = Bot::registered(11, &api).await;
    let bots = listed(&api).await;
    assert!(
        bots.len() == 3 && bots.contains(&(real.key.pubkey().to_string(), "registered".to_owned())),
        "{bots:?}"
    );
    let (first, rest) = (operator(&api, "GET", "/api/bots?limit=1").await.json(), bots[1].0.clone());
    assert_eq!((&first["total"], &first["next"]), (&3.into(), &bots[0].0.clone().into()));
    let second = operator(&api, "GET", &format!("/api/bots?limit=1&after={}", bots[0].0)).await.json();
    assert_eq!(second["bots"][0]["bot_pubkey"], rest);

    let idle =
        bots.iter().find(|(key, _)| *key != real.key.pubkey().to_string()).expect("two more").0.clone();

    let follower = Follower::new(20);
    follower.follow(&api, real.key.pubkey()).await;
    let mut connection = follower.connect(&api, "").await;
    let gone = real.publish(&sim);
    assert_eq!(follower.opener(&api.identity().await).open(&connection.next().await), gone);
    let path = format!("/api/bots/{}", real.key.pubkey());
    let other = Bot::new(12);
    api.call(&other.key, Request::new("DELETE", &path)).await.assert(403, "not_yours", "another key");
    api.call(&other.key, Request::new("GET", "/api/bots")).await.assert(403, "admin_only", "operator");
    let answer = api.call(&real.key, Request::new("DELETE", &path)).await;
    assert_eq!((answer.status, answer.json()["deleted"].clone()), (200, true.into()), "{answer:?}");
    let told = connection.notice().await;
    assert_eq!(told["type"], "unsubscribed", "{told}");
    assert_eq!(operator(&api, "DELETE", &path).await.json()["deleted"], false);
    assert_eq!(operator(&api, "DELETE", &format!("/api/bots/{idle}")).await.json()["deleted"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_approval_a_bot_waits_for_the_operator() {
    let (sim, site) = site(&[("RELAYER_FANOUT__REGISTRATION", "approve")]).await;
    let running = site.start().await;
    let api = Api::of(&site);
    let (bot, follower) = (Bot::new(1), Follower::new(2));
    let answer = api.call(&bot.key, registration(bot.key.pubkey(), " Momentum ")).await.json();
    assert_eq!((&answer["state"], &answer["name"]), (&"pending".into(), &"Momentum".into()), "{answer}");
    let subscribe = || subscription(bot.key.pubkey(), follower.key.pubkey(), None);
    api.call(&follower.key, subscribe()).await.assert(403, "bot_not_approved", "approval");
    assert_eq!(listed(&api).await, [(bot.key.pubkey().to_string(), "pending".to_owned())]);
    // After a restart, the bot still waits for approval, and cannot approve itself.
    running.kill();
    let _running = site.start().await;
    let path = format!("/api/bots/{}/approve", bot.key.pubkey());
    api.call(&bot.key, Request::new("POST", &path)).await.assert(403, "admin_only", "operator");
    api.call(&follower.key, subscribe()).await.assert(403, "bot_not_approved", "approval");
    assert_eq!(operator(&api, "POST", &path).await.json()["approved"], true);
    follower.follow(&api, bot.key.pubkey()).await;
    let mut connection = follower.connect(&api, "").await;
    let signal = bot.publish(&sim);
    assert_eq!(follower.opener(&api.identity().await).open(&connection.next().await), signal);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_signal_of_a_bot_is_known_also_after_a_restart() {
    let (sim, site) = site(&[]).await;
    let running = site.start().await;
    let api = Api::of(&site);
    let (bot, other) = (Bot::registered(1, &api).await, Bot::registered(2, &api).await);
    let of = async |bot: &Bot| {
        let bots =
            operator(&api, "GET", "/api/bots").await.json()["bots"].as_array().expect("a list").clone();
        bots.into_iter().find(|one| one["bot_pubkey"] == bot.key.pubkey().to_string()).expect("the bot")
    };
    assert_eq!((&of(&bot).await["last_signal"], &of(&bot).await["published"]), (&Value::Null, &false.into()));
    let (first, second) = (bot.publish(&sim), bot.publish(&sim));
    // An event of another kind is no signal.
    publish(&sim, &bot.event(1, now()));
    api.until_head(3).await;
    let log = api.log().await;
    let newest = [first, second].into_iter().max_by_key(|signal| seq_of(&log, signal)).expect("two");
    let is_shown = async |what: &str| {
        until(what, async || of(&bot).await["last_signal"]["id"] == newest.id().to_string()).await;
        of(&bot).await
    };
    let shown = is_shown("the signal is shown").await;
    assert_eq!(
        (&shown["last_signal"]["seq"], &shown["published"]),
        (&seq_of(&log, &newest).into(), &true.into())
    );
    let received_at = shown["last_signal"]["received_at"].as_u64().expect("a time");
    assert!(received_at.abs_diff(now() * 1_000) < 60_000, "{received_at}");
    running.kill();
    let _running = site.start().await;
    assert_eq!(is_shown("it is read again").await, shown);
    assert_eq!(of(&other).await["last_signal"], Value::Null);
}

fn seq_of(log: &[(u64, Value)], event: &VerifiedEvent) -> u64 {
    log.iter().find(|(_, logged)| logged["id"] == event.id().to_string()).expect("it is in the log").0
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_registration_is_for_the_operator_and_new_bots_are_limited_by_address() {
    let (_sim, closed) = site(&[("RELAYER_FANOUT__REGISTRATION", "closed")]).await;
    let _running = closed.start().await;
    let api = Api::of(&closed);
    let bot = Bot::new(1);
    let register = registration(bot.key.pubkey(), "one");
    api.call(&bot.key, register.clone()).await.assert(403, "registration_closed", "ask its operator");
    let answer = api.send(register.header("Authorization", format!("Bearer {ADMIN}"))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    api.register(&bot.key, "another name").await;

    let (_sim, counted) = site(&[("RELAYER_FANOUT__DAILY_NEW_BOTS", "2")]).await;
    let _running = counted.start().await;
    let api = Api::of(&counted);
    for seed in [1, 2, 1, 2, 1] {
        Bot::registered(seed, &api).await;
    }
    let third = Bot::new(3);
    let answer = api.call(&third.key, registration(third.key.pubkey(), "three")).await;
    answer.assert(429, "rate_limited", "daily_new_bots");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misleading_name_is_refused() {
    let (_sim, site) = site(&[]).await;
    let _running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::new(1);
    for name in ["   ", "a\u{202e}b", "Momentum\u{200b}", "\u{2066}x", "a\tb"] {
        let answer = api.call(&bot.key, registration(bot.key.pubkey(), name)).await;
        answer.assert(400, "bad_name", "1 to 100 characters");
    }
}
