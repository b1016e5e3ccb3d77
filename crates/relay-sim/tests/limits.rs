//! Limits on subscriptions, filters and the rate of requests.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::time::Duration;

use relay_sim::wait::until_async;
use relay_sim::{Count, Limits, RateLimit, Sim, SimBuilder, Who};
use support::{Client, Seen, now};

const LONG: Duration = Duration::from_secs(3600);

async fn rate_limited(limit: RateLimit) -> Sim {
    let sim = Sim::builder().scripted(2).rate_limits(Who::These(vec![0]), limit);
    sim.start().await.expect("started")
}

#[tokio::test]
async fn a_connection_has_so_many_subscriptions_and_filters() {
    let limits = Limits::new().subscriptions(2).filters(2);
    let sim = Sim::builder().scripted(1).limits(Who::All, limits).start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    client.say(r#"["REQ","a",{}]"#).await;
    client.say(r#"["REQ","b",{}]"#).await;
    assert_eq!(client.take(2).await, [Seen::Eose, Seen::Eose]);
    client.say(r#"["REQ","c",{}]"#).await;
    let closed = r#"["CLOSED","c","error: too many concurrent subscriptions"]"#;
    assert_eq!(client.next().await, Seen::Text(closed.to_owned()));
    // A subscription that replaces another one is permitted.
    client.say(r#"["REQ","b",{},{}]"#).await;
    assert_eq!(client.next().await, Seen::Eose);
    client.say(r#"["REQ","b",{},{},{}]"#).await;
    assert_eq!(client.next().await, Seen::Text(r#"["CLOSED","b","invalid: too many filters"]"#.to_owned()));
    client.say(r#"["REQ","c",{}]"#).await;
    assert_eq!(client.next().await, Seen::Eose, "a refused REQ has ended the subscription of its id");
    assert_eq!(sim.stats().get(Count::RequestsRefused), 2);
}

#[tokio::test]
async fn requests_beyond_the_rate_are_refused_and_timed() {
    let sim = rate_limited(RateLimit::new(2, LONG)).await;
    let refused = Err("rate-limited: slow down".to_owned());
    for _ in 0..2 {
        let mut client = Client::connect(&sim.url(0)).await;
        for expected in [Ok(vec![]), Ok(vec![]), refused.clone(), refused.clone()] {
            assert_eq!(client.ask("{}").await, expected);
        }
    }
    let mut other = Client::connect(&sim.url(1)).await;
    for _ in 0..5 {
        assert_eq!(other.ask("{}").await, Ok(vec![]));
    }
    assert_eq!((sim.stats().of(0, Count::RateLimited), sim.stats().of(1, Count::RateLimited)), (4, 0));
    let times = sim.request_times(0);
    assert_eq!((times.len(), sim.request_times(1).len()), (8, 5));
    assert!(times.is_sorted() && times.iter().all(|time| (time / 1000).abs_diff(now()) < 100), "{times:?}");
}

#[tokio::test]
async fn connections_may_share_a_rate() {
    let sim = rate_limited(RateLimit::new(3, LONG).of_relay()).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(Client::connect(&sim.url(0)).await.ask("{}").await.is_ok());
    }
    assert_eq!(answers, [true, true, true, false, false]);
}

#[tokio::test]
async fn a_notice_may_be_all_that_a_refusal_says() {
    let sim = rate_limited(RateLimit::new(1, LONG).by_notice()).await;
    let mut client = Client::subscribe(&sim.url(0)).await;
    assert_eq!(client.next().await, Seen::Eose);
    client.say(r#"["REQ","t",{}]"#).await;
    assert_eq!(client.next().await, Seen::Text(r#"["NOTICE","rate-limited: slow down"]"#.to_owned()));
    assert_eq!((sim.stats().get(Count::Notices), sim.stats().get(Count::Closed)), (1, 0));
}

#[tokio::test]
async fn a_rate_recovers() {
    let sim = rate_limited(RateLimit::new(1, Duration::from_millis(50))).await;
    let mut client = Client::connect(&sim.url(0)).await;
    let mut refused = 0;
    assert!(client.ask("{}").await.is_ok());
    let is_served = async || {
        let answer = client.ask("{}").await;
        refused += u64::from(answer.is_err());
        answer.is_ok()
    };
    until_async("it is served again", is_served).await;
    assert_eq!(sim.stats().get(Count::RateLimited), refused);
}

#[tokio::test]
async fn a_rule_that_comes_later_replaces_an_earlier_one() {
    let of = |sim: SimBuilder| async {
        let sim = sim.start().await.expect("started");
        Client::connect(&sim.url(0)).await.ask("{},{}").await.is_ok()
    };
    let strict = || Sim::builder().scripted(2).limits(Who::All, Limits::new().filters(1));
    assert!(!of(strict()).await);
    assert!(of(strict().limits(Who::These(vec![0]), Limits::new())).await);
    assert!(!of(strict().limits(Who::These(vec![1]), Limits::new())).await);
}
