//! Pages of a list sorted by public key.

use wire::PublicKey;

use super::key;
use crate::api::error::ApiError;
use crate::api::parameter::{Form, Parameter};
use crate::api::query::parameters;
use crate::limits::FOLLOWERS_LISTED_MAX;

const AFTER: Parameter = Parameter {
    name: "after",
    code: "bad_public_key",
    form: Form::PublicKey,
    about: "The page begins after this key: `next` of the previous page.",
};

const LIMIT: Parameter = Parameter {
    name: "limit",
    code: "bad_limit",
    form: Form::Count { least: 1, most: FOLLOWERS_LISTED_MAX, default: Some(1_000) },
    about: "The maximum number of items.",
};

pub(super) const PARAMETERS: &[Parameter] = &[AFTER, LIMIT];

/// The page that a query asks for.
pub(super) struct Page {
    /// The page begins after this key.
    pub after: Option<PublicKey>,
    limit: usize,
}

impl Page {
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let mut page = Self { after: None, limit: LIMIT.default_count() };
        for (parameter, value) in parameters(query, PARAMETERS)? {
            match parameter.name {
                "after" => page.after = Some(key("after", &value)?),
                _ => page.limit = parameter.count(&value)?,
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
