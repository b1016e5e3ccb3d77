//! `/api/events/{id}/trace`: which relay delivered an event, which sinks and consumers have it, and
//! which copies with its id were refused.

use moltrade_relayer::event_log::Cursor;
use relay_sim::Sim;
use relay_sim::wait::{until, until_async};
use serde_json::{Value, json};
use wire::VerifiedEvent;

use crate::consumer_client::Client;
use crate::downstreams::refusing;
use crate::gateway::{Gateway, Response, Setup, sinks};

const NO_TAGS: &[[&str; 0]] = &[];

/// A gateway that is connected to this number of relays.
pub async fn connected(relays: usize, setup: Setup) -> (Sim, Gateway) {
    let sim = Sim::builder().seed(150).scripted(relays).start().await.unwrap();
    let relays = sim.urls().into_iter().map(|url| &*url.leak()).collect();
    let gateway = Gateway::start_with(Setup { relays, ..setup }).await;
    let are_live = || gateway.pool.peers().iter().all(|peer| peer.is_live());
    until("all relays are live", are_live).await;
    (sim, gateway)
}

pub fn now(gateway: &Gateway) -> u64 {
    gateway.log.clock().unix_secs()
}

pub fn text(event: &VerifiedEvent) -> String {
    String::from_utf8(event.json().to_vec()).unwrap()
}

/// The event with another content under the same id.
fn altered(event: &VerifiedEvent) -> String {
    text(event).replace("\"content\":\"", "\"content\":\"not ")
}

/// A current event whose copies are counted, or one whose copies are not.
fn event(gateway: &Gateway, is_sampled: bool) -> VerifiedEvent {
    let mut events = (0_u64..).map(|n| gateway.signer.sign(now(gateway), 1, NO_TAGS, &n.to_string()));
    events.find(|event| event.id().as_bytes()[15].is_multiple_of(32) == is_sampled).unwrap()
}

async fn trace(gateway: &Gateway, event: &VerifiedEvent) -> Response {
    gateway.get(&format!("/api/events/{}/trace", event.id())).await
}

/// Waits until the event has this state, and returns its trace.
async fn until_state(gateway: &Gateway, event: &VerifiedEvent, state: &str) -> Value {
    let mut found = Value::Null;
    until_async(state, async || {
        found = trace(gateway, event).await.json();
        found["state"] == state
    })
    .await;
    found
}

