//! Caps: how relays answer a filter when more events are available or requested than the cap.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use relay_sim::{Cap, Count, Limits, Order, Sim, SimBuilder, Who};
use support::{Client, Seen, created_at, id};
use wire::Signer;

const BASE: u64 = 1_700_000_000;

/// Two relays that both have 300 stored events; the second has the cap.
fn two(cap: Cap) -> SimBuilder {
    let sim = Sim::builder().seed(7).relays(2).events(300).copies(2).stored(1.0).base(BASE);
    sim.caps(Who::These(vec![1]), cap)
}

fn lengths(answer: Result<Vec<String>, String>) -> Result<usize, String> {
    answer.map(|events| events.len())
}

#[tokio::test]
async fn a_clamping_relay_keeps_back_the_oldest_and_says_nothing() {
    let sim = two(Cap::clamping(50)).start().await.expect("started");
    let mut uncapped = Client::connect(&sim.url(0)).await;
    let all = uncapped.ask("{}").await.expect("an answer");
    assert_eq!(all.len(), 300);
    let mut capped = Client::connect(&sim.url(1)).await;
    assert_eq!(capped.ask("{}").await.expect("an answer"), all[..50]);
    assert_eq!(capped.ask(r#"{"limit":500}"#).await.expect("an answer"), all[..50]);
    assert_eq!(sim.stats().of(1, Count::Capped), 2);
    // An answer counts as capped neither at a smaller limit nor within the cap.
    assert_eq!(capped.ask(r#"{"limit":50}"#).await.expect("an answer"), all[..50]);
    let since = created_at(&all[49]) + 1;
    assert!(capped.ask(&format!(r#"{{"since":{since}}}"#)).await.expect("an answer").len() < 50);
    assert_eq!((sim.stats().get(Count::Capped), sim.stats().get(Count::Closed)), (2, 0));
}

#[tokio::test]
async fn windows_find_what_a_cap_keeps_back() {
    let sim = two(Cap::clamping(50)).start().await.expect("started");
    let mut client = Client::connect(&sim.url(1)).await;
    let mut ids = std::collections::HashSet::new();
    let (mut until, mut requests) = (u64::MAX, 0);
    loop {
        let events = client.ask(&format!(r#"{{"until":{until}}}"#)).await.expect("an answer");
        ids.extend(events.iter().map(|event| id(event)));
        requests += 1;
        match events.last() {
            Some(last) if events.len() == 50 => until = created_at(last),
            _ => break,
        }
    }
    assert_eq!(ids.len(), 300);
    assert!((6..10).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_refusing_relay_tells_the_greatest_limit() {
    let sim = two(Cap::refusing(50)).start().await.expect("started");
    let mut client = Client::connect(&sim.url(1)).await;
    let refused = Err("invalid: limit must be at most 50".to_owned());
    for (filters, expected) in [
        ("{}", refused.clone()),
        (r#"{"limit":51}"#, refused.clone()),
        (r#"{"limit":50}"#, Ok(50)),
        (r#"{"limit":50},{"limit":51}"#, refused.clone()),
        (r#"{"limit":0}"#, Ok(0)),
    ] {
        assert_eq!(lengths(client.ask(filters).await), expected, "{filters}");
    }
    assert_eq!((sim.stats().get(Count::RequestsRefused), sim.stats().get(Count::Closed)), (3, 3));

    let sim = two(Cap::refusing(50).default_limit(20)).start().await.expect("started");
    let mut client = Client::connect(&sim.url(1)).await;
    assert_eq!(lengths(client.ask("{}").await), Ok(20));
    assert_eq!(lengths(client.ask(r#"{"limit":51}"#).await), refused);
}

#[tokio::test]
async fn a_relay_may_refuse_what_too_many_events_match() {
    let sim = two(Cap::too_many(50)).start().await.expect("started");
    let mut newest: Vec<u64> = sim.events().iter().map(|event| event.created_at()).collect();
    newest.sort_unstable_by_key(|time| std::cmp::Reverse(*time));
    let fits = newest.iter().filter(|time| **time > newest[50]).count();
    let mut client = Client::connect(&sim.url(1)).await;
    let refused = Err("error: too many results".to_owned());
    for (filters, expected) in [
        ("{}".to_owned(), refused.clone()),
        (r#"{"limit":3}"#.to_owned(), refused),
        (format!(r#"{{"since":{}}}"#, newest[50] + 1), Ok(fits)),
        (format!(r#"{{"since":{},"limit":3}}"#, newest[50] + 1), Ok(3)),
        (r#"{"limit":0}"#.to_owned(), Ok(0)),
    ] {
        assert_eq!(lengths(client.ask(&filters).await), expected, "{filters}");
    }
}

#[tokio::test]
async fn capped_answers_may_come_in_a_wrong_order() {
    let sim = two(Cap::clamping(50)).start().await.expect("started");
    let mut all = Client::connect(&sim.url(0)).await.ask("{}").await.expect("an answer");
    all.reverse();
    let ask = async |order| {
        let sim = two(Cap::clamping(50).order(order)).start().await.expect("started");
        Client::connect(&sim.url(1)).await.ask("{}").await.expect("an answer")
    };
    assert_eq!(ask(Order::OldestFirst).await, all[..50]);
    let unordered = ask(Order::Unordered).await;
    assert_eq!(unordered.len(), 50);
    assert_eq!(unordered, ask(Order::Unordered).await);
    let times: Vec<u64> = unordered.iter().map(|event| created_at(event)).collect();
    let (newest, oldest) = (times.iter().max(), times.iter().min());
    assert!(!times.is_sorted() && !times.is_sorted_by_key(|time| std::cmp::Reverse(*time)));
    assert!(newest > Some(&created_at(&all[200])) && oldest < Some(&created_at(&all[100])));
}

#[tokio::test]
async fn a_limit_of_zero_gives_live_events_only_or_is_refused() {
    let zero = r#"["REQ","s",{"limit":0}]"#;
    let sim =
        two(Cap::refusing(50)).scripted(1).limits(Who::These(vec![2]), Limits::new().refuse_limit_zero());
    let sim = sim.start().await.expect("started");
    for relay in [0, 1] {
        let mut client = Client::connect(&sim.url(relay)).await;
        client.say(zero).await;
        assert_eq!(client.next().await, Seen::Eose);
        let event = Signer::from_seed(1).sign(BASE, relay as u16, &[] as &[Vec<String>], "");
        sim.publish([relay], event.json().clone());
        assert!(matches!(client.next().await, Seen::Event(text) if id(&text) == event.id().to_string()));
    }
    let mut client = Client::connect(&sim.url(2)).await;
    assert_eq!(client.ask(r#"{"limit":0}"#).await, Err("invalid: limit must be at least 1".to_owned()));
    assert_eq!(lengths(client.ask(r#"{"limit":1}"#).await), Ok(0));
}

#[tokio::test]
async fn what_arrives_between_two_questions_is_found() {
    let sim = Sim::builder().scripted(1).start().await.expect("started");
    let mut expected = Vec::new();
    for number in 0..50_u64 {
        // The numbers are not in the order of the dates.
        let date = BASE + number * 7 % 10;
        let event = Signer::from_seed(number).sign(date, 1, &[] as &[Vec<String>], "");
        sim.publish([0], event.json().clone());
        expected.push((std::cmp::Reverse(date), event.id().to_string()));
        expected.sort_unstable();
        let stored = Client::connect(&sim.url(0)).await.ask("{}").await.expect("an answer");
        assert!(stored.iter().map(|event| id(event)).eq(expected.iter().map(|(_, id)| id.clone())));
    }
}
