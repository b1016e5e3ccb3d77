//! `moltrade-relayer registry …`: moves bots and follows to another registry, and changes the
//! owner.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use relay_sim::Sim;
use wire::Signer;

use crate::bots::{Bot, relays};
use crate::client::Api;
use crate::connection::Follower;
use crate::postgres::Database;
use crate::program::{Running, Site};

const SECRET: &str = "a secret of desk and gateway";

fn key(seed: u64) -> String {
    faster_hex::hex_string(&*Signer::from_seed(seed).secret())
}

fn site(sim: &Sim, key_seed: u64) -> Site {
    Site::on(sim).set("RELAYER_NOSTR__SECRET_KEY", key(key_seed))
}

#[track_caller]
fn assert_output(output: &Output, success: bool, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), success, "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
    assert!(!stderr.contains(SECRET), "{stderr}");
}

async fn stop(mut running: Running) {
    running.signal("TERM");
    assert!(running.ended().await.success());
}

/// Creates a bot, a follower with a shared secret, and a follower without one.
async fn filled(site: &Site) -> (Bot, Follower, Follower) {
    let running = site.start().await;
    let api = Api::of(site);
    let bot = Bot::registered(1, &api).await;
    let sharing = Follower::new(2).sharing(SECRET);
    let plain = Follower::new(3);
    for follower in [&sharing, &plain] {
        follower.follow(&api, bot.key.pubkey()).await;
    }
    stop(running).await;
    (bot, sharing, plain)
}

/// Asserts that both followers get a signal and can decrypt it.
async fn served(site: &Site, sim: &Sim, bot: &Bot, followers: [&Follower; 2]) {
    let running = site.start().await;
    let api = Api::of(site);
    let gateway = api.identity().await;
    let mut connections = Vec::new();
    for follower in followers {
        connections.push(follower.connect(&api, "").await);
    }
    let signal = bot.publish(sim);
    for (follower, connection) in followers.iter().zip(&mut connections) {
        assert_eq!(follower.opener(&gateway).open(&connection.next().await), signal);
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_can_be_imported_elsewhere() {
    let (sim, database) = (relays(2).await, Database::fresh());
    let here = site(&sim, 7);
    let there = site(&sim, 7).set("RELAYER_POSTGRES__DSN", database.dsn.as_str());
    let (bot, sharing, plain) = filled(&here).await;
    let file = here.folder().join("registry.jsonl");
    let path = file.display().to_string();

    let running = here.start().await;
    assert_output(&here.run_with(&["registry", "export"]), false, "is in use by another process");
    stop(running).await;
    assert_output(
        &here.run_with(&["registry", "export", "--file", &path]),
        true,
        "exported 1 bots and 2 follows from the embedded registry",
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = fs::read_to_string(&file).unwrap();
    assert!(!lines.contains(SECRET) && lines.contains(&bot.name), "{lines}");

    let empty = Database::fresh();
    let other_key = site(&sim, 8).set("RELAYER_POSTGRES__DSN", empty.dsn.as_str());
    assert_output(
        &other_key.run_with(&["registry", "import", "--file", &path]),
        false,
        "sealed by the gateway key",
    );
    fs::write(here.folder().join("cut"), &lines[..lines.len() - 40]).unwrap();
    let cut = here.folder().join("cut").display().to_string();
    assert_output(&there.run_with(&["registry", "import", "--file", &cut]), false, "nothing was imported");

    for _ in 0..2 {
        assert_output(
            &there.run_with(&["registry", "import", "--file", &path]),
            true,
            "imported 1 bots and 2 follows into the postgres registry",
        );
    }
    served(&there, &sim, &bot, [&sharing, &plain]).await;
    let output = there.run_with(&["registry", "export"]);
    assert_output(&output, true, "exported 1 bots and 2 follows from the postgres registry");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), lines);
}

async fn changes_owner(site_with: impl Fn(u64) -> Site, sim: &Sim) {
    let old = site_with(7);
    let (bot, sharing, plain) = filled(&old).await;
    let new = old.set("RELAYER_NOSTR__SECRET_KEY", key(8));
    let refused = new.run();
    assert_output(&refused, false, "registry rekey --old-key-file FILE");
    let file = new.folder().join("old.key");
    let path = file.display().to_string();
    fs::write(&file, key(7)).unwrap();
    assert_output(&new.run_with(&["registry", "rekey", "--old-key-file", &path]), false, "chmod 600");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, key(9)).unwrap();
    assert_output(
        &new.run_with(&["registry", "rekey", "--old-key-file", &path]),
        false,
        "belongs to the gateway key",
    );
    fs::write(&file, key(7)).unwrap();
    assert_output(
        &new.run_with(&["registry", "rekey", "--old-key-file", &path]),
        true,
        "1 secrets were re-encrypted",
    );
    served(&new, sim, &bot, [&sharing, &plain]).await;
    let old = new.set("RELAYER_NOSTR__SECRET_KEY", key(7));
    assert_output(&old.run(), false, "belongs to the gateway key");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_embedded_registry_can_change() {
    let sim = relays(2).await;
    changes_owner(|seed| site(&sim, seed), &sim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_postgres_registry_can_change() {
    let (sim, database) = (relays(2).await, Database::fresh());
    let dsn = database.dsn.as_str();
    changes_owner(|seed| site(&sim, seed).set("RELAYER_POSTGRES__DSN", dsn), &sim).await;
}
