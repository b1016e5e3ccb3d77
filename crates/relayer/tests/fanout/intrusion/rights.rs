//! Valid proofs of a key that lacks the necessary right, and rights that have ended.

use std::time::Duration;

use wire::Signer;

use super::Scene;
use crate::bots::Bot;
use crate::client::{listing, registration, subscription, unsubscription};
use crate::connection::{Connection, Follower};
use crate::http::until;

/// A key that has no rights here.
fn stranger() -> Signer {
    Signer::from_seed(66)
}

#[tokio::test]
async fn others_are_neither_subscribed_nor_registered_nor_listed_nor_unsubscribed() {
    let scene = Scene::start().await;
    let (bot, follower) = (scene.bot.key.pubkey(), scene.follower.key.pubkey());
    for request in [
        subscription(bot, follower, None),
        subscription(bot, follower, Some("a secret of the stranger")),
        registration(bot, "another name"),
        listing(bot),
        unsubscription(bot, follower),
    ] {
        let answer = scene.api.call(&stranger(), request.clone()).await;
        answer.assert(403, "not_yours", &stranger().pubkey().to_string());
        assert!(!answer.body.contains(&scene.bot.name), "{answer:?}");
    }
    // The bot lacks its follower's rights, and the follower lacks the bot's.
    scene.api.call(&scene.bot.key, subscription(bot, follower, None)).await.assert(403, "not_yours", "");
    scene.api.call(&scene.bot.key, unsubscription(bot, follower)).await.assert(403, "not_yours", "");
    scene.api.call(&scene.follower.key, listing(bot)).await.assert(403, "not_yours", "");
    let listed = scene.api.call(&scene.bot.key, listing(bot)).await.json();
    assert_eq!((&listed["name"], &listed["total"]), (&scene.bot.name.clone().into(), &1.into()));
    assert_eq!(listed["subscriptions"][0]["shared_secret"], false);
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn missing_bots_and_follows_are_reported() {
    let scene = Scene::start().await;
    let follower = &scene.follower.key;
    let unknown = *stranger().pubkey();
    let subscribe = subscription(&unknown, follower.pubkey(), None);
    scene.api.call(follower, subscribe).await.assert(404, "bot_not_found", "registers itself");
    let unsubscribe = unsubscription(&unknown, follower.pubkey());
    scene.api.call(follower, unsubscribe).await.assert(404, "bot_not_found", "");
    scene.api.call(&stranger(), listing(&unknown)).await.assert(404, "bot_not_found", "");
    let unsubscribe = unsubscription(scene.bot.key.pubkey(), &unknown);
    assert_eq!(scene.api.call(&stranger(), unsubscribe).await.json()["deleted"], false);
}

#[tokio::test]
async fn after_unsubscribing_the_open_socket_gets_nothing_more() {
    let scene = Scene::start().await;
    let other = Bot::registered(5, &scene.api).await;
    scene.follower.follow(&scene.api, other.key.pubkey()).await;
    let mut connection = scene.follower.connect(&scene.api, "").await;
    let mut opener = scene.follower.opener(&scene.gateway);
    let signal = scene.bot.publish(&scene.sim);
    assert_eq!(opener.open(&connection.next().await), signal);

    scene.api.unsubscribe(scene.bot.key.pubkey(), &scene.follower.key).await;
    for number in 2..5 {
        scene.bot.publish(&scene.sim);
        scene.api.until_head(number).await;
    }
    // The next signal is from the bot that is still followed, although signals of the other bot
    // came first.
    let signal = other.publish(&scene.sim);
    assert_eq!(opener.open(&connection.next().await), signal);
}

/// The follower gets no past signals, even with an old cursor.
#[tokio::test]
async fn after_unsubscribing_past_signals_are_not_sent() {
    let scene = Scene::start().await;
    scene.bot.publish(&scene.sim);
    scene.api.until_head(1).await;
    scene.follower.connect(&scene.api, "?cursor=0").await.next().await;
    scene.api.unsubscribe(scene.bot.key.pubkey(), &scene.follower.key).await;
    let mut connection = scene.follower.connect(&scene.api, "?cursor=0").await;
    assert_eq!(connection.text_within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_new_secret_applies_to_the_next_signal() {
    let scene = Scene::start().await;
    let (bot, plain) = (scene.bot.key.pubkey(), scene.follower.clone());
    let mut connection = plain.connect(&scene.api, "").await;
    let mut before = plain.clone();
    for secret in [Some("the first secret of the two"), Some("the second secret"), None] {
        let now = Follower { secret: secret.map(str::to_owned), ..plain.clone() };
        now.follow(&scene.api, bot).await;
        let signal = scene.bot.publish(&scene.sim);
        let message = connection.next().await;
        assert_eq!(before.opener(&scene.gateway).try_open(&message), None);
        assert_eq!(now.opener(&scene.gateway).open(&message), signal);
        before = now;
    }
}

/// One bot has two followers, and neither can read the other's messages.
#[tokio::test]
async fn a_message_opens_for_its_follower_alone() {
    let scene = Scene::start().await;
    let other = Follower::new(3).sharing("what only the other knows");
    other.follow(&scene.api, scene.bot.key.pubkey()).await;
    let mut connections = [scene.follower.connect(&scene.api, "").await, other.connect(&scene.api, "").await];
    let signal = scene.bot.publish(&scene.sim);
    let [own, theirs] = &mut connections;
    let (own, theirs) = (own.next().await, theirs.next().await);
    let openers = || [scene.follower.opener(&scene.gateway), other.opener(&scene.gateway)];
    let [mut first, mut second] = openers();
    assert_eq!((first.open(&own), second.open(&theirs)), (signal.clone(), signal));
    assert_eq!((first.try_open(&theirs), second.try_open(&own)), (None, None));
}

/// A client may reconnect before the gateway notices that a connection is broken. The number of
/// connections is still limited.
#[tokio::test]
async fn one_key_has_at_most_sixteen_connections() {
    let scene = Scene::start().await;
    let mut connections = Vec::new();
    for number in 0..16 {
        let mut connection = match number % 2 {
            0 => scene.follower.connect(&scene.api, "").await,
            _ => Connection::with_answer(&scene.api, "", &scene.follower.key).await,
        };
        // A connection counts after its proof is accepted.
        connection.flush().await;
        connections.push(connection);
    }
    let upgrade = crate::http::Request::upgrade("/fanout");
    let refused = scene.api.call(&scene.follower.key, upgrade.clone()).await;
    refused.assert(429, "too_many_connections", "16 connections");
    let mut late = scene.open().await;
    let challenge = late.challenge().await;
    let answer = crate::token::AuthEvent::new(&challenge, crate::connection::ws(&scene.api));
    late.auth(&crate::token::text(&answer.sign(&scene.follower.key))).await;
    assert!(late.text().await.unwrap().contains("true"), "the proof holds");
    let closed = late.text().await.unwrap_err();
    assert_eq!(closed.reason, "restricted: this key has too many connections");
    // Every other key has a separate limit.
    Follower::new(3).connect(&scene.api, "").await;
    connections.pop().unwrap().leave().await;
    until("there is room again", async || {
        scene.api.call(&scene.follower.key, upgrade.clone()).await.status == 101
    })
    .await;
}
