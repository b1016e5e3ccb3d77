//! Reloads of the built program: by SIGHUP, and with a crash during the reload.

use relay_sim::Sim;

use crate::program::{Running, Site};
use crate::receivers::{self, Behavior, patience};

/// Writes the configuration file with these TCP sinks.
fn configure(site: &Site, sinks: &[&str], monitoring: &str) {
    let text = format!("[output]\ntcp = [{}]\n[monitoring]\n{monitoring}\n", sinks.join(", "));
    std::fs::write(site.folder().join("config.toml"), text).expect("written");
}

async fn until_stored(running: &Running, seq: u64) {
    running
        .until("events are stored", async |running| {
            running.json("/status").await["log"]["head"].as_u64() >= Some(seq)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_adds_a_sink_and_sets_the_level_and_the_format_of_the_log() {
    const EVENTS: u64 = 200;
    let sim = Sim::builder().seed(51).relays(2).events(EVENTS as usize).copies(2).per_second(300.0);
    let sim = sim.start().await.expect("starts");
    let (first, first_sink) = receivers::tcp("first", EVENTS, Behavior::Steady).await;
    let (second, second_sink) = receivers::tcp("second", EVENTS, Behavior::Steady).await;
    let site = Site::on(&sim);
    configure(&site, &[&first_sink], "log_level = 'error'");
    let mut running = site.start().await;
    until_stored(&running, 20).await;
    configure(&site, &[&first_sink, &second_sink], "log_level = 'debug'\nlog_format = 'json'");
    running.signal("HUP");
    running.until_stderr_contains("\"event\":\"config_reloaded\"").await;
    running.until_stderr_contains("\"sinks_added\":\"second\"").await;
    first.finished(patience(EVENTS)).await;
    second.finished(patience(EVENTS)).await;
    drop(site.consumer("").await);
    running.until_stderr_contains("\"level\":\"DEBUG\"").await;
    configure(&site, &[&first_sink, &second_sink], "log_level = 'error'\nlog_format = 'json'");
    running.signal("HUP");
    let connections = first.report(std::time::Instant::now());
    assert!(connections.ends_with("200 events, 0 repeats, 1 connections"), "{connections}");
    running.signal("TERM");
    assert!(running.ended().await.success());
    let log = running.stderr();
    assert!(!log.contains("INFO moltrade_relayer"), "{log}");
}

/// The program aborts before the new configuration is read, and when the sinks have ended and the
/// new ones have not started.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_kills_during_a_reload_lose_nothing_of_any_sink() {
    const EVENTS: u64 = 1_500;
    let sim = Sim::builder().seed(52).relays(2).events(EVENTS as usize).copies(2).per_second(500.0);
    let sim = sim.start().await.expect("starts");
    let (kept, kept_sink) = receivers::tcp("kept", EVENTS, Behavior::Steady).await;
    let (changed, changed_sink) = receivers::tcp("changed", EVENTS, Behavior::Steady).await;
    let (hook, hook_sink) = receivers::http("hook", EVENTS, None).await;
    let site = Site::on(&sim).set("RELAYER_OUTPUT__REST", format!("[{hook_sink}]"));
    let with_limit = |max: u64| changed_sink.replace(" }", &format!(", max_unacked = {max} }}"));
    let mut stored = 0;
    for (turn, point) in ["reload", "reload_sinks", "reload", "reload_sinks"].into_iter().enumerate() {
        configure(&site, &[&kept_sink, &with_limit(10 + turn as u64)], "");
        let mut running = site.start_with(&[("MOLTRADE_CRASH_POINT", format!("{point}:1"))]).await;
        running.until_healthy().await;
        stored += 100;
        until_stored(&running, stored).await;
        configure(&site, &[&kept_sink, &with_limit(20 + turn as u64)], "");
        running.signal("HUP");
        assert!(!running.ended().await.success(), "it dies at {point}");
    }
    let running = site.start().await;
    for receiver in [&kept, &changed, &hook] {
        receiver.finished(patience(EVENTS)).await;
        println!("{}", receiver.report(std::time::Instant::now()));
    }
    let stored = running.json("/status").await["log"]["head"].clone();
    assert_eq!(stored, EVENTS);
}
