//! A registry as lines of JSON, for moving it between stores.
//!
//! The header line names the owner of the secrets; the footer counts the rows, so that a truncated
//! file is noticed. The lines between header and footer are first the bots, then the follows.
//! Secrets stay sealed, so the gateway's key is needed to use the file.

use std::io::{self, BufRead, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use wire::PublicKey;

use super::{BotName, BotRow, Change, FollowKey, FollowRow, RegistryError, Row, SealedSecret, Sealer, Store};

/// The version of the format.
const VERSION: u32 = 1;

/// The maximum length of a line. The longest line is a follow with a secret. A name is shorter: it
/// has up to 100 characters, each of which takes at most 12 bytes in JSON.
const LINE_BYTES_MAX: u64 = 4 << 10;

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("cannot read or write the file: {0}")]
    Io(#[from] io::Error),
    /// A line is not valid.
    #[error("line {number}: {why}; nothing was imported")]
    Line {
        /// The line number, starting at 1.
        number: u64,
        why: String,
    },
    /// The secrets were sealed with another gateway key.
    #[error(
        "the secrets were sealed by the gateway key {found}, and this gateway has {ours}: import them with that key, \
         then change the owner with `moltrade-relayer registry rekey`; nothing was imported"
    )]
    OtherKey { found: PublicKey, ours: PublicKey },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RowCounts {
    pub bots: u64,
    pub follows: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Header {
        registry: u32,
        owner: PublicKey,
    },
    Bot {
        bot_pubkey: PublicKey,
        name: String,
        registered_at: u64,
        /// The bot waits for approval.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pending: bool,
    },
    Follow {
        bot_pubkey: PublicKey,
        follower_pubkey: PublicKey,
        since: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sealed_secret: Option<String>,
    },
    Footer {
        end: RowCounts,
    },
}

/// Writes all rows of a store. The store must be prepared.
pub async fn export(
    store: &dyn Store,
    owner: PublicKey,
    out: &mut (impl Write + Send),
) -> Result<RowCounts, TransferError> {
    let (mut moved, mut written) = (RowCounts::default(), Ok(()));
    write(out, &Line::Header { registry: VERSION, owner })?;
    let mut each = |row| {
        if written.is_ok() {
            let line = match row {
                Row::Bot(BotRow { pubkey, name, registered_at_ms, is_approved }) => {
                    moved.bots += 1;
                    Line::Bot {
                        bot_pubkey: pubkey,
                        name: name.as_str().to_owned(),
                        registered_at: registered_at_ms,
                        pending: !is_approved,
                    }
                }
                Row::Follow(FollowRow { key, secret, since_ms }) => {
                    moved.follows += 1;
                    let sealed_secret = secret.map(|secret| STANDARD.encode(secret.as_bytes()));
                    let FollowKey { bot, follower } = key;
                    Line::Follow {
                        bot_pubkey: bot,
                        follower_pubkey: follower,
                        since: since_ms,
                        sealed_secret,
                    }
                }
            };
            written = write(out, &line);
        }
    };
    store.load(owner, &mut each).await?;
    written?;
    write(out, &Line::Footer { end: moved })?;
    out.flush()?;
    Ok(moved)
}

/// Adds all rows of a file to a store, and replaces existing rows. On an error, adds no row. The
/// store must be prepared.
pub async fn import(
    store: &dyn Store,
    owner: PublicKey,
    sealer: &Sealer,
    lines: impl BufRead,
) -> Result<RowCounts, TransferError> {
    let (changes, moved) = read(owner, sealer, lines)?;
    store.write(owner, changes).await?;
    Ok(moved)
}

