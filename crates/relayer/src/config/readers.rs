//! The readers of `[api]`: tokens for reading, with what they select and their limits.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};

use wire::PublicKey;

use super::key::{Key, key};
use super::rules::{self, Rule as _};
use super::secret::{Secret, SecretFile, Token};
use super::sinks::{SinkName, options};

/// A reader. It has a token.
#[derive(Debug, Clone, PartialEq)]
pub struct ReaderConfig {
    /// The unique name. It follows the rules of sink names.
    pub name: SinkName,
    pub options: ReaderOptions,
}

options! {
    /// The keys of a reader, in addition to its name.
    ReaderOptions in READER_OPTIONS {
        /// The reader's token, which is never shown.
        token: Option<Token> = None, rules::optional(rules::token());
        /// A file with the token, instead of `token`.
        token_file: Option<SecretFile<Token>> = None, rules::optional(rules::token_file());
        /// The event kinds that the reader gets. Empty: all kinds. A reader with kinds or authors
        /// gets events only, and no state.
        kinds: BTreeSet<u16> = BTreeSet::new(), rules::list(rules::kind(), 10_000);
        /// The authors whose events the reader gets. Empty: all authors.
        authors: BTreeSet<PublicKey> = BTreeSet::new(), rules::list(rules::public_key(), 10_000);
        /// The maximum number of simultaneous connections to /ws and event streams. 0: no limit.
        max_connections: Option<NonZeroUsize> = NonZeroUsize::new(100), rules::whole(1..=1_000_000);
        /// The maximum number of requests per minute; all of them may come at once. 0: no limit.
        max_requests_per_minute: Option<NonZeroU32> = NonZeroU32::new(600), rules::whole(1..=1_000_000);
        /// The maximum number of consumers of /ws whose cursors are stored for the reader.
        max_consumers: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9), rules::whole(1..=100_000);
    }
}

impl ReaderConfig {
    /// The token, from either setting. `None` is never loaded.
    pub(crate) fn token(&self) -> Option<&Secret> {
        let ReaderOptions { token, token_file, .. } = &self.options;
        token.as_ref().or(token_file.as_ref().map(|file| &file.secret)).map(Token::secret)
    }
}
