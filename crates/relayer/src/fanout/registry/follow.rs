//! The follows of one follower: the encryption key for each bot, and the changes between two
//! versions of the follows.

use std::sync::Arc;

use wire::PublicKey;

use crate::fanout::keys::MessageKey;

/// A follow in the memory of the gateway. A follower's follows are sorted by bot.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    pub(super) bot: PublicKey,
    /// The key derived from the shared secret.
    pub(super) secret: Option<Arc<MessageKey>>,
    pub(super) since_ms: u64,
}

/// The key that encrypts a bot's signals for a follower.
#[derive(Debug, Clone)]
pub(crate) enum SignalKey {
    /// The NIP-44 conversation key.
    Conversation,
    /// The key that is derived from the shared secret.
    SharedSecret(Arc<MessageKey>),
}

/// A change of a follow, which the follower's connections are told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The follower gets no more signals from this bot.
    Unsubscribed(PublicKey),
    /// The signals of this bot are encrypted with another key from now on.
    SecretChanged { bot: PublicKey, has_secret: bool },
}

pub(super) fn find_follow<'f>(follows: &'f [Follow], bot: &PublicKey) -> Option<&'f Follow> {
    let index = follows.binary_search_by_key(bot, |follow| follow.bot).ok()?;
    follows.get(index)
}

/// Returns the key for an author's signals. `None` if the author is not followed.
pub(crate) fn signal_key(follows: &[Follow], author: &PublicKey) -> Option<SignalKey> {
    let follow = find_follow(follows, author)?;
    Some(follow.secret.clone().map_or(SignalKey::Conversation, SignalKey::SharedSecret))
}

/// Returns the notices for the changes from one version of the follows to another.
pub(crate) fn notices(before: &[Follow], now: &[Follow]) -> impl Iterator<Item = Notice> {
    before.iter().filter_map(|follow| match find_follow(now, &follow.bot) {
        None => Some(Notice::Unsubscribed(follow.bot)),
        Some(now) if now.secret != follow.secret => {
            Some(Notice::SecretChanged { bot: follow.bot, has_secret: now.secret.is_some() })
        }
        Some(_) => None,
    })
}