fn write(out: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn read(
    owner: PublicKey,
    sealer: &Sealer,
    mut lines: impl BufRead,
) -> Result<(Vec<Change>, RowCounts), TransferError> {
    let (mut changes, mut moved, mut number) = (Vec::new(), RowCounts::default(), 0);
    loop {
        number += 1;
        let wrong = |why: &str| TransferError::Line { number, why: why.to_owned() };
        match (number, next(&mut lines, number)?) {
            (1, Some(Line::Header { registry: VERSION, owner: found })) => {
                if found != owner {
                    return Err(TransferError::OtherKey { found, ours: owner });
                }
            }
            (1, Some(Line::Header { .. })) => return Err(wrong("it was written by another version")),
            (1, _) => return Err(wrong("it is not the header of an exported registry")),
            (_, Some(Line::Bot { bot_pubkey, name, registered_at, pending })) => {
                moved.bots += 1;
                let name = BotName::stored(&name).ok_or_else(|| wrong("its name is not valid"))?;
                if !bot_pubkey.is_on_curve() {
                    return Err(wrong("its public key is not on the curve"));
                }
                let registered_at_ms = registered_at;
                let row = BotRow { pubkey: bot_pubkey, name, registered_at_ms, is_approved: !pending };
                changes.push(Change::Put(Row::Bot(row)));
            }
            (_, Some(Line::Follow { bot_pubkey, follower_pubkey, since, sealed_secret })) => {
                moved.follows += 1;
                let key = FollowKey { bot: bot_pubkey, follower: follower_pubkey };
                if !follower_pubkey.is_on_curve() {
                    return Err(wrong("its public key is not on the curve"));
                }
                let secret = match sealed_secret {
                    None => None,
                    Some(text) => {
                        let bytes = STANDARD.decode(text).ok();
                        let sealed = bytes.and_then(|bytes| SealedSecret::from_bytes(&bytes));
                        let sealed = sealed.ok_or_else(|| wrong("its secret is not valid"))?;
                        sealer.open(&key, &sealed).map_err(|fault| wrong(&fault.to_string()))?;
                        Some(sealed)
                    }
                };
                changes.push(Change::Put(Row::Follow(FollowRow { key, secret, since_ms: since })));
            }
            (_, Some(Line::Footer { end })) if end == moved => return Ok((changes, moved)),
            (_, Some(Line::Footer { .. })) => return Err(wrong("its counts do not match the rows")),
            (_, Some(Line::Header { .. })) => return Err(wrong("it is a second header")),
            (_, None) => return Err(wrong("the last line is missing: the file was cut")),
        }
    }
}

/// Reads the next line; `None` at the end of the file.
fn next(lines: &mut impl BufRead, number: u64) -> Result<Option<Line>, TransferError> {
    let mut line = Vec::new();
    let length = lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    let wrong = |why: String| TransferError::Line { number, why };
    if length == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(wrong("it is cut off or too long".to_owned()));
    }
    // Serde's message for an untagged enum does not help.
    let read = serde_json::from_slice(&line);
    read.map(Some).map_err(|_| wrong("it is neither a bot nor a follow".to_owned()))
}

#[cfg(test)]
mod tests {
    use wire::Signer;

    use super::*;

    fn key(seed: u64) -> PublicKey {
        *Signer::from_seed(seed).pubkey()
    }

    /// Returns an exported registry of two rows.
    fn exported() -> String {
        let sealer = Sealer::new(&Signer::from_seed(1));
        let follow = FollowKey { bot: key(2), follower: key(3) };
        let sealed = STANDARD.encode(sealer.seal(&follow, b"sixteen bytes ok").as_bytes());
        [
            format!(r#"{{"registry":1,"owner":"{}"}}"#, key(1)),
            format!(r#"{{"bot_pubkey":"{}","name":"a \"bot\"","registered_at":5}}"#, key(2)),
            format!(
                r#"{{"bot_pubkey":"{}","follower_pubkey":"{}","since":6,"sealed_secret":"{sealed}"}}"#,
                key(2),
                key(3)
            ),
            r#"{"end":{"bots":1,"follows":1}}"#.to_owned(),
        ]
        .join("\n")
            + "\n"
    }

    fn imported(text: &str) -> Result<RowCounts, String> {
        let read = read(key(1), &Sealer::new(&Signer::from_seed(1)), text.as_bytes());
        read.map(|(_, moved)| moved).map_err(|error| error.to_string())
    }

    #[test]
    fn an_export_can_be_imported() {
        assert_eq!(imported(&exported()), Ok(RowCounts { bots: 1, follows: 1 }));
    }

    #[test]
    fn every_error_names_its_line() {
        let whole = exported();
        let lines: Vec<&str> = whole.lines().collect();
        let with = |index: usize, line: &str| {
            let mut lines = lines.clone();
            lines[index] = line;
            lines.join("\n") + "\n"
        };
        let check = |text: String, expected: &str| {
            let error = imported(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(String::new(), "line 1: it is not the header");
        check(with(0, r#"{"registry":2,"owner":"00"}"#), "line 1: it is neither");
        check(
            whole.replace(r#""registry":1"#, r#""registry":2"#),
            "line 1: it was written by another version",
        );
        check(whole.replacen(&key(1).to_string(), &key(9).to_string(), 1), "sealed by the gateway key");
        check(whole.replace("a \\\"bot\\\"", ""), "line 2: its name is not valid");
        check(whole.replace("a \\\"bot\\\"", &"x".repeat(5_000)), "line 2: it is cut off or too long");
        check(whole.replace("\"since\":6", "\"since\":-6"), "line 3: it is neither");
        check(whole.replace(&key(3).to_string(), &key(4).to_string()), "line 3: a secret cannot be opened");
        check(whole.replace("sealed_secret\":\"", "sealed_secret\":\"!"), "line 3: its secret is not valid");
        check(with(3, r#"{"end":{"bots":1,"follows":2}}"#), "line 4: its counts do not match");
        check(with(3, lines[0]), "line 4: it is a second header");
        check(lines[..3].join("\n") + "\n", "line 4: the last line is missing");
        for cut in 0..whole.len() - 1 {
            assert!(imported(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
