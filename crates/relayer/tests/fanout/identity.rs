//! The gateway's own key, which identifies the gateway to followers and encrypts stored secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use moltrade_relayer::nip19::{npub, nsec, secret_key};
use wire::Signer;

use crate::client::Api;
use crate::program::Site;

fn key_file(site: &Site) -> PathBuf {
    site.folder().join("relayer.key")
}

/// Runs the gateway. Returns its public key from the API, and its log output.
async fn identity(site: &Site) -> (String, String) {
    let running = site.start().await;
    let answer = Api::of(site).get("/api/identity").await.json();
    running.signal("TERM");
    let mut running = running;
    let status = running.ended().await;
    assert_eq!(answer.as_object().map(|fields| fields.len()), Some(2), "{answer}");
    let (pubkey, npub_shown) = (answer["pubkey"].as_str().unwrap(), answer["npub"].as_str().unwrap());
    assert_eq!(npub(&pubkey.parse().unwrap()), npub_shown);
    let log = running.stderr();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains(npub_shown), "{log}");
    (pubkey.to_owned(), log)
}

#[tokio::test]
async fn a_key_is_created_once_and_stays() {
    let site = Site::empty();
    let (pubkey, log) = identity(&site).await;
    assert!(log.contains("created a key for this gateway"), "{log}");
    let file = key_file(&site);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let content = fs::read_to_string(&file).unwrap();
    let secret = secret_key(content.trim()).unwrap();
    assert_eq!(Signer::from_secret(&secret).unwrap().pubkey().to_string(), pubkey);

    let (again, log) = identity(&site).await;
    assert_eq!(again, pubkey);
    assert!(!log.contains("created a key"), "{log}");
    assert_eq!(fs::read_to_string(&file).unwrap(), content);
    let (other, _) = identity(&Site::empty()).await;
    assert_ne!(other, pubkey);
}

#[test]
fn an_invalid_key_file_stops_the_start_and_is_not_replaced() {
    let good = nsec(&Signer::from_seed(7).secret()).to_string();
    for (content, mode, why) in [
        ("", 0o600, "it is empty"),
        ("nsec1oops\n", 0o600, "it holds no secret key"),
        (&good[..good.len() - 1], 0o600, "it holds no secret key"),
        (&good, 0o644, "chmod 600"),
        (&"0".repeat(64), 0o600, "it holds no secret key"),
        ("\u{0}\u{1}", 0o600, "it holds no secret key"),
    ] {
        let site = Site::empty();
        let file = key_file(&site);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let output = site.run();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        let last = log.lines().last().unwrap();
        assert!(last.contains("relayer.key") && last.contains(why), "{why:?} is not in {last}");
        assert!(last.contains("restore the file"), "{last}");
        assert!(
            !log.contains("panicked") && !log.contains("nsec1oops") && !log.contains(&good[..20]),
            "{log}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
}

#[tokio::test]
async fn a_configured_key_comes_first_and_no_file_is_created() {
    let key = Signer::from_seed(7);
    let site = Site::empty().set("RELAYER_NOSTR__SECRET_KEY", nsec(&key.secret()).to_string());
    assert_eq!(identity(&site).await.0, key.pubkey().to_string());
    assert!(!key_file(&site).exists());
    // With a configured key, the gateway does not even read the key file.
    fs::write(key_file(&site), "no key").unwrap();
    assert_eq!(identity(&site).await.0, key.pubkey().to_string());
    assert_eq!(fs::read_to_string(key_file(&site)).unwrap(), "no key");
}
