//! Events whose dates differ from their arrival times, and seconds with many events.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::collections::HashSet;

use relay_sim::{Cap, Sim, SimBuilder, Who};
use support::{Client, Seen, created_at, now};

const BASE: u64 = 1_700_000_000;

fn dated() -> SimBuilder {
    Sim::builder().seed(7).relays(2).events(2_000).copies(1).stored(0.5).base(BASE)
}

async fn dates(sim: SimBuilder) -> Vec<u64> {
    let sim = sim.start().await.expect("started");
    sim.events().iter().map(|event| event.created_at()).collect()
}

#[tokio::test]
async fn some_live_events_are_dated_before_they_appear() {
    let dates = dates(dated().late(0.2, 60)).await;
    let (stored, live) = dates.split_at(1_000);
    assert!(stored.iter().all(|date| (BASE - 1_800..BASE).contains(date)));
    assert!(live.iter().all(|date| (BASE - 60..=BASE).contains(date)));
    let late = live.iter().filter(|date| **date < BASE).count();
    assert!((150..250).contains(&late), "{late}");
    assert!(
        live.iter().any(|date| *date < BASE - 50) && live.iter().any(|date| (BASE - 10..BASE).contains(date))
    );
}

#[tokio::test]
async fn some_authors_have_clocks_that_are_ahead() {
    let right = dates(dated()).await;
    let ahead = dates(dated().ahead(0.1, 900)).await;
    let shifts: Vec<u64> = ahead.iter().zip(&right).map(|(ahead, right)| ahead - right).collect();
    assert!(shifts.iter().all(|shift| *shift <= 900));
    for half in shifts.chunks(1_000) {
        let shifted = half.iter().filter(|shift| **shift > 0).count();
        assert!((60..140).contains(&shifted), "{shifted}");
    }
    assert_eq!(ahead, dates(dated().ahead(0.1, 900)).await);
    assert_eq!(right.iter().max(), Some(&BASE));
}

#[tokio::test]
async fn stamped_events_are_late_too() {
    let sim = Sim::builder().relays(1).events(200).copies(1).stamp().late(0.5, 1_000);
    let sim = sim.start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    let seen = client.take(201).await;
    let age = |seen: &Seen| if let Seen::Event(text) = seen { now() - created_at(text) } else { 0 };
    let late = seen.iter().filter(|seen| age(seen) > 100).count();
    assert!((60..120).contains(&late), "{late}");
}

#[tokio::test]
async fn one_second_of_one_relay_may_hold_many_events() {
    let sim =
        dated().caps(Who::All, Cap::clamping(50)).burst_second(1, 900, 300).start().await.expect("started");
    let held = |relay| sim.holds_between(relay, BASE - 900, BASE - 900);
    let (elsewhere, nowhere, held) = (held(0), held(2), held(1));
    assert!((300..310).contains(&held.len()), "{}", held.len());
    assert!(held.iter().all(|event| event.created_at() == BASE - 900));
    assert!(elsewhere.len() < 10 && nowhere.is_empty());
    let ids: HashSet<_> = held.iter().map(|event| event.id()).collect();
    assert!(ids.len() == held.len() && ids.is_subset(&sim.ids()));
    assert_eq!(sim.events().len(), 2_300);
    assert_eq!(sim.stats().unsent, 2_000, "they are not planned");
    let window = format!(r#"{{"since":{0},"until":{0}}}"#, BASE - 900);
    assert_eq!(Client::connect(&sim.url(1)).await.ask(&window).await.map(|events| events.len()), Ok(50));
}

#[tokio::test]
async fn impossible_dates_are_refused() {
    for (sim, reason) in [
        (dated().late(1.1, 60), "late events"),
        (dated().ahead(-0.1, 60), "clocks are ahead"),
        (dated().late(0.6, 60).ahead(0.6, 60), "shifted dates"),
        (dated().burst_second(2, 0, 1), "a relay that there is"),
    ] {
        let error = sim.start().await.expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
}
