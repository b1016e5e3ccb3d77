//! Every event is logged once, however many relays deliver it.

use std::time::Duration;

use relay_sim::Sim;
use relay_sim::wait::within;

use crate::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn many_relays_and_copies_give_each_event_once() {
    let sim = Sim::builder().seed(1).relays(40).events(3_000).copies(10).stored(0.3).base(1_700_000_000);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_logged(sim.ids()).await;
    within("all is sent", sim.wait_sent()).await;
    let copies = sim.stats().total.copies();
    let metrics = &gateway.metrics;
    gateway.until("all copies are counted", |_| metrics.ingest.duplicates.total() + 3_000 >= copies).await;
    gateway.assert_holds_exactly(&sim.events());
    assert_eq!(metrics.ingest.events_processed.get(), 3_000);
    assert_eq!(metrics.ingest.dropped.total(), 0);
    gateway.drain().await.expect("drains");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_ordered_by_time() {
    let sim = Sim::builder().seed(2).relays(5).events(2_000).copies(2).stored(1.0).base(1_700_000_000);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_logged(sim.ids()).await;
    let logged = gateway.logged();
    let descents = logged.windows(2).filter(|pair| pair[0].created_at() > pair[1].created_at());
    let (descents, batches) = (descents.count() as u64, gateway.metrics.ingest.batches_committed.get());
    // Stored events come newest first, so dates in an unsorted batch would descend at nearly every
    // step.
    assert!(descents < batches, "{descents} descents in {batches} batches");
    assert!(batches < 1_500, "{batches} batches of 2,000 events: too small to show anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_commits_what_was_read() {
    let sim = Sim::builder().seed(3).relays(10).events(2_000).copies(3).base(1_700_000_000);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until("some events are logged", |gateway| gateway.log.head().get() > 100).await;
    let (log, inboxes) = (gateway.log.clone(), gateway.inboxes.clone());
    let drained = tokio::time::timeout(Duration::from_secs(60), gateway.drain()).await;
    drained.expect("in time").expect("without failure");
    assert_eq!(inboxes.waiting(), (0, 0), "nothing is left on the way");
    let newest = log.page(moltrade_relayer::event_log::Cursor::from_number(log.head().get() - 1), 1, &[]);
    assert_eq!(newest.expect("readable").entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_3_what_is_logged_is_what_was_signed() {
    let sim = Sim::builder().seed(16).relays(1).scripted(1).events(1).base(1_700_000_000);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_logged(sim.ids()).await;
    let signed = wire::Signer::from_seed(99).sign(
        1_700_000_000,
        1,
        &[["t", "x"].map(str::to_owned)],
        "tab\tand\u{1f600}",
    );
    let text = String::from_utf8(signed.json().to_vec()).expect("UTF-8");
    // The copy has a different order of members, other white space, unnecessary escapes, and
    // unsigned members.
    let tail = text.split_once("\"tags\"").expect("tags").1.replace("\\t", "\\u0009");
    let head = text.split_once("\"tags\"").expect("tags").0.trim_start_matches('{').trim_end_matches(',');
    let dressed = format!(
        "{{\"seen_on\":[\"x\"], \"tags\"{}, {head}, \"extra\":{{\"id\":\"0\"}}}}",
        tail.trim_end_matches('}')
    );
    assert_ne!(dressed, text);
    sim.publish([1], dressed);
    gateway.until_logged([signed.id()]).await;
    let logged = gateway.logged();
    assert_eq!(logged.last().map(|event| event.json()), Some(signed.json()));
}
