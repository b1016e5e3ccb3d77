//! Pages of a list sorted by public key.

use wire::PublicKey;

use super::key;
use crate::api::error::ApiError;
use crate::api::query::{count, parameters};
use crate::limits::FOLLOWERS_LISTED_MAX;

/// The page size if the query has no `limit`.
const LIMIT_DEFAULT: usize = 1_000;

/// The page that a query asks for.
pub(super) struct Page {
    /// The page begins after this key.
    pub after: Option<PublicKey>,
    limit: usize,
}

impl Page {
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let mut page = Self { after: None, limit: LIMIT_DEFAULT };
        for (name, value) in parameters(query, &["after", "limit"])? {
            match name {
                "after" => page.after = Some(key("after", &value)?),
                _ => page.limit = count("limit", "bad_limit", &value, 1..=FOLLOWERS_LISTED_MAX)?,
            }
        }
        Ok(page)
    }

    /// The number of items to read: one more than the page shows. The additional item tells whether
    /// another page follows.
    pub(crate) const fn read_limit(&self) -> usize {
        self.limit.saturating_add(1)
    }

    /// Cuts the items to the page size. Returns the `after` value of the next page, if any.
    pub fn cut<T>(&self, items: &mut Vec<T>, key: impl FnOnce(&T) -> PublicKey) -> Option<PublicKey> {
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        items.last().filter(|_| has_more).map(key)
    }
}
