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
    /// Whether it may be followed. Otherwise it waits for the operator.
    pub is_approved: bool,
}

/// A follower's wish to have a bot's signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowRow {
    /// The bot and the follower.
    pub key: FollowKey,
    /// What the two have message_key on, sealed; without one, keys alone protect the signals.
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
    /// The bot is there no more, if it was, nor are its follows.
    RemoveBot(PublicKey),
    /// The bot is there no more, if it was. It must have no follows.
    RemoveUnfollowedBot(PublicKey),
}

impl Change {
    /// Which row it changes.
    pub const fn key(&self) -> RowKey {
        match self {
            Self::Put(row) => row.key(),
            Self::Unfollow(follow) => RowKey::Follow(*follow),
            Self::RemoveBot(bot) | Self::RemoveUnfollowedBot(bot) => RowKey::Bot(*bot),
        }
    }
}

/// A bot's name: 1 to [`BotName::CHARACTERS_MAX`] characters, none of which controls a terminal.
///
/// A new name also has no white space around it, and nothing that changes the direction of text or
/// cannot be seen, which could make one name look like another one. Names that were stored before
/// that was checked are read as they are.
#[derive(Clone, PartialEq, Eq)]
pub struct BotName(Box<str>);

impl BotName {
    /// The most characters.
    pub const CHARACTERS_MAX: usize = 100;

    /// Checks a name that somebody gives a bot, without the white space around it; `None` if it is
    /// empty, too long, or has characters that no name may have.
    pub fn new(name: &str) -> Option<Self> {
        let name = name.trim();
        (!name.contains(is_misleading)).then(|| Self::stored(name)).flatten()
    }

    /// Checks a name that was stored; `None` if it is empty, too long, or has control characters.
    pub fn stored(name: &str) -> Option<Self> {
        let is_short = (1..=Self::CHARACTERS_MAX).contains(&name.chars().count());
        (is_short && !name.chars().any(char::is_control)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character changes the direction of text, breaks lines, or is not seen. Joiners are
/// part of emoji and of several scripts, so they are allowed.
fn is_misleading(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

impl fmt::Debug for BotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_shows_what_it_is() {
        for (given, name) in
            [("Momentum", Some("Momentum")), (" \u{a0}Momentum\n", Some("Momentum")), ("  ", None)]
        {
            assert_eq!(BotName::new(given).as_ref().map(BotName::as_str), name, "{given:?}");
        }
        for character in
            "\u{7f}\u{9b}\u{61c}\u{200b}\u{200f}\u{202e}\u{2066}\u{2069}\u{feff}\u{2028}\n".chars()
        {
            assert_eq!(BotName::new(&format!("a{character}b")), None, "{character:?}");
        }
        for name in ["ボット", "👩\u{200d}🚀", "بوت"] {
            assert!(BotName::new(name).is_some(), "{name}");
        }
        assert!(BotName::stored("a\u{202e}b ").is_some(), "what was stored is read");
        assert_eq!(BotName::stored("a\u{1b}b"), None);
    }
}
