//! Daily limits, and the public URL.

use super::Scene;
use crate::bots::{Bot, relays};
use crate::client::{Api, registration, subscription};
use crate::connection::{Connection, Follower};
use crate::http::Request;
use crate::program::Site;

#[tokio::test]
async fn a_key_and_an_address_have_daily_limits() {
    let sim = relays(1).await;
    let site = Site::on(&sim)
        .set("RELAYER_FANOUT__DAILY_LIMIT", "4")
        .set("RELAYER_API__ADMIN_TOKEN", super::ADMIN_TOKEN);
    let _running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::registered(1, &api).await;
    // A call refused for another reason does not count.
    let wrong = registration(bot.key.pubkey(), "");
    for _ in 0..10 {
        assert_eq!(api.call(&bot.key, wrong.clone()).await.status, 400);
    }
    for number in 2..5 {
        Follower::new(number).follow(&api, bot.key.pubkey()).await;
    }
    let late = Follower::new(9);
    let request = subscription(bot.key.pubkey(), late.key.pubkey(), None);
    let answer = api.call(&late.key, request.clone()).await;
    answer.assert(429, "rate_limited", "4 calls a day");
    let seconds: u64 = answer.header("retry-after").expect("a Retry-After header").parse().unwrap();
    assert!((86_400 / 4 - 100..=86_400 / 4 + 1).contains(&seconds), "{seconds}");
    // Admin calls and read requests do not count.
    let admin = request.header("Authorization", format!("Bearer {}", super::ADMIN_TOKEN));
    assert_eq!(api.send(admin).await.status, 201);
    assert_eq!(api.followers(&bot.key).await.len(), 4);
    late.connect(&api, "").await;
}

/// Without a public URL, the gateway cannot tell whether a proof was made for another server.
#[tokio::test]
async fn without_a_public_url_on_all_addresses_no_proof_is_accepted() {
    let site = Site::empty()
        .set("RELAYER_OUTPUT__BIND_ADDRESS", "0.0.0.0")
        .set("RELAYER_API__ADMIN_TOKEN", super::ADMIN_TOKEN);
    let _running = site.start().await;
    let api = Api::of(&site);
    let (bot, follower) = (Bot::new(1), Follower::new(2));
    let register = registration(bot.key.pubkey(), "a name");
    let refused = api.call(&bot.key, register.clone()).await;
    refused.assert(403, "public_url_required", "public_url under [api]");
    for request in [Request::upgrade("/fanout"), api.signed(&follower.key, Request::upgrade("/fanout"))] {
        api.send(request).await.assert(403, "public_url_required", "public_url under [api]");
    }
    // The admin token needs no proof.
    let admin = register.header("Authorization", format!("Bearer {}", super::ADMIN_TOKEN));
    assert_eq!(api.send(admin).await.status, 201);
}

#[tokio::test]
async fn with_a_public_url_proofs_are_for_that_alone() {
    let scene_site = |site: Site| {
        site.set("RELAYER_OUTPUT__BIND_ADDRESS", "0.0.0.0")
            .set("RELAYER_API__PUBLIC_URL", "https://relayer.example/gateway")
    };
    let sim = relays(1).await;
    let site = scene_site(Site::on(&sim));
    let _running = site.start().await;
    let inside = Api::of(&site);
    let api = Api { url: "https://relayer.example/gateway".to_owned(), ..inside.clone() };
    let bot = Bot::registered(1, &api).await;
    let follower = Follower::new(2);
    follower.follow(&api, bot.key.pubkey()).await;
    // A proxy would forward these requests.
    let mut connections = [
        Connection::with_token(&api, "?cursor=0", &follower.key).await,
        Connection::with_answer(&api, "?cursor=0", &follower.key).await,
    ];
    let (gateway, signal) = (api.identity().await, bot.publish(&sim));
    for connection in &mut connections {
        assert_eq!(follower.opener(&gateway).open(&connection.next().await), signal);
    }
    // A proof for the internal address is not a proof for the gateway.
    let request = subscription(bot.key.pubkey(), follower.key.pubkey(), None);
    inside.call(&follower.key, request).await.assert(401, "unauthorized", "another URL");
    let refused = inside.call(&follower.key, Request::upgrade("/fanout")).await;
    refused.assert(401, "unauthorized", "another URL");
}

#[tokio::test]
async fn without_a_fan_out_all_calls_fail() {
    let scene = Site::empty().set("RELAYER_FANOUT__ENABLED", "false");
    let _running = scene.start().await;
    let api = Api::of(&scene);
    let key = Follower::new(1).key;
    for request in [Request::upgrade("/fanout"), registration(key.pubkey(), "a name")] {
        api.call(&key, request).await.assert(404, "fanout_disabled", "enabled = true under [fanout]");
    }
}

/// Pages of other sites are refused even if some origins are allowed.
#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let allowed = |site: Site| site.set("RELAYER_OUTPUT__ALLOWED_ORIGINS", "[\"https://app.example\"]");
    let scene = Scene::with(allowed).await;
    let upgrade = |origin| Request::upgrade("/fanout").header("Origin", origin);
    let refused = scene.api.call(&scene.follower.key, upgrade("https://evil.example")).await;
    refused.assert(403, "origin_not_allowed", "");
    assert_eq!(scene.api.call(&scene.follower.key, upgrade("https://app.example")).await.status, 101);
}
