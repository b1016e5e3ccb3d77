//! Faults in the program or around it: standard error is stuck, a task panics or hangs, memory is
//! exhausted.

use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use relay_sim::wait::until_async;
use relay_sim::{Sim, Sizes};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::program::{Running, Site, get};

/// A pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// A full pipe and its reader, which never reads.
fn stalled() -> (Stdio, OwnedFd) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("set");
    loop {
        match writer.write(&[b'x'; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    fcntl_setfl(&writer, flags).expect("set");
    (writer.into(), reader.into())
}

fn full() -> Stdio {
    std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_error_that_takes_nothing_costs_log_lines_alone() {
    let (stalled, _reader) = stalled();
    for (name, stderr, loses) in
        [("closed", closed(), true), ("full", full(), true), ("stalled", stalled, false)]
    {
        let sim = Sim::builder().seed(41).relays(2).events(200).copies(2).start().await.expect("starts");
        let events = sim.ids().len() as u64;
        let site = Site::empty().unset("RELAY_URLS");
        let configure = |relays: &[String]| {
            let text = format!("relay.bootstrap_relays = {relays:?}");
            std::fs::write(site.folder().join("config.toml"), text).expect("written");
        };
        let urls = sim.urls();
        configure(&urls[..1]);
        let mut running = site.start_with_stderr(&[], stderr).await;
        running.until_healthy().await;
        // Tasks that log still run: the reload task reloads twice, although each reload is logged.
        for relays in [&urls[..], &urls[1..]] {
            configure(relays);
            running.signal("HUP");
            let wanted = relays.len() as u64;
            running
                .until("the relays are those of the file", async |running| {
                    running.json("/api/relays").await["total"] == wanted
                })
                .await;
        }
        running
            .until("all events are there", async |running| running.metric("log_head_seq").await == events)
            .await;
        let lost = running.metric("log_lines_lost_total").await;
        assert_eq!(lost > 0, loses, "{name}: {lost}");
        assert_eq!(running.metric("panics_total").await, 0, "{name}");
        running.signal("TERM");
        let status = running.ended().await;
        assert!(status.success(), "{name}: {status}");
    }
}

#[test]
fn commands_without_a_reader_end_in_order() {
    let site = Site::empty();
    for command in ["config-template", "check-config"] {
        let run = |stdout: Stdio, stderr: Stdio| {
            let status = site.command().arg(command).stdout(stdout).stderr(stderr).status();
            status.expect("it runs").code()
        };
        assert_eq!(run(closed(), closed()), Some(0), "{command}: the reader has read enough");
        assert_eq!(run(full(), full()), Some(1), "{command}: the output is lost");
        assert_eq!(run(Stdio::null(), full()), Some(0), "{command}");
    }
    let wrong = Site::empty().set("RELAYER_OUTPUT__BATCH_SIZE", "0");
    assert_eq!(wrong.command().stderr(closed()).status().expect("it runs").code(), Some(78));
}

fn failing_at(points: &str) -> [(&'static str, String); 1] {
    [("MOLTRADE_CRASH_POINT", points.to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_panics_is_counted_and_later_ones_work() {
    let site = Site::empty();
    std::fs::write(site.folder().join("config.toml"), "").expect("written");
    let running = site.start_with(&failing_at("reload:1:panic")).await;
    running.until_healthy().await;
    running.signal("HUP");
    running.until_stderr_contains("the crash point reload was reached").await;
    running.until_stderr_contains("was not reloaded").await;
    assert_eq!(running.metric("panics_total").await, 1);
    running.signal("HUP");
    running.until_stderr_contains("the configuration was reloaded").await;
    assert_eq!(running.metric("panics_total").await, 1);
}

/// A stage fails, hangs while it fails, hangs while other stages stop, or hangs after they have
/// stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_continue_ends() {
    for (points, stops, line) in [
        ("before_commit:3:panic", false, "sequencer failed: it panicked"),
        ("before_commit:3:panic,panic:1:hang", false, "aborting: a panic could not be reported"),
        ("before_commit:3:hang", true, ""),
        ("drained:1:hang", true, "aborting: the process did not end in time"),
    ] {
        let sim = Sim::builder().seed(42).relays(2).events(5_000).copies(1).per_second(500.0);
        let sim = sim.start().await.expect("starts");
        let site = Site::on(&sim);
        let mut running = site.start_with(&failing_at(points)).await;
        if stops {
            running.until_healthy().await;
            if points.starts_with("before_commit") {
                // Commits have stopped, so events queue up.
                let wait = async |running: &Running| running.metric("events_in_queue").await > 10;
                running.until("events wait", wait).await;
            }
            running.signal("TERM");
        }
        let status = running.ended().await;
        assert!(!status.success(), "{points}: {status}");
        let said = running.stderr();
        assert!(said.contains(line), "{points}: {said}");
        assert!(!said.contains("stack backtrace"), "{points}: {said}");
    }
}

/// The limit is set while the program runs, slightly above the memory in use, so that a different
/// allocation fails first in each case: a thread's stack, a buffer, RocksDB. A process that
/// survives must still work.
#[tokio::test(flavor = "multi_thread")]
async fn when_memory_ends_the_process_ends() {
    const MIB: u64 = 1 << 20;
    let mut ended = 0;
    for (seed, headroom) in [(1, 0), (2, MIB / 2), (3, MIB), (4, 2 * MIB), (5, 4 * MIB), (6, 8 * MIB)] {
        let sim =
            Sim::builder().seed(seed).relays(2).events(2_500).copies(1).sizes(Sizes::Exactly(32_000)).hold();
        let sim = sim.start().await.expect("starts");
        let site = Site::on(&sim);
        // With backtraces, a panic also needs memory and a lock.
        let mut running = site.start_with(&[("RUST_BACKTRACE", "full".to_owned())]).await;
        running.until_healthy().await;
        let limit = running.virtual_bytes() + headroom;
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        let pid = Pid::from_raw(running.id().try_into().expect("a pid")).expect("a pid");
        prlimit(Some(pid), Resource::As, limit).expect("it may be lowered");
        sim.go();
        let address = running.address();
        let last = format!("\nlog_head_seq {}\n", sim.ids().len());
        // Requests need threads and memory, too.
        let worked = until_async("all events are logged", async || {
            drop(get(address, "/api/events?limit=1000").await);
            get(address, "/metrics").await.is_some_and(|metrics| metrics.contains(&last))
        });
        tokio::select! {
            () = worked => {}
            status = running.ended() => {
                assert!(!status.success(), "{headroom}: {status}");
                ended += 1;
            }
        }
    }
    assert!(ended > 0, "memory was never exhausted");
}
