//! Secrets: the token, the key, and the key file. No error shows a secret.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{accepted, parse, refused, refused_variable};

const KEY: &str = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
const PUBLIC: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
const TOKEN: &str = "correct-horse-battery";

#[test]
fn invariant_8_keys_and_tokens_are_never_shown() {
    for key in [KEY, NSEC] {
        let text = format!("[api]\nadmin_token = '{TOKEN}'\n[nostr]\nsecret_key = '{key}'");
        let loaded =
            parse(&text, &[("RELAYER_POSTGRES__DSN", "postgres://me:hunter2@localhost/db")]).unwrap();
        assert_eq!(loaded.config.api.admin_token.as_ref().unwrap().reveal(), TOKEN);
        assert_eq!(loaded.config.nostr.key().unwrap().signer().pubkey().to_string(), PUBLIC);
        let shown = format!("{} {loaded:?} {:#?}", loaded.to_toml(), loaded.source);
        for secret in [TOKEN, key, "hunter2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("admin_token = \"***\"  # config.toml:2:1"), "{shown}");
        assert!(shown.contains("secret_key = \"***\"  # config.toml:4:1"), "{shown}");
    }
}

#[test]
fn a_wrong_token_is_refused_without_being_shown() {
    let line = |why: &str| {
        format!(
            "config.toml:2:15: api.admin_token: found a value (secret, not shown){why}; allowed: 16 to 512 \
             characters of visible ASCII without spaces, such as `openssl rand -hex 32` prints"
        )
    };
    let token = |token: &str, why| refused(&format!("[api]\nadmin_token = {token}"), &[&line(why)]);
    token("'hunter2'", " (it is too short)");
    token("''", " (it is too short)");
    token(&format!("'{}'", "x".repeat(513)), " (it is too long)");
    for wrong in ["'sixteen and a space'", "'sixteen-and-an-é'", "\"sixteen-and-a-\\n\""] {
        token(wrong, " (it has spaces, or characters that are not visible ASCII)");
    }
    token("1234567890123456", "");
    for right in ["x".repeat(16), "x".repeat(512)] {
        accepted(&format!("api.admin_token = '{right}'"), &[]);
    }
}

#[test]
fn a_wrong_key_is_refused_without_being_shown() {
    let allowed = "allowed: 64 hex digits, or nsec1… (NIP-19)";
    let found = "nostr.secret_key: found a value (secret, not shown)";
    for (key, why) in [
        (&KEY[1..], "it neither has 64 digits nor begins with nsec1"),
        (&NSEC[..62], "a character of it is wrong or missing"),
        (&"0".repeat(64), "its number is not a secret key of secp256k1"),
        ("", "it neither has 64 digits nor begins with nsec1"),
    ] {
        refused_variable(
            "RELAYER_NOSTR__SECRET_KEY",
            key,
            &format!("RELAYER_NOSTR__SECRET_KEY: {found} ({why}); {allowed}"),
        );
    }
    refused(&format!("[nostr]\nsecret_key = ['{KEY}']"), &[&format!("config.toml:2:14: {found}; {allowed}")]);
    for misplaced in [
        format!("[nostr]\nsecret_key = {KEY}"),
        format!("[nostr]\nsecret_key = '{KEY}"),
        format!("[nostr]\nsecretkey = '{KEY}'"),
        format!("[nostr]\nsecret_key_file = '{KEY}'"),
        format!("[api]\nsecret_key = '{KEY}'"),
        format!("nostr = '{KEY}'"),
        format!("secret_key = '{KEY}'"),
    ] {
        let errors = parse(&misplaced, &[]).unwrap_err().to_string();
        assert!(!errors.contains(&KEY[1..9]), "{errors}");
    }
}

/// A key file in a separate folder.
struct File {
    folder: TempDir,
}

