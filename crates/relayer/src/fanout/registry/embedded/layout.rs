//! The layout of the embedded registry in RocksDB.
//!
//! | key | value |
//! |---|---|
//! | `b`, bot (32 bytes) | version (u8: 1, or 2 while it waits for approval), registration in Unix milliseconds (u64), name |
//! | `f`, bot (32 bytes), follower (32 bytes) | version (u8: 1), start in Unix milliseconds (u64), sealed secret or nothing |
//!
//! Numbers are big-endian. Bots sort before follows, and the follows of a bot are adjacent.

use wire::PublicKey;

use crate::fanout::registry::{BotName, BotRow, FollowKey, FollowRow, Row, RowKey, SealedSecret};

const BOT: u8 = b'b';
const FOLLOW: u8 = b'f';

const VERSION: u8 = 1;

/// The row version for a bot that waits for approval. An older gateway, which does not know
/// approval, refuses such a row instead of reading the bot as approved.
const VERSION_PENDING: u8 = 2;

pub fn key(key: &RowKey) -> Vec<u8> {
    match key {
        RowKey::Bot(bot) => [&[BOT], bot.as_bytes().as_slice()].concat(),
        RowKey::Follow(FollowKey { bot, follower }) => {
            [&[FOLLOW], bot.as_bytes().as_slice(), follower.as_bytes()].concat()
        }
    }
}

/// Returns the common prefix of the keys of a bot's follows.
pub(crate) fn follows_of(bot: &PublicKey) -> Vec<u8> {
    [&[FOLLOW], bot.as_bytes().as_slice()].concat()
}

pub(crate) fn read_key(key: &[u8]) -> Option<RowKey> {
    let (kind, rest) = key.split_first()?;
    let (bot, follower) = rest.split_first_chunk()?;
    let bot = PublicKey::from_bytes(*bot);
    match *kind {
        BOT if follower.is_empty() => Some(RowKey::Bot(bot)),
        FOLLOW => {
            let follower = PublicKey::from_bytes(follower.try_into().ok()?);
            Some(RowKey::Follow(FollowKey { bot, follower }))
        }
        _ => None,
    }
}

pub fn value(row: &Row) -> Vec<u8> {
    let (version, time, rest) = match row {
        Row::Bot(bot) => {
            let version = if bot.is_approved { VERSION } else { VERSION_PENDING };
            (version, bot.registered_at_ms, bot.name.as_str().as_bytes())
        }
        Row::Follow(follow) => {
            (VERSION, follow.since_ms, follow.secret.as_ref().map_or(&[][..], SealedSecret::as_bytes))
        }
    };
    [&[version], time.to_be_bytes().as_slice(), rest].concat()
}

pub fn read(key: RowKey, value: &[u8]) -> Option<Row> {
    let (version, rest) = value.split_first()?;
    let (time, rest) = rest.split_first_chunk()?;
    let time = u64::from_be_bytes(*time);
    Some(match (key, *version) {
        (RowKey::Bot(pubkey), VERSION | VERSION_PENDING) => {
            let name = BotName::stored(std::str::from_utf8(rest).ok()?)?;
            Row::Bot(BotRow { pubkey, name, registered_at_ms: time, is_approved: *version == VERSION })
        }
        (RowKey::Follow(key), VERSION) => {
            let secret = SealedSecret::from_bytes(rest)?;
            let secret = (!rest.is_empty()).then_some(secret);
            Row::Follow(FollowRow { key, secret, since_ms: time })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_back(row: &Row) -> (Vec<u8>, Vec<u8>) {
        let (stored_key, stored) = (key(&row.key()), value(row));
        assert_eq!(read_key(&stored_key), Some(row.key()));
        assert_eq!(read(row.key(), &stored).as_ref(), Some(row));
        for cut in 0..stored_key.len() {
            assert_eq!(read_key(&stored_key[..cut]), None, "{cut}");
        }
        for cut in 0..9 {
            assert_eq!(read(row.key(), &stored[..cut]), None, "{cut}");
        }
        assert_eq!(read_key(&[stored_key.as_slice(), &[0]].concat()), None);
        assert_eq!(read(row.key(), &[&[3], &stored[1..]].concat()), None, "another version");
        (stored_key, stored)
    }

    #[test]
    fn a_bot_reads_back() {
        let pubkey = PublicKey::from_bytes([7; 32]);
        let bot =
            BotRow { pubkey, name: BotName::new("é").unwrap(), registered_at_ms: 258, is_approved: true };
        let pending = Row::Bot(BotRow { is_approved: false, ..bot.clone() });
        assert_eq!(reads_back(&pending).1[..2], [2, 0], "the layout is a promise");
        let row = Row::Bot(bot);
        let (stored_key, stored) = reads_back(&row);
        assert_eq!(stored_key, [&[b'b'][..], &[7; 32]].concat(), "the layout is a promise");
        assert_eq!(stored, [1, 0, 0, 0, 0, 0, 0, 1, 2, 0xc3, 0xa9], "the layout is a promise");
        assert_eq!(read(row.key(), &stored[..9]), None, "no name");
        assert_eq!(read(row.key(), &stored[..10]), None, "no UTF-8");
        assert_eq!(read(row.key(), &[&stored[..9], b"\x1b[2J"].concat()), None, "controls the terminal");
    }

    #[test]
    fn a_follow_reads_back() {
        let key = FollowKey { bot: PublicKey::from_bytes([7; 32]), follower: PublicKey::from_bytes([8; 32]) };
        let without = Row::Follow(FollowRow { key, secret: None, since_ms: 3 });
        let (stored_key, stored) = reads_back(&without);
        assert_eq!(stored_key, [&[b'f'][..], &[7; 32], &[8; 32]].concat(), "the layout is a promise");
        assert_eq!(stored, [1, 0, 0, 0, 0, 0, 0, 0, 3], "the layout is a promise");
        let secret = SealedSecret::from_bytes(&[1, 2, 3]);
        let (_, stored) = reads_back(&Row::Follow(FollowRow { key, secret, since_ms: 3 }));
        assert_eq!(stored, [1, 0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3], "the layout is a promise");
        let long = [&stored[..9], &[0; SealedSecret::BYTES_MAX + 1]].concat();
        assert_eq!(read(RowKey::Follow(key), &long), None);
    }

    #[test]
    fn bots_sort_before_follows() {
        let (least, most) = (PublicKey::from_bytes([0; 32]), PublicKey::from_bytes([255; 32]));
        let follow = RowKey::Follow(FollowKey { bot: least, follower: least });
        assert!(key(&RowKey::Bot(most)) < key(&follow));
    }
}
