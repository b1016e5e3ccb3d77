//! What a registry keeps: bots, and who follows them.

use std::fmt;

use wire::PublicKey;

use super::seal::SealedSecret;

/// A bot that may be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotRow {
    /// The key that signs its signals.
    pub pubkey: PublicKey,
    /// What it calls itself.
    pub name: BotName,
    /// When it was first registered, in Unix milliseconds.
    pub registered_at_ms: u64,
}

/// A follower's wish to have a bot's signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowRow {
    /// The bot and the follower.
    pub key: FollowKey,
    /// What the two have agreed on, sealed; without one, keys alone protect the signals.
    pub secret: Option<SealedSecret>,
    /// When it was first wished, in Unix milliseconds.
    pub since_ms: u64,
}

/// Which follow: there is one of a follower and a bot at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowKey {
    /// The bot.
    pub bot: PublicKey,
    /// The follower.
    pub follower: PublicKey,
}

/// One of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A bot.
    Bot(BotRow),
    /// A follow. Its bot is there, too.
    Follow(FollowRow),
}

impl Row {
    /// Which row it is.
    pub const fn key(&self) -> RowKey {
        match self {
            Self::Bot(bot) => RowKey::Bot(bot.pubkey),
            Self::Follow(follow) => RowKey::Follow(follow.key),
        }
    }
}

/// Which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// A bot's.
    Bot(PublicKey),
    /// A follow's.
    Follow(FollowKey),
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The row becomes this. What is there keeps the earlier of both times.
    Put(Row),
    /// The follow is there no more, if it was.
    Unfollow(FollowKey),
}

impl Change {
    /// Which row it changes.
    pub const fn key(&self) -> RowKey {
        match self {
            Self::Put(row) => row.key(),
            Self::Unfollow(follow) => RowKey::Follow(*follow),
        }
    }
}

/// A bot's name: 1 to [`BotName::CHARACTERS_MAX`] characters, none of which controls a terminal.
#[derive(Clone, PartialEq, Eq)]
pub struct BotName(Box<str>);

impl BotName {
    /// The most characters.
    pub const CHARACTERS_MAX: usize = 100;

    /// Checks a name; `None` if it is empty, too long, or has control characters.
    pub fn new(name: &str) -> Option<Self> {
        let is_short = (1..=Self::CHARACTERS_MAX).contains(&name.chars().count());
        (is_short && !name.chars().any(char::is_control)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