impl File {
    fn new(text: &[u8], mode: u32) -> Self {
        let file = Self { folder: TempDir::new().unwrap() };
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    fn setting(&self) -> String {
        format!("[nostr]\nsecret_key_file = '{}'", self.path().display())
    }

    /// Asserts that the configuration refuses this key file for the reason `why`.
    #[track_caller]
    fn refused(&self, why: &str) {
        let errors = parse(&self.setting(), &[]).unwrap_err().to_string();
        let found = format!("config.toml:2:19: nostr.secret_key_file: found \"{}\"", self.path().display());
        let allowed = "the path of a file of mode 600 or 400 that holds 64 hex digits or nsec1… (NIP-19)";
        assert_eq!(errors, format!("{found} ({why}); allowed: {allowed}"));
    }
}

#[test]
fn a_key_may_be_in_a_file() {
    for (text, mode) in [(format!("{KEY}\n"), 0o600), (format!(" {NSEC} \r\n\n"), 0o400)] {
        let file = File::new(text.as_bytes(), mode);
        let loaded = parse(&format!("relay.authenticate = true\n{}", file.setting()), &[]).unwrap();
        assert_eq!(loaded.config.nostr.key().unwrap().signer().pubkey().to_string(), PUBLIC);
        let shown = loaded.to_toml();
        assert!(shown.contains(&format!("secret_key_file = \"{}\"", file.path().display())), "{shown}");
        assert!(!format!("{shown} {loaded:?}").contains(KEY));
        assert_eq!(accepted(&shown, &[]), loaded.config);
    }
}

#[test]
fn a_key_file_must_be_private() {
    for (mode, shown) in [(0o644, "644"), (0o640, "640"), (0o610, "610"), (0o602, "602")] {
        let why = format!("its mode is {shown}, which gives others access: run chmod 600");
        File::new(KEY.as_bytes(), mode).refused(&why);
    }
}

#[test]
fn an_error_says_why_a_file_holds_no_key() {
    File::new(b"", 0o600).refused("it is empty");
    File::new(b" \n", 0o600).refused("it is empty");
    File::new(&KEY.as_bytes()[1..], 0o600)
        .refused("it holds no secret key: it neither has 64 digits nor begins with nsec1");
    File::new(&[b'0'; 2_000], 0o600).refused("it is larger than a secret key");
    File::new(b"\xff\xff", 0o600).refused("it cannot be read: stream did not contain valid UTF-8");
    let missing = File::new(b"", 0o600);
    std::fs::remove_file(missing.path()).unwrap();
    missing.refused("it cannot be read: No such file or directory (os error 2)");
    std::fs::create_dir(missing.path()).unwrap();
    missing.refused("it is not a regular file");
}

/// Users may set the secret itself by mistake, instead of the path of its file.
#[test]
fn a_secret_in_place_of_its_file_is_not_shown() {
    for secret in [KEY, NSEC, &NSEC[..30], &KEY[..40], "whsec_MfKQ9r8GKYqr/wjUPD8ILPZIo2LaLaSw"] {
        let errors = parse(&format!("[nostr]\nsecret_key_file = '{secret}'"), &[]).unwrap_err().to_string();
        assert!(errors.contains("found a value (secret, not shown)"), "{errors}");
        assert!(!errors.contains(&secret[..12]), "{errors}");
    }
    for path in ["relayer.key", "/run/secrets/nostr-key-of-the-gateway", "./key", "key"] {
        let errors = parse(&format!("[nostr]\nsecret_key_file = '{path}'"), &[]).unwrap_err().to_string();
        assert!(errors.contains(&format!("found \"{path}\" (it cannot be read: No such file")), "{errors}");
    }
}

#[test]
fn two_keys_are_refused() {
    let file = File::new(KEY.as_bytes(), 0o600);
    refused(
        &format!("{}\nsecret_key = '{NSEC}'", file.setting()),
        &[
            "config.toml:2:1: nostr.secret_key and nostr.secret_key_file: both are set; allowed: one of the two",
        ],
    );
}
