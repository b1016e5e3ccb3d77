//! Invalid input: SQL, oversized texts, and invalid keys.

use base64::Engine;
use serde_json::{Value, json};
use wire::Signer;

use super::Scene;
use crate::bots::Bot;
use crate::client::{listing, registration, subscription};
use crate::connection::Follower;
use crate::http::{Request, Response};
use crate::postgres::Database;

const SQL: [&str; 5] = [
    "'; DROP TABLE moltrade_relayer.follows; --",
    "\" OR 1=1 --",
    "x'); DELETE FROM moltrade_relayer.bots; COMMIT; --",
    "$1",
    "\\'; SELECT pg_sleep(10); --",
];

/// Three invalid keys: an x off the curve, the field's order, and the greatest 256-bit number.
const OFF_THE_CURVE: [&str; 3] = [
    "0000000000000000000000000000000000000000000000000000000000000005",
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

fn register(body: &Value) -> Request {
    Request::new("POST", "/api/bots/register").json(body.to_string())
}

fn subscribe(body: &Value) -> Request {
    Request::new("POST", "/api/subscriptions").json(body.to_string())
}

/// A text, percent-encoded for a path.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Sends all requests with a text in place of a key, and returns the responses.
async fn with_keys(scene: &Scene, text: &str) -> Vec<Response> {
    let (key, good) = (&scene.follower.key, scene.follower.key.pubkey().to_string());
    let bot = scene.bot.key.pubkey();
    let path = encoded(text);
    let mut answers = Vec::new();
    for request in [
        register(&json!({ "bot_pubkey": text, "name": "a name" })),
        subscribe(&json!({ "bot_pubkey": text, "follower_pubkey": good })),
        subscribe(&json!({ "bot_pubkey": bot, "follower_pubkey": text })),
        Request::new("GET", &format!("/api/subscriptions/{path}")),
        Request::new("DELETE", &format!("/api/subscriptions/{path}/{good}")),
        Request::new("DELETE", &format!("/api/subscriptions/{bot}/{path}")),
    ] {
        answers.push(scene.api.call(key, request).await);
    }
    // The bot may list its own followers.
    let page = Request::new("GET", &format!("/api/subscriptions/{bot}?after={path}"));
    answers.push(scene.api.call(&scene.bot.key, page).await);
    answers
}

async fn sql_means_nothing(scene: Scene) {
    for (text, seed) in SQL.into_iter().zip(100..) {
        for answer in with_keys(&scene, text).await {
            answer.assert(400, "bad_public_key", "must be a public key");
        }
        // If a field allows any text, SQL is stored there as text.
        let (bot, follower) = (Bot { name: text.to_owned(), ..Bot::new(seed) }, Follower::new(seed + 100));
        scene.api.register(&bot.key, &bot.name).await;
        let follower = follower.sharing(&format!("{text} and sixteen bytes"));
        follower.follow(&scene.api, bot.key.pubkey()).await;
        let listed = scene.api.call(&bot.key, listing(bot.key.pubkey())).await.json();
        assert_eq!((&listed["name"], &listed["total"]), (&text.into(), &1.into()));
        let mut connection = follower.connect(&scene.api, "").await;
        let signal = bot.publish(&scene.sim);
        assert_eq!(follower.opener(&scene.gateway).open(&connection.next().await), signal);
        let query = format!("/fanout?cursor={0}&consumer={0}", encoded(text));
        assert_eq!(scene.api.call(&follower.key, Request::upgrade(&query)).await.status, 400);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn sql_in_every_field() {
    sql_means_nothing(Scene::start().await).await;
}

#[tokio::test]
async fn sql_in_every_field_with_postgres() {
    let database = Database::fresh();
    sql_means_nothing(Scene::with(|site| site.set("RELAYER_POSTGRES__DSN", &*database.dsn)).await).await;
}

#[tokio::test]
async fn keys_that_are_no_keys() {
    let scene = Scene::start().await;
    for key in OFF_THE_CURVE {
        for answer in with_keys(&scene, key).await {
            answer.assert(400, "bad_public_key", "not a point of the curve");
        }
    }
    let hex = scene.bot.key.pubkey().to_string();
    for key in
        ["x", "npub1", &hex[1..], &format!("{hex}00"), &hex.replace(&hex[..1], "g"), &"1".repeat(1_000)]
    {
        for answer in with_keys(&scene, key).await {
            answer.assert(400, "bad_public_key", "must be a public key");
        }
    }
    scene.assert_unharmed().await;
}

/// For a key off the curve, no valid signature exists.
#[tokio::test]
async fn a_proof_by_an_invalid_key() {
    let scene = Scene::start().await;
    let request = subscription(scene.bot.key.pubkey(), scene.follower.key.pubkey(), None);
    let event = crate::token::text(&scene.api.token(&request).sign(&scene.follower.key));
    for key in OFF_THE_CURVE {
        let event = event.replace(&scene.follower.key.pubkey().to_string(), key);
        let token = crate::token::header(event.as_bytes());
        let answer = scene.api.send(request.clone().header("Authorization", token)).await;
        answer.assert(401, "unauthorized", "is not valid");
    }
}

#[tokio::test]
async fn names_and_secrets_of_the_wrong_length() {
    let scene = Scene::start().await;
    let (bot, follower) = (scene.bot.key.pubkey(), &scene.follower.key);
    for name in ["", &"n".repeat(101), "a\nb", "\u{1b}[31m", "\u{0}"] {
        let answer = scene.api.call(&scene.bot.key, registration(bot, name)).await;
        answer.assert(400, "bad_name", "1 to 100 characters");
    }
    for secret in ["", "fifteen bytes!!", &"s".repeat(257)] {
        let answer = scene.api.call(follower, subscription(bot, follower.pubkey(), Some(secret))).await;
        answer.assert(400, "bad_shared_secret", "16 to 256 bytes");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn secrets_that_others_know_or_can_guess() {
    let scene = Scene::start().await;
    let (bot, follower) = (scene.bot.key.pubkey(), &scene.follower.key);
    let gateway = scene.api.identity().await;
    let base64 = |key: &wire::PublicKey| base64::engine::general_purpose::STANDARD.encode(key.as_bytes());
    for (secret, why) in [
        ("npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg".to_owned(), "NIP-19"),
        ("nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5".to_owned(), "NIP-19"),
        (bot.to_string(), "64 hex digits"),
        ("5e".repeat(32), "64 hex digits"),
        (base64(bot), "public key"),
        (base64(follower.pubkey()), "public key"),
        (base64(&gateway), "public key"),
        ("passwordpassword".to_owned(), "too little variety"),
    ] {
        let answer = scene.api.call(follower, subscription(bot, follower.pubkey(), Some(&secret))).await;
        answer.assert(400, "bad_shared_secret", why);
        answer.assert(400, "bad_shared_secret", "openssl rand -base64 32");
        assert!(!answer.body.contains(&secret), "{answer:?}");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn bodies_that_are_none() {
    let scene = Scene::start().await;
    let (bot, follower) = (scene.bot.key.pubkey(), &scene.follower.key);
    let good = subscription(bot, follower.pubkey(), None);
    for body in [
        "",
        "null",
        "[]",
        "{",
        "{}",
        &format!(r#"["{bot}","{}"]"#, follower.pubkey()),
        &format!(r#"{{"bot_pubkey":"{bot}","follower_pubkey":7}}"#),
        &format!(r#"{{"bot_pubkey":"{bot}","follower_pubkey":"{}","x":1}}"#, follower.pubkey()),
        &format!(r#"{{"bot_pubkey":"{bot}","bot_pubkey":"{bot}","follower_pubkey":"{bot}"}}"#),
        "\u{0}",
    ] {
        let request = Request { body: body.into(), ..good.clone() };
        scene.api.call(follower, request).await.assert(400, "bad_body", "the body must be");
    }
    let binary = Request { body: vec![0xff; 100], ..good.clone() };
    scene.api.call(follower, binary).await.assert(400, "bad_body", "");
    let huge = Request { body: vec![b' '; 20_000], ..good.clone() };
    scene.api.call(follower, huge).await.assert(413, "body_too_large", "16384 bytes");
    let unsaid = Request { headers: Vec::new(), ..good };
    scene.api.call(follower, unsaid).await.assert(415, "json_expected", "application/json");
    scene.assert_unharmed().await;
}

/// Sends an oversized body without a token. The gateway does not buffer the body.
#[tokio::test]
async fn a_content_length_over_the_limit() {
    let scene = Scene::start().await;
    let request = subscription(scene.bot.key.pubkey(), scene.follower.key.pubkey(), None);
    let request = Request { body: vec![b'{'; 3_000_000], ..request };
    scene.api.call(&Signer::from_seed(9), request).await.assert(413, "body_too_large", "");
}
