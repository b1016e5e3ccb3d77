//! NIP-77: relays with and without reconciliation.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use negentropy::{Id, NegentropyStorageVector};
use relay_sim::{Cap, Count, Fault, Limits, Negentropy, RateLimit, Reconciling, Sim, SimBuilder, Who};
use support::{Client, PATIENCE, Seen, id, information};
use wire::{ClientMessage, Filter, RelayMessage, Signer, VerifiedEvent};

const BASE: u64 = 1_700_000_000;

fn one(events: usize) -> SimBuilder {
    Sim::builder().seed(7).relays(1).events(events).copies(1).stored(1.0).base(BASE)
}

/// The relay's response to our message: a message in hex, or a reason.
async fn exchange(client: &mut Client, message: ClientMessage<'_>) -> Result<String, String> {
    client.say(&message.to_json()).await;
    let Seen::Text(text) = client.next().await else { panic!("no answer") };
    match RelayMessage::parse(text.as_bytes()).expect("a message") {
        RelayMessage::NegMsg { message, .. } => Ok(message.into_owned()),
        RelayMessage::NegErr { reason, .. } | RelayMessage::Notice(reason) => Err(reason.into_owned()),
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    /// Events that we have and the relay lacks.
    have: HashSet<String>,
    need: HashSet<String>,
}

/// Reconciles our events with the relay, and counts the rounds.
async fn reconcile(
    client: &mut Client,
    filter: &str,
    ours: impl Iterator<Item = &VerifiedEvent>,
) -> Result<(Difference, usize), String> {
    let mut storage = NegentropyStorageVector::new();
    for event in ours {
        storage.insert(event.created_at(), Id::from_byte_array(*event.id().as_bytes())).expect("open");
    }
    storage.seal().expect("open");
    let mut us = negentropy::Negentropy::owned(storage, 60_000).expect("a size");
    let (mut have, mut need, mut rounds) = (Vec::new(), Vec::new(), 1);
    let first = faster_hex::hex_string(&us.initiate().expect("a message"));
    let filter = Filter::parse(filter).expect("a filter");
    let open = ClientMessage::NegOpen { subscription: "n".into(), filter, message: first.into() };
    let mut answer = exchange(client, open).await?;
    loop {
        let mut bytes = vec![0; answer.len() / 2];
        faster_hex::hex_decode(answer.as_bytes(), &mut bytes).expect("hex");
        let Some(next) = us.reconcile_with_ids(&bytes, &mut have, &mut need).expect("a lawful message")
        else {
            break;
        };
        rounds += 1;
        let message = faster_hex::hex_string(&next).into();
        answer = exchange(client, ClientMessage::NegMsg { subscription: "n".into(), message }).await?;
    }
    client.say(r#"["NEG-CLOSE","n"]"#).await;
    let hex = |ids: Vec<Id>| ids.iter().map(|id| faster_hex::hex_string(&id.to_bytes())).collect();
    Ok((Difference { have: hex(have), need: hex(need) }, rounds))
}

fn ids<'a>(events: impl Iterator<Item = &'a VerifiedEvent>) -> HashSet<String> {
    events.map(|event| event.id().to_string()).collect()
}

#[tokio::test]
async fn both_sides_learn_what_they_lack() {
    let sim = one(3_000).cap(100).forge(0.2);
    for frame_bytes in [60_000, 4_096] {
        let served = Negentropy::Served(Reconciling::new().frame_bytes(frame_bytes));
        let sim = sim.clone().negentropy(Who::All, served).start().await.expect("started");
        assert!(
            information(&sim, 0, "application/nostr+json", usize::MAX, PATIENCE)
                .await
                .contains("[1,11,42,77]")
        );
        let events = sim.events();
        let mine: Vec<_> = (0..9)
            .map(|n| Signer::from_seed(n).sign(BASE - n * 100, 1, &[] as &[Vec<String>], "mine"))
            .collect();
        // Both sides share all events except a contiguous range and every hundredth event.
        let shared = (0..).zip(&events).filter(|(place, _)| !(500..900).contains(place) && place % 100 != 0);
        let ours = || shared.clone().map(|(_, event)| event).chain(&mine);
        let mut client = Client::connect(&sim.url(0)).await;
        let (difference, rounds) = reconcile(&mut client, "{}", ours()).await.expect("reconciled");
        let lacked = ids(events.iter()).difference(&ids(ours())).cloned().collect();
        assert_eq!(difference, Difference { have: ids(mine.iter()), need: lacked });
        assert!((2..40).contains(&rounds), "{rounds}");
        let stats = sim.stats();
        let counted = [Count::NegOpens, Count::NegMessages, Count::NegAnswers].map(|count| stats.get(count));
        assert_eq!(counted, [1, rounds as u64 - 1, rounds as u64]);
        // The cap also applies to requests by id.
        let wanted: Vec<_> = difference.need.iter().take(150).collect();
        let wanted = client.ask(&serde_json::json!({ "ids": wanted }).to_string()).await.expect("an answer");
        assert_eq!(wanted.len(), 100);
        assert!(wanted.iter().all(|event| difference.need.contains(&id(event))));
    }
}

#[tokio::test]
async fn a_filter_says_what_is_reconciled() {
    let sim = one(500).negentropy(Who::All, Negentropy::served()).start().await.expect("started");
    let event = Signer::from_seed(1).sign(BASE - 100, 7, &[] as &[Vec<String>], "");
    sim.publish([0], event.json().clone());
    let mut client = Client::connect(&sim.url(0)).await;
    let filter = format!(r#"{{"kinds":[7],"since":{},"limit":3}}"#, BASE - 900);
    let (difference, _) = reconcile(&mut client, &filter, std::iter::empty()).await.expect("reconciled");
    let events = sim.events();
    let matching = events.iter().filter(|event| event.kind() == 7 && event.created_at() >= BASE - 900);
    assert!(difference.need.len() > 30 && difference.need.contains(&event.id().to_string()));
    assert_eq!(difference, Difference { need: ids(matching), have: HashSet::new() });
}

#[tokio::test]
async fn relays_refuse_to_reconcile_in_many_ways() {
    let long = Duration::from_secs(3600);
    let served = one(100).negentropy(Who::All, Negentropy::served());
    let big = |records| Negentropy::Served(Reconciling::new().records_max(records));
    let short = Negentropy::Served(Reconciling::new().frame_bytes(4096).rounds_max(1));
    for (sim, reason) in [
        (one(100), "closed: this relay has no NIP-77"),
        (one(100).negentropy(Who::All, Negentropy::Unknown), "error: unknown message type NEG-OPEN"),
        (one(100).negentropy(Who::All, Negentropy::Refused("blocked: no".to_owned())), "blocked: no"),
        (one(100).negentropy(Who::All, big(99)), "blocked: this query is too big"),
        (one(100).negentropy(Who::All, big(100)), ""),
        (one(900).negentropy(Who::All, short), "closed: this takes too long"),
        (served.clone().limits(Who::All, Limits::new().subscriptions(0)), "closed: too many concurrent"),
        (served.clone().rate_limits(Who::All, RateLimit::new(0, long)), "rate-limited: slow down"),
        (served.clone().fault(Fault::AuthRequired, Who::All, 1.0), "auth-required: "),
        (served.caps(Who::All, Cap::refusing(1)), ""),
    ] {
        let sim = sim.start().await.expect("started");
        let mut client = Client::connect(&sim.url(0)).await;
        if reason.starts_with("auth") {
            client.next().await;
        }
        let end = reconcile(&mut client, "{}", sim.events().iter().step_by(2)).await;
        match end {
            Ok((difference, _)) => {
                assert_eq!((difference.need.len(), difference.have.len(), reason), (50, 0, ""))
            }
            Err(error) => assert!(!reason.is_empty() && error.starts_with(reason), "{error}, not {reason}"),
        }
    }
}

#[tokio::test]
async fn a_relay_may_not_answer_at_all() {
    let sim = one(10).negentropy(Who::All, Negentropy::Mute).start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    client.say(r#"["NEG-OPEN","n",{},"6100000200"]"#).await;
    assert!(client.is_silent().await);
    assert_eq!(client.ask("{}").await.map(|events| events.len()), Ok(10));
    assert_eq!(sim.request_times(0).len(), 2);
}

#[tokio::test]
async fn nonsense_ends_a_reconciliation() {
    let sim = one(10).negentropy(Who::All, Negentropy::served()).start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    for message in [
        r#"["NEG-MSG","n","61"]"#,
        r#"["NEG-OPEN","n",{},"6"]"#,
        r#"["NEG-OPEN","n",{},"xx"]"#,
        r#"["NEG-OPEN","n",{},""]"#,
        r#"["NEG-OPEN","n",{},"61000002ffffffff"]"#,
        r#"["NEG-MSG","n","61"]"#,
    ] {
        client.say(message).await;
        let Seen::Text(text) = client.next().await else { panic!("no answer") };
        assert!(text.starts_with(r#"["NEG-ERR","n","#), "{message}: {text}");
    }
    assert_eq!(sim.stats().get(Count::NegErrors), 6);
}
