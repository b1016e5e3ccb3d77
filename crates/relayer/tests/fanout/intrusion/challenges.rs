//! Invalid NIP-42 answers, and other first messages.

use std::time::{Duration, Instant};

use tokio_websockets::Message;
use wire::Signer;

use super::Scene;
use crate::connection::{Closed, Connection, ws};
use crate::token::{AuthEvent, tampered, text};

/// The time that the gateway gives a client to answer.
const TOO_LATE: Duration = Duration::from_secs(10);

/// Asserts that a client gets the reason and that the connection is closed.
async fn assert_refused(mut connection: Connection, id: String, message: &str) {
    let reply = connection.text().await.unwrap();
    assert!(reply.starts_with(&format!(r#"["OK","{id}",false,"auth-required: "#)), "{reply}");
    assert!(reply.contains(message), "{message:?} is not in {reply}");
    assert_closed(connection, "auth-required: the proof is not valid").await;
}

async fn assert_closed(mut connection: Connection, reason: &str) {
    let closed = connection.text().await.unwrap_err();
    assert_eq!(closed.code, 1008);
    assert!(closed.reason.starts_with(reason), "{closed:?}");
}

/// Asserts that an invalid answer is refused.
async fn refused(message: &str, spoil: impl FnOnce(&mut AuthEvent)) {
    let scene = Scene::start().await;
    let mut connection = scene.open().await;
    let mut answer = AuthEvent::new(&connection.challenge().await, ws(&scene.api));
    spoil(&mut answer);
    let answer = answer.sign(&scene.follower.key);
    connection.auth(&text(&answer)).await;
    assert_refused(connection, answer.id().to_string(), message).await;
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn expired() {
    refused("it has expired", |answer| answer.created_at -= 610).await;
}

#[tokio::test]
async fn dated_ahead() {
    refused("dated ahead", |answer| answer.created_at += 610).await;
}

#[tokio::test]
async fn of_another_kind() {
    refused("kind 22242", |answer| answer.kind = 27_235).await;
}

/// The answer was given to another relay, and a man in the middle forwards it.
#[tokio::test]
async fn given_to_another_relay() {
    refused("another URL", |answer| answer.relay = "wss://relay.example/fanout".to_owned()).await;
}

#[tokio::test]
async fn given_to_another_port() {
    refused("another URL", |answer| answer.relay = answer.relay.replace("127.0.0.1:", "127.0.0.1:1")).await;
}

#[tokio::test]
async fn given_to_nobody() {
    refused("another URL", |answer| answer.relay.clear()).await;
}

#[tokio::test]
async fn to_no_challenge() {
    refused("another challenge", |answer| answer.challenge.clear()).await;
}

/// The answer was valid on the connection that got the challenge.
#[tokio::test]
async fn to_the_challenge_of_another_connection() {
    let scene = Scene::start().await;
    let (mut first, mut second) = (scene.open().await, scene.open().await);
    let (challenge, other) = (first.challenge().await, second.challenge().await);
    assert_ne!(challenge, other);
    let answer = AuthEvent::new(&challenge, ws(&scene.api)).sign(&scene.follower.key);
    first.auth(&text(&answer)).await;
    assert!(first.text().await.unwrap().contains("true"));
    second.auth(&text(&answer)).await;
    assert_refused(second, answer.id().to_string(), "another challenge").await;
}

#[tokio::test]
async fn with_a_signature_of_something_else() {
    let scene = Scene::start().await;
    let mut connection = scene.open().await;
    let answer = AuthEvent::new(&connection.challenge().await, ws(&scene.api)).sign(&scene.follower.key);
    connection.auth(&tampered(&answer, &scene.follower.key)).await;
    assert_refused(connection, answer.id().to_string(), "forged").await;
}

/// The gateway admits a client with an unknown key, as NIP-42 specifies, but sends the client no
/// stored or new signals.
#[tokio::test]
async fn with_a_key_that_follows_nobody() {
    let scene = Scene::start().await;
    let mut follower = scene.follower.connect(&scene.api, "").await;
    scene.bot.publish(&scene.sim);
    follower.next().await;
    let mut stranger = Connection::with_answer(&scene.api, "?cursor=0", &Signer::from_seed(66)).await;
    for _ in 0..3 {
        scene.bot.publish(&scene.sim);
        follower.next().await;
    }
    assert_eq!(stranger.text_within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn too_late() {
    let scene = Scene::start().await;
    let mut connection = scene.open().await;
    let began = Instant::now();
    let challenge = connection.challenge().await;
    let closed = connection.text().await.unwrap_err();
    let reason = "auth-required: the challenge was not answered within 10 seconds".to_owned();
    assert_eq!(closed, Closed { code: 1008, reason });
    assert!(began.elapsed() + Duration::from_millis(100) > TOO_LATE, "{:?}", began.elapsed());
    let answer = AuthEvent::new(&challenge, ws(&scene.api)).sign(&scene.follower.key);
    connection.auth(&text(&answer)).await;
    assert_eq!(connection.text().await.unwrap_err().code, 0);
}

/// Pings do not extend the time limit.
#[tokio::test]
async fn pings_are_no_answer() {
    let scene = Scene::start().await;
    let mut connection = scene.open().await;
    connection.challenge().await;
    let began = Instant::now();
    let closed = loop {
        connection.say(Message::ping("there")).await;
        match connection.text_within(Duration::from_millis(200)).await {
            Some(end) => break end.unwrap_err(),
            None => assert!(began.elapsed() < 2 * TOO_LATE),
        }
    };
    assert!(closed.reason.contains("within 10 seconds"), "{closed:?}");
}

#[tokio::test]
async fn other_first_words() {
    let scene = Scene::start().await;
    for message in [
        Message::text(r#"["REQ","all",{}]"#),
        Message::text(r#"["REQ","mine",{"kinds":[30931]}]"#),
        Message::text(r#"["EVENT",{}]"#),
        Message::text(r#"["AUTH"]"#),
        Message::text(r#"{"ack":1}"#),
        Message::text(""),
        Message::text("["),
        Message::binary(&b"[\"AUTH\",{}]"[..]),
        Message::binary(vec![0_u8; 60_000]),
    ] {
        let mut connection = scene.open().await;
        connection.challenge().await;
        connection.say(message).await;
        assert_closed(connection, "auth-required: answer the challenge with [\"AUTH\",").await;
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn answers_that_are_no_events() {
    let scene = Scene::start().await;
    for event in ["{}", "{\"id\":1}", &format!("{{\"id\":\"{}\"}}", "0".repeat(60_000))] {
        let mut connection = scene.open().await;
        connection.challenge().await;
        connection.auth(event).await;
        assert_closed(connection, "auth-required: the proof is not valid").await;
    }
    scene.assert_unharmed().await;
}

/// The gateway closes the connection without reading a long message to its end.
#[tokio::test]
async fn an_endless_first_message() {
    let scene = Scene::start().await;
    for bytes in [70_000, 5_000_000] {
        let mut connection = scene.open().await;
        connection.challenge().await;
        connection.say(Message::text("x".repeat(bytes))).await;
        let closed = connection.text().await.unwrap_err();
        assert!([0, 1008, 1009].contains(&closed.code), "{closed:?}");
    }
    scene.assert_unharmed().await;
}
