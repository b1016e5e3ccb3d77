//! Backups of a running gateway. After a restore, consumers see a different log identity, and
//! sequences after the backup name different events.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use relay_sim::Sim;
use serde_json::Value;

use crate::program::{PATIENCE, Running, Site};

/// The number of events in the backup.
const BEFORE: u64 = 60;
/// The number of events after the backup.
const AFTER: u64 = 30;

async fn sim(seed: u64, events: u64) -> Sim {
    Sim::builder().seed(seed).relays(2).events(events as usize).start().await.expect("starts")
}

async fn until_head(running: &Running, head: u64) {
    let deadline = Instant::now() + PATIENCE;
    while running.json("/status").await["log"]["head"].as_u64() < Some(head) {
        assert!(Instant::now() < deadline, "{}", running.json("/status").await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Starts the program with these relays, and waits until the log has `head` events.
async fn start(site: &Site, sim: &Sim, head: u64) -> Running {
    let running = site.start_with(&[("RELAY_URLS", sim.urls().join(","))]).await;
    running.until_stderr_contains("events are served").await;
    until_head(&running, head).await;
    running
}

async fn stop(mut running: Running) {
    running.signal("TERM");
    assert!(running.ended().await.success());
}

async fn log_id(running: &Running) -> String {
    running.json("/status").await["log"]["id"].as_str().expect("an identity").to_owned()
}

/// The envelopes after a cursor.
async fn envelopes(running: &Running, cursor: u64) -> Vec<Value> {
    let page = running.json(&format!("/api/events?cursor={cursor}&limit=1000")).await;
    page["events"].as_array().expect("a page").clone()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[track_caller]
fn refused(output: &Output, reason: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(reason), "{said}");
}

/// A site whose log has [`BEFORE`] events, a backup made while the gateway ran, and the log id.
async fn backed_up() -> (Site, PathBuf, String) {
    let site = Site::empty();
    let running = start(&site, &sim(1, BEFORE).await, BEFORE).await;
    let (folder, log) = (site.folder().join("backups/monday"), log_id(&running).await);
    let said = succeeded(&site.run_with(&["backup", text(&folder)]));
    assert!(said.contains(&format!("the log {log} up to event {BEFORE}")), "{said}");
    stop(running).await;
    (site, folder, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_a_cursor_of_before_is_refused() {
    let (site, folder, old) = backed_up().await;
    let running = start(&site, &sim(2, AFTER).await, BEFORE + AFTER).await;
    let lost = envelopes(&running, 0).await;
    stop(running).await;
    refused(&site.run_with(&["restore", text(&folder)]), "there is a log at");
    let said = succeeded(&site.run_with(&["restore", "--replace", text(&folder)]));
    assert!(said.contains(&format!("The log was {old}")), "{said}");
    let running = start(&site, &sim(3, AFTER).await, BEFORE + AFTER).await;
    let new = log_id(&running).await;
    assert_ne!(new, old);
    assert!(said.contains(&format!("is {new} now")), "{said}");
    let found = envelopes(&running, 0).await;
    let (before, after) = (BEFORE as usize, (BEFORE + AFTER) as usize);
    assert!(found.iter().all(|envelope| envelope["log"] == *new));
    assert_eq!((lost.len(), found.len()), (after, after));
    for (index, (was, is)) in lost.iter().zip(&found).enumerate() {
        assert_eq!(was["seq"], is["seq"]);
        assert_eq!(was["event"] == is["event"], index < before, "event {}", index + 1);
    }
    for path in ["/ws", "/api/events"] {
        let answer = running.get(&format!("{path}?cursor={old}:{}", BEFORE + AFTER)).await.expect("answers");
        assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
        assert!(answer.contains("cursor_of_another_log") && answer.contains(&new), "{answer}");
    }
    // Cursors that name the new log work, and so do bare sequences.
    assert_eq!(running.json(&format!("/api/events?cursor={new}:{BEFORE}")).await["head"], BEFORE + AFTER);
    assert_eq!(envelopes(&running, BEFORE).await.len() as u64, AFTER);
}

/// The database contains the cursors, so a restore resets them to their values in the backup.
#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_of_a_consumer_goes_back_with_the_log() {
    let site = Site::empty();
    let first = sim(4, BEFORE).await;
    let running = start(&site, &first, BEFORE).await;
    let mut consumer = site.consumer("?consumer=a&seek=10").await;
    assert_eq!(consumer.next().await.expect("an event").seq, Some(11));
    let folder = site.folder().join("backup");
    succeeded(&site.run_with(&["backup", text(&folder)]));
    drop(consumer);
    drop(site.consumer("?consumer=a&seek=50").await);
    stop(running).await;
    succeeded(&site.run_with(&["restore", "--replace", text(&folder)]));
    let running = start(&site, &first, BEFORE).await;
    assert_eq!(running.json("/api/consumers").await["consumers"][0]["cursor"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_can_be_made_without_a_gateway_and_restored_elsewhere() {
    let (site, _, log) = backed_up().await;
    let folder = site.folder().join("offline");
    fs::create_dir(&folder).expect("an empty folder");
    let said = succeeded(&site.run_with(&["backup", text(&folder)]));
    assert!(said.contains("hard links"), "{said}");
    refused(&site.run_with(&["backup", text(&folder)]), "is not empty");
    let elsewhere = Site::empty();
    // The embedded registry needs the gateway's key, which the backup does not contain.
    fs::copy(site.folder().join("relayer.key"), elsewhere.folder().join("relayer.key")).expect("copied");
    succeeded(&elsewhere.run_with(&["restore", text(&folder)]));
    let running = elsewhere.start().await;
    assert_eq!(envelopes(&running, 0).await.len() as u64, BEFORE);
    assert_ne!(log_id(&running).await, log);
    assert!(!elsewhere.log_path().join("staging").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_token_is_sent_and_the_disk_is_guarded() {
    let site = Site::empty().set("RELAYER_API__ADMIN_TOKEN", "0123456789abcdef0123");
    let running = site.start().await;
    let folder = site.folder().join("backup");
    succeeded(&site.run_with(&["backup", text(&folder)]));
    let other = site.folder().join("other");
    let wrong = [("RELAYER_API__ADMIN_TOKEN", "another0123456789ab".to_owned())];
    refused(&site.run_in(&wrong, &["backup", text(&other)]), "is not the admin_token");
    refused(
        &site.run_in(&[("RELAYER_OUTPUT__WEBSOCKET_PORT", "0".to_owned())], &["backup", text(&other)]),
        "port",
    );
    let inside = site.log_path().join("backup");
    refused(&site.run_with(&["backup", text(&inside)]), "is inside the data folder");
    refused(&site.run_with(&["restore", "--replace", text(&folder)]), "is in use by another process");
    refused(&site.run_with(&["new-log-id"]), "is in use by another process");
    running.kill();
    let guarded = site.set("RELAYER_STORAGE__MIN_FREE_BYTES", (1_u64 << 60).to_string());
    let running = guarded.start().await;
    refused(&guarded.run_with(&["backup", text(&other)]), "must stay free");
    running.kill();
    refused(&guarded.run_with(&["backup", text(&other)]), "must stay free");
    refused(&guarded.run_with(&["restore", "--replace", text(&folder)]), "must stay free");
    assert!(!other.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_a_backup_is_not_restored() {
    let (site, folder, _) = backed_up().await;
    let nothing = site.folder().join("nothing");
    refused(&site.run_with(&["restore", "--replace", text(&nothing)]), "No such file");
    fs::create_dir(&nothing).expect("a folder");
    refused(
        &site.run_with(&["restore", "--replace", text(&nothing)]),
        "is not a backup: it has no backup.json",
    );
    // A copy of a data folder is not a backup.
    let copy = site.folder().join("copy");
    fs::rename(site.log_path(), &copy).expect("moved");
    refused(&site.run_with(&["restore", text(&copy)]), "moltrade-relayer new-log-id");
    refused(&site.run_with(&["backup", text(&nothing)]), "there is no log at");
    refused(&site.run_with(&["new-log-id"]), "there is no log at");
    let foreign = site.log_path().join("precious.txt");
    fs::create_dir(site.log_path()).and_then(|()| fs::write(&foreign, "mine")).expect("written");
    refused(
        &site.run_with(&["restore", "--replace", text(&folder)]),
        "`precious.txt`, which is not a file of a log",
    );
    fs::remove_file(foreign).expect("gone");
    let files: Vec<_> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("one").path()).collect();
    let sorted = files.iter().find(|file| file.extension().is_some_and(|end| end == "sst")).expect("a file");
    let manifest = files.iter().find(|file| text(file).contains("MANIFEST-")).expect("a file");
    for (file, damage) in [(sorted, 10), (manifest, 0)] {
        let whole = fs::read(file).expect("read");
        // The restore checks the manifest's content, even if its size is unchanged, because the
        // manifest lists all other files.
        let broken = if damage == 0 { vec![0xff; whole.len()] } else { whole[..damage].to_vec() };
        fs::remove_file(file).and_then(|()| fs::write(file, broken)).expect("written");
        refused(&site.run_with(&["restore", text(&folder)]), "damaged");
        fs::write(file, whole).expect("written");
    }
    let mut description: Value =
        serde_json::from_slice(&fs::read(folder.join("backup.json")).expect("read")).expect("JSON");
    description["files"]["../../etc/passwd"] = 1.into();
    fs::write(folder.join("backup.json"), description.to_string()).expect("written");
    refused(&site.run_with(&["restore", text(&folder)]), "which is not a file of a log");
}

/// Kills the gateway or the backup command at each step, as with `kill -9`.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_cut_off_is_none() {
    let site = Site::empty();
    let events = sim(5, BEFORE).await;
    let crash = |point: &str| [("MOLTRADE_CRASH_POINT", point.to_owned())];
    for (index, point) in ["backup_checkpoint:1", "backup_described:1"].into_iter().enumerate() {
        let urls = ("RELAY_URLS", events.urls().join(","));
        let [crash] = crash(point);
        let mut running = site.start_with(&[urls, crash]).await;
        running.until_stderr_contains("events are served").await;
        until_head(&running, BEFORE).await;
        let folder = site.folder().join(format!("gateway-{index}"));
        refused(&site.run_with(&["backup", text(&folder)]), "did not make a checkpoint");
        assert!(!running.ended().await.success(), "the process died");
        assert!(!folder.exists());
    }
    let running = start(&site, &events, BEFORE).await;
    assert!(!site.log_path().join("staging").exists(), "a start removes what was left");
    let folder = site.folder().join("backup");
    for point in ["backup_file:1", "backup_file:3"] {
        let output = site.run_in(&crash(point), &["backup", text(&folder)]);
        assert!(!output.status.success() && !folder.exists(), "{point}");
        let unfinished = site.folder().join("backup.unfinished");
        refused(&site.run_with(&["restore", text(&unfinished)]), "is not a backup");
    }
    succeeded(&site.run_with(&["backup", text(&folder)]));
    stop(running).await;
    succeeded(&site.run_with(&["restore", "--replace", text(&folder)]));
    assert_eq!(envelopes(&site.start().await, 0).await.len() as u64, BEFORE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_cut_off_is_never_taken_for_a_log() {
    let (site, folder, log) = backed_up().await;
    let mut ids = vec![log];
    for (point, is_begun) in [
        ("backup_file:2", false),
        ("restore_copied:1", false),
        ("restore_marked:1", true),
        ("restore_deleted:1", true),
        ("restore_deleted:4", true),
        ("restore_moved:1", true),
        ("restore_moved:4", true),
    ] {
        let crash = [("MOLTRADE_CRASH_POINT", point.to_owned())];
        let output = site.run_in(&crash, &["restore", "--replace", text(&folder)]);
        assert!(!output.status.success(), "{point}");
        if is_begun {
            let mut running = site.start_with(&[]).await;
            assert_eq!(running.ended().await.code(), Some(1), "{point}");
            assert!(running.stderr().contains("a restore into"), "{point}");
            refused(&site.run_with(&["new-log-id"]), "a restore into");
            succeeded(&site.run_with(&["restore", text(&folder)]));
        }
        let running = site.start().await;
        assert_eq!(envelopes(&running, 0).await.len() as u64, BEFORE, "{point}");
        let id = log_id(&running).await;
        assert_eq!(ids.contains(&id), !is_begun, "{point}");
        ids.push(id);
        assert!(!site.log_path().join("staging").exists());
        stop(running).await;
    }
}

/// Copying a backup into place by hand is also a restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_the_place_of_the_log_has_a_new_identity() {
    let (site, folder, old) = backed_up().await;
    fs::remove_dir_all(site.log_path()).and_then(|()| fs::rename(&folder, site.log_path())).expect("moved");
    let running = site.start().await;
    running.until_stderr_contains("is a backup that was put in place").await;
    let new = log_id(&running).await;
    assert_ne!(new, old);
    stop(running).await;
    assert_eq!(log_id(&site.start().await).await, new, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_can_give_a_new_identity() {
    let (site, _, old) = backed_up().await;
    let said = succeeded(&site.run_with(&["new-log-id"]));
    let new = log_id(&site.start().await).await;
    assert_ne!(new, old);
    assert!(said.contains(&format!("was {old} and is {new} now")), "{said}");
}
