//! NIP-42, and relays that refuse requests.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use relay_sim::{Count, Fault, Refusal, Sim, Who};
use support::{Client, Seen, now};
use wire::Signer;

async fn challenge(client: &mut Client) -> String {
    let Seen::Text(text) = client.next().await else { panic!("no challenge") };
    let (kind, challenge): (String, String) = serde_json::from_str(&text).expect("a challenge");
    assert_eq!(kind, "AUTH");
    challenge
}

/// Signs an answer to a challenge. Returns whether the relay accepts the answer, and the reason.
async fn answer(client: &mut Client, date: u64, kind: u16, challenge: &str, relay: &str) -> (bool, String) {
    let tags = [["challenge", challenge], ["relay", relay]].map(|tag| tag.map(str::to_owned));
    let event = Signer::from_seed(1).sign(date, kind, &tags, "");
    client.say(&format!(r#"["AUTH",{}]"#, String::from_utf8_lossy(event.json()))).await;
    let Seen::Text(ok) = client.next().await else { panic!("no OK") };
    let (kind, id, accepted, reason): (String, String, bool, String) =
        serde_json::from_str(&ok).expect("an OK");
    assert_eq!((kind, id), ("OK".to_owned(), event.id().to_string()));
    (accepted, reason)
}

#[tokio::test]
async fn auth_may_be_offered() {
    let sim = Sim::builder().relays(1).events(50).copies(1).stored(1.0).fault(Fault::Auth, Who::All, 1.0);
    let sim = sim.start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    let challenge = challenge(&mut client).await;
    assert_eq!(client.ask("{}").await.map(|events| events.len()), Ok(50));
    assert_eq!(answer(&mut client, now(), 22_242, &challenge, &sim.url(0)).await, (true, String::new()));
}

#[tokio::test]
async fn auth_may_be_demanded_and_is_checked() {
    let sim =
        Sim::builder().scripted(2).fault(Fault::AuthRequired, Who::All, 1.0).start().await.expect("started");
    let mut client = Client::connect(&sim.url(1)).await;
    let challenge = challenge(&mut client).await;
    let url = sim.url(1);
    let refused = Err("auth-required: this relay serves nobody unknown".to_owned());
    assert_eq!(client.ask("{}").await, refused);
    for (date, kind, said, relay, reason) in [
        (now(), 22_242, "wrong", url.as_str(), "restricted: that is another challenge"),
        (now(), 22_242, &challenge, "ws://127.0.0.1:1/r/1", "restricted: that is for another relay"),
        (now(), 22_242, &challenge, &sim.url(0), "restricted: that is for another relay"),
        (now(), 22_242, &challenge, &url.replace("ws:", "http:"), "restricted: that is for another relay"),
        (now() - 660, 22_242, &challenge, &url, "invalid: created_at is too far from now"),
        (now() + 660, 22_242, &challenge, &url, "invalid: created_at is too far from now"),
        (now(), 1, &challenge, &url, "invalid: an answer is of kind 22242"),
    ] {
        assert_eq!(answer(&mut client, date, kind, said, relay).await, (false, reason.to_owned()));
        assert_eq!(client.ask("{}").await, refused);
    }
    let wss = url.replace("ws:", "WSS:").replace("/r/", "/R/");
    assert_eq!(answer(&mut client, now() - 500, 22_242, &challenge, &wss).await, (true, String::new()));
    assert_eq!(client.ask("{}").await, Ok(Vec::new()));
    let stats = sim.stats();
    assert_eq!((stats.of(1, Count::Authenticated), stats.of(1, Count::RequestsRefused)), (1, 8));
}

#[tokio::test]
async fn the_challenge_may_come_when_a_request_was_refused() {
    let sim =
        Sim::builder().scripted(1).fault(Fault::AuthLate, Who::All, 1.0).start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    assert!(client.is_silent().await);
    assert!(client.ask("{}").await.is_err_and(|reason| reason.starts_with("auth-required:")));
    let challenge = challenge(&mut client).await;
    assert!(client.ask("{}").await.is_err(), "and it comes once");
    assert!(answer(&mut client, now(), 22_242, &challenge, &sim.url(0)).await.0);
    assert_eq!(client.ask("{}").await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_proved_key_may_not_be_enough() {
    let sim = Sim::builder().scripted(1).fault(Fault::AuthRestricted, Who::All, 1.0);
    let sim = sim.start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    let challenge = challenge(&mut client).await;
    assert!(client.ask("{}").await.is_err_and(|reason| reason.starts_with("auth-required:")));
    assert!(answer(&mut client, now(), 22_242, &challenge, &sim.url(0)).await.0);
    assert_eq!(client.ask("{}").await, Err("restricted: not on the list".to_owned()));
}

#[tokio::test]
async fn requests_are_refused_as_often_as_told() {
    let blocked = "blocked: you are not welcome here".to_owned();
    let sim = Sim::builder()
        .scripted(4)
        .refusals(Who::All, Refusal::times(2, "error: come back later"))
        .refusals(Who::These(vec![1]), Refusal::always(&blocked))
        .refusals(Who::These(vec![2]), Refusal::times(1, "restricted: members only").by_notice());
    let sim = sim.start().await.expect("started");
    for (relay, reasons) in [
        (0, vec!["error: come back later", "error: come back later", ""]),
        (1, vec![&blocked; 5]),
        (2, vec!["restricted: members only", ""]),
    ] {
        for reason in reasons {
            // The relay counts refusals over all connections.
            let mut client = Client::connect(&sim.url(relay)).await;
            assert_eq!(client.ask("{}").await.err().unwrap_or_default(), reason);
        }
    }
    assert_eq!((sim.stats().get(Count::Notices), sim.stats().get(Count::RequestsRefused)), (1, 8));
    sim.refuse(1, None);
    assert_eq!(Client::connect(&sim.url(1)).await.ask("{}").await, Ok(Vec::new()));
    sim.refuse(1, Some(Refusal::always("error: again")));
    assert!(Client::connect(&sim.url(1)).await.ask("{}").await.is_err());
}

#[tokio::test]
async fn a_test_ends_subscriptions_for_a_reason() {
    let sim = Sim::builder().scripted(1).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    assert_eq!(client.next().await, Seen::Eose);
    sim.close_subscriptions(0, "restricted: your time is over");
    let closed = r#"["CLOSED","s","restricted: your time is over"]"#.to_owned();
    assert_eq!(client.next().await, Seen::Text(closed));
    let event = Signer::from_seed(1).sign(1, 1, &[] as &[Vec<String>], "");
    sim.publish([0], event.json().clone());
    assert!(client.is_silent().await);
    assert_eq!(client.ask("{}").await.map(|events| events.len()), Ok(1));
}
