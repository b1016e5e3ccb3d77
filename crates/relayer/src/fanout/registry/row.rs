//! The rows of a registry: bots and follows.

use std::fmt;

use wire::PublicKey;

use super::seal::SealedSecret;

/// A registered bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotRow {
    /// The key that signs the bot's signals.
    pub pubkey: PublicKey,
    /// The display name.
    pub name: BotName,
    /// Unix milliseconds of the first registration.
    pub registered_at_ms: u64,
    /// Whether the bot may be followed. If not, the bot waits for the operator's approval.
    pub is_approved: bool,
}

/// A follower's subscription to a bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowRow {
    /// The bot and the follower.
    pub key: FollowKey,
    /// The sealed shared secret. Without a shared secret, the NIP-44 conversation key encrypts the
    /// signals.
    pub secret: Option<SealedSecret>,
    /// Unix milliseconds of the first subscription.
    pub since_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowKey {
    pub bot: PublicKey,
    pub follower: PublicKey,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Bot(BotRow),
    /// A follow. Its bot exists.
    Follow(FollowRow),
}

impl Row {
    pub const fn key(&self) -> RowKey {
        match self {
            Self::Bot(bot) => RowKey::Bot(bot.pubkey),
            Self::Follow(follow) => RowKey::Follow(follow.key),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    Bot(PublicKey),
    Follow(FollowKey),
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Inserts or replaces a row. The time of the first registration or subscription is kept.
    Put(Row),
    /// Removes a follow, if it exists.
    Unfollow(FollowKey),
    /// Removes a bot, if it exists, and its follows.
    RemoveBot(PublicKey),
    /// Removes a bot, if it exists. Fails if the bot has followers.
    RemoveUnfollowedBot(PublicKey),
}

impl Change {
    pub const fn key(&self) -> RowKey {
        match self {
            Self::Put(row) => row.key(),
            Self::Unfollow(follow) => RowKey::Follow(*follow),
            Self::RemoveBot(bot) | Self::RemoveUnfollowedBot(bot) => RowKey::Bot(*bot),
        }
    }
}

/// A bot's name: 1 to [`BotName::CHARACTERS_MAX`] characters, none of them control characters.
///
/// New names also have no surrounding white space, no invisible characters, and no characters that
/// change the direction of text, because such characters could make one name look like another.
/// Names that were stored before this rule are read unchanged.
#[derive(Clone, PartialEq, Eq)]
pub struct BotName(Box<str>);

impl BotName {
    /// The maximum length of a name.
    pub(crate) const CHARACTERS_MAX: usize = 100;

    /// Trims and checks a new name. Returns `None` if the name is empty, too long, or contains
    /// characters that are not allowed.
    pub fn new(name: &str) -> Option<Self> {
        let name = name.trim();
        (!name.contains(is_misleading)).then(|| Self::stored(name)).flatten()
    }

    /// Checks a stored name. Returns `None` if the name is empty, too long, or contains control
    /// characters.
    pub fn stored(name: &str) -> Option<Self> {
        let is_short = (1..=Self::CHARACTERS_MAX).contains(&name.chars().count());
        (is_short && !name.chars().any(char::is_control)).then(|| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character changes the direction of text, breaks lines, or is invisible. Joiners are
/// allowed, because emoji and several scripts need them.
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
    fn a_name_is_trimmed_and_not_misleading() {
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