/// The delivery of each sink or consumer, by name.
fn deliveries(receivers: &Value) -> Vec<(&str, &str)> {
    let all = receivers.as_array().unwrap().iter();
    all.map(|receiver| (receiver["name"].as_str().unwrap(), receiver["delivery"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_event_has_its_first_relay_its_copies_and_its_receivers() {
    let output = sinks(
        "[[output.tcp]]\nname = 'archive'\naddress = 'archive.example:9000'\n\
         [[output.tcp]]\nname = 'trades'\naddress = 'archive.example:9000'\nkinds = [30931]",
    );
    let (sim, gateway) = connected(3, Setup { output, ..Setup::default() }).await;
    let mut ahead = Client::connect(&gateway, "?consumer=ahead&cursor=0").await;
    let _behind = Client::connect(&gateway, "?consumer=behind&cursor=0").await;
    for (seq, is_sampled) in [(1, true), (2, false)] {
        let event = event(&gateway, is_sampled);
        let before = gateway.log.clock().unix_ms();
        sim.publish([1], event.json().clone());
        until_state(&gateway, &event, "stored").await;
        sim.publish([0, 2], event.json().clone());
        let copies_of = |relay: usize| gateway.pool.peers()[relay].stats.copies.get();
        until("the copies are counted", || copies_of(0) == seq && copies_of(2) == seq).await;
        ahead.expect([seq]).await;
        ahead.ack(seq).await;
        until("it is acknowledged", || {
            let consumers = gateway.consumers.list();
            consumers.iter().any(|(name, row)| **name == *"ahead" && row.cursor == Cursor::from_number(seq))
        })
        .await;
        let found = trace(&gateway, &event).await.json();
        assert_eq!((&found["seq"], &found["relay"]), (&json!(seq), &json!(sim.url(1))));
        assert!((before..before + 60_000).contains(&found["received_at"].as_u64().unwrap()), "{found}");
        assert_eq!(found["refusals"], json!([]));
        if is_sampled {
            let copies = &found["copies"];
            assert_eq!((&copies["count"], &found["copies_unknown"]), (&json!(2), &Value::Null));
            let late = |name: &str| copies[name].as_f64().unwrap();
            assert!(0.0 < late("mean_ms") && late("mean_ms") <= late("last_ms"), "{copies}");
        } else {
            assert_eq!((&found["copies"], &found["copies_unknown"]), (&Value::Null, &json!("not_sampled")));
        }
        assert_eq!(deliveries(&found["sinks"]), [("archive", "waiting"), ("trades", "not_selected")]);
        assert_eq!(found["sinks"][0]["status"], "connecting");
        assert_eq!(deliveries(&found["consumers"]), [("ahead", "passed"), ("behind", "waiting")]);
        assert_eq!(found["consumers"][1]["connected"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_copy_does_not_hide_the_genuine_event() {
    let (sim, gateway) = connected(2, Setup::default()).await;
    let event = event(&gateway, true);
    sim.publish([0], altered(&event));
    let found = until_state(&gateway, &event, "not_stored").await;
    let refusal = &found["refusals"][0];
    assert_eq!((&refusal["reason"], &refusal["times"]), (&json!("id_mismatch"), &json!(1)));
    assert_eq!(refusal["relays"], json!([sim.url(0)]));
    assert_eq!(refusal["why"], "The id is not the hash of the event: the event was altered.");
    assert_eq!((&found["relay"], &found["copies_unknown"]), (&Value::Null, &json!("not_stored")));
    assert_eq!((&found["sinks"], &found["consumers"]), (&json!([]), &json!([])));
    sim.publish([1], event.json().clone());
    let found = until_state(&gateway, &event, "stored").await;
    assert_eq!((&found["relay"], &found["refusals"][0]), (&json!(sim.url(1)), refusal));
    // A forged copy of a known event is a copy, because only its id is read.
    sim.publish([0], altered(&event));
    until_async("the copy is counted", async || trace(&gateway, &event).await.json()["copies"]["count"] == 1)
        .await;
    assert_eq!(trace(&gateway, &event).await.json()["refusals"][0], *refusal);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_the_disk_is_in_flight() {
    let (sim, gateway) = connected(1, Setup::default()).await;
    gateway.set_free_bytes(0);
    let event = event(&gateway, true);
    sim.publish([0], event.json().clone());
    let found = until_state(&gateway, &event, "in_flight").await;
    assert_eq!(
        (&found["seq"], &found["copies"]["count"], &found["sinks"]),
        (&Value::Null, &json!(0), &json!([]))
    );
    gateway.set_free_bytes(u64::MAX);
    assert_eq!(until_state(&gateway, &event, "stored").await["seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_event_leaves_its_sequence() {
    let gateway = Gateway::start().await;
    let mut consumer = Client::connect(&gateway, "?consumer=ahead&cursor=0").await;
    let behind = Client::connect(&gateway, "?consumer=behind&cursor=0").await;
    behind.leave(&gateway, "behind").await;
    gateway.append_numbered(3).await;
    consumer.expect(1..=3).await;
    consumer.ack(2).await;
    until("it is acknowledged", || {
        gateway.consumers.list().iter().any(|(_, row)| row.cursor == Cursor::from_number(2))
    })
    .await;
    gateway.trim_below(3);
    let found = trace(&gateway, &gateway.event(2)).await.json();
    assert_eq!((&found["state"], &found["seq"]), (&json!("trimmed"), &json!(2)));
    assert_eq!((&found["relay"], &found["received_at"]), (&Value::Null, &Value::Null));
    assert!(["not_recent", "not_sampled"].contains(&found["copies_unknown"].as_str().unwrap()), "{found}");
    assert_eq!(deliveries(&found["sinks"]), [("archive", "lost")]);
    assert_eq!(deliveries(&found["consumers"]), [("ahead", "passed"), ("behind", "lost")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_is_not_found_and_the_answer_says_how_far_the_records_go() {
    let gateway = Gateway::start().await;
    let unknown = format!("/api/events/{}/trace", "0f".repeat(32));
    let message = gateway.get(&unknown).await.error(404, "event_not_found");
    assert!(message.contains("The log is empty"), "{message}");
    gateway.append_numbered(5).await;
    gateway.trim_below(2);
    let answer = gateway.get(&unknown).await;
    let message = answer.error(404, "event_not_found");
    assert!(message.contains("events from 2 to 5") && message.contains("refused in the last "), "{message}");
    let body = answer.json();
    assert_eq!((&body["oldest"], &body["newest"]), (&json!(2), &json!(5)));
    assert_eq!(body["refusals_complete_since"], gateway.refusals.since_ms());
    for id in ["note1xyz", "0f", &"0F".repeat(32), "%ff", "%20"] {
        gateway.get(&format!("/api/events/{id}/trace")).await.error(400, "bad_event_id");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_has_its_reason_and_a_parked_sink_its_state() {
    let (rejecting, rejecting_status) = refusing().await;
    let (gone, gone_status) = refusing().await;
    gone_status.send_replace(410);
    let output = sinks(&format!(
        "[[output.rest]]\nname = 'rejecting'\naddress = '{rejecting}'\n[[output.rest]]\nname = 'gone'\naddress = '{gone}'"
    ));
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    gateway.append_numbered(2).await;
    let event = gateway.event(2);
    let mut found = Value::Null;
    until_async("one sink has the letter, and one is parked", async || {
        found = trace(&gateway, &event).await.json();
        found["sinks"][0]["delivery"] == "dead_letter" && found["sinks"][1]["status"] == "parked"
    })
    .await;
    let letter = &found["sinks"][0]["dead_letter"];
    assert_eq!(letter["reason"], "it answered 422 Unprocessable Entity");
    assert_eq!((&letter["tries"], &letter["replaying"]), (&json!(1), &json!(false)));
    assert!(letter["refused_at"].as_u64() > Some(1_700_000_000_000));
    assert_eq!(
        (&found["sinks"][1]["delivery"], &found["sinks"][1]["dead_letter"]),
        (&json!("waiting"), &Value::Null)
    );
    rejecting_status.send_replace(204);
    gateway.change("POST", "/api/downstreams/rejecting/dead-letters/replay", "{\"seq\":2}").await;
    until_async("the replay has arrived", async || {
        let found = trace(&gateway, &event).await.json();
        deliveries(&found["sinks"]) == [("rejecting", "passed"), ("gone", "waiting")]
    })
    .await;
    let other = trace(&gateway, &gateway.event(1)).await.json();
    assert_eq!(other["sinks"][0]["delivery"], "dead_letter", "only one letter was replayed");
}
