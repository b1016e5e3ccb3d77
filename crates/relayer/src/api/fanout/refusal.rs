//! Why a fan-out request is refused.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};

use crate::api::description::errors::Errors;
use crate::api::error::ApiError;
use crate::fanout::proof::BadProof;
use crate::fanout::rate_limit::LimitReached;
use crate::fanout::registry::{BotName, RegistryError};
use crate::fanout::shared_secret::WeakSecret;
use crate::limits::FOLLOWER_CONNECTIONS_MAX;
use crate::nip19::InvalidKey;

/// The errors of every call that proves a key.
pub(super) const CALL: Errors = &[
    (StatusCode::NOT_FOUND, "fanout_disabled"),
    (StatusCode::SERVICE_UNAVAILABLE, "registry_unavailable"),
    (StatusCode::UNAUTHORIZED, "unauthorized"),
    (StatusCode::FORBIDDEN, "public_url_required"),
    (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
    (StatusCode::SERVICE_UNAVAILABLE, "starting"),
];

/// The errors of reading the registry.
pub(super) const READ: Errors = &[(StatusCode::SERVICE_UNAVAILABLE, "registry_unavailable")];

/// The errors of changing the registry.
pub(super) const WRITE: Errors = &[
    (StatusCode::SERVICE_UNAVAILABLE, "registry_unavailable"),
    (StatusCode::SERVICE_UNAVAILABLE, "disk_full"),
];

/// The errors of a call that concerns a key.
pub(super) const OWNER: Errors =
    &[(StatusCode::FORBIDDEN, "not_yours"), (StatusCode::BAD_REQUEST, "bad_public_key")];

/// The error of a call for the operator.
pub(super) const OPERATOR: Errors = &[(StatusCode::FORBIDDEN, "admin_only")];

/// The errors of a call that names a bot.
pub(super) const NO_SUCH_BOT: Errors =
    &[(StatusCode::NOT_FOUND, "bot_not_found"), (StatusCode::BAD_REQUEST, "bad_public_key")];

/// The errors of registering a bot.
pub(super) const NEW_BOT: Errors = &[
    (StatusCode::BAD_REQUEST, "bad_public_key"),
    (StatusCode::BAD_REQUEST, "bad_name"),
    (StatusCode::FORBIDDEN, "not_yours"),
    (StatusCode::FORBIDDEN, "registration_closed"),
    (StatusCode::SERVICE_UNAVAILABLE, "registry_full"),
];

/// The errors of following a bot.
pub(super) const NEW_FOLLOW: Errors = &[
    (StatusCode::BAD_REQUEST, "bad_shared_secret"),
    (StatusCode::FORBIDDEN, "bot_not_approved"),
    (StatusCode::CONFLICT, "too_many_follows"),
    (StatusCode::SERVICE_UNAVAILABLE, "registry_full"),
];

/// The errors of a follower that connects.
pub(super) const CONNECT: Errors = &[
    (StatusCode::TOO_MANY_REQUESTS, "too_many_connections"),
    (StatusCode::FORBIDDEN, "not_following"),
    (StatusCode::CONFLICT, "too_many_consumers_of_follower"),
];

/// The text of this error is the message of the response: what is wrong, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::api) enum Refusal {
    #[error("the fan-out is switched off; set enabled = true under [fanout]")]
    Disabled,
    #[error(
        "the registry cannot be read or written at the moment; try again later (GET /status says since when)"
    )]
    RegistryUnavailable,
    /// The disk of the embedded registry is full.
    #[error(
        "the gateway's disk is full, and nothing can be written; its operator must make room, then try again"
    )]
    DiskFull,
    #[error(
        "say who you are: send `Authorization: Nostr <token>`, a NIP-98 event that is signed by the key that this \
         concerns, or `Authorization: Bearer <admin_token>`, if the gateway has one; docs/fanout.md shows how"
    )]
    ProofMissing,
    #[error("the token in the Authorization header is not the admin_token of [api]")]
    TokenWrong,
    #[error("the NIP-98 token is not valid: {0}")]
    BadProof(BadProof),
    /// The caller's key is not the key that this call concerns.
    #[error("the token is signed by {signer}, but this call concerns another key: sign it with that one")]
    NotYours { signer: wire::PublicKey },
    #[error(
        "this key, or this address, has used up its {daily_limit} calls a day; the next is possible in \
         {seconds} s ([fanout] daily_limit)",
        seconds = retry_after.as_secs().saturating_add(1)
    )]
    RateLimited { daily_limit: NonZeroU32, retry_after: Duration },
    #[error(
        "this address has registered its {daily_limit} new bots of a day; the next is possible in {seconds} s \
         ([fanout] daily_new_bots)",
        seconds = retry_after.as_secs().saturating_add(1)
    )]
    NewBotsRateLimited { daily_limit: NonZeroU32, retry_after: Duration },
    #[error("this call is for the operator: send `Authorization: Bearer <admin_token>`")]
    AdminOnly,
    #[error("the gateway registers no new bots ([fanout] registration = \"closed\"); ask its operator")]
    RegistrationClosed,
    #[error("this bot waits for the operator's approval and cannot be followed yet; try again later")]
    NotApproved,
    #[error("`{field}` must be a public key, as 64 hex digits or npub1…: {why}")]
    BadPublicKey { field: &'static str, why: InvalidKey },
    #[error(
        "`name` must have 1 to {} characters, none of them a control character, invisible, or one that changes the \
         direction of text",
        BotName::CHARACTERS_MAX
    )]
    BadName,
    #[error("`shared_secret` {0}; use 32 random bytes in base64, as `openssl rand -base64 32` prints them")]
    BadSecret(WeakSecret),
    #[error("no bot with this key is registered; the bot registers itself with POST /api/bots/register")]
    NoSuchBot,
    #[error("{}", RegistryError::TooManyFollows)]
    TooManyFollows,
    #[error("the gateway takes no more bots or follows ([fanout] max_bots, max_follows); ask its operator")]
    Full,
    #[error("the follower has {FOLLOWER_CONNECTIONS_MAX} connections, which is the limit; close one first")]
    TooManyConnections,
    #[error(
        "the follower follows no bot, so no cursor is stored for it; subscribe first, or connect without `consumer`"
    )]
    NotFollowing,
}

impl Refusal {
    /// Returns the HTTP status and the `error` code.
    pub const fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Disabled => (StatusCode::NOT_FOUND, "fanout_disabled"),
            Self::RegistryUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "registry_unavailable"),
            Self::DiskFull => (StatusCode::SERVICE_UNAVAILABLE, "disk_full"),
            Self::BadProof(BadProof::NoPublicUrl) => (StatusCode::FORBIDDEN, "public_url_required"),
            Self::BadProof(BadProof::TooMany) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            // The client did nothing wrong: the gateway will accept a new token.
            Self::BadProof(BadProof::BeforeStart) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            Self::ProofMissing | Self::TokenWrong | Self::BadProof(_) => {
                (StatusCode::UNAUTHORIZED, "unauthorized")
            }
            Self::NotYours { .. } => (StatusCode::FORBIDDEN, "not_yours"),
            Self::RateLimited { .. } | Self::NewBotsRateLimited { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
            }
            Self::AdminOnly => (StatusCode::FORBIDDEN, "admin_only"),
            Self::RegistrationClosed => (StatusCode::FORBIDDEN, "registration_closed"),
            Self::NotApproved => (StatusCode::FORBIDDEN, "bot_not_approved"),
            Self::BadPublicKey { .. } => (StatusCode::BAD_REQUEST, "bad_public_key"),
            Self::BadName => (StatusCode::BAD_REQUEST, "bad_name"),
            Self::BadSecret(_) => (StatusCode::BAD_REQUEST, "bad_shared_secret"),
            Self::NoSuchBot => (StatusCode::NOT_FOUND, "bot_not_found"),
            Self::TooManyFollows => (StatusCode::CONFLICT, "too_many_follows"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "registry_full"),
            Self::TooManyConnections => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections"),
            Self::NotFollowing => (StatusCode::FORBIDDEN, "not_following"),
        }
    }

    /// Returns the additional headers of the response: `Retry-After`, `WWW-Authenticate` or none.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let seconds = match self {
            Self::RateLimited { retry_after, .. } | Self::NewBotsRateLimited { retry_after, .. } => {
                retry_after.as_secs().saturating_add(1)
            }
            Self::RegistryUnavailable | Self::DiskFull | Self::TooManyConnections => 5,
            Self::BadProof(BadProof::TooMany) => 60,
            Self::BadProof(BadProof::BeforeStart) => 1,
            Self::Full => 3_600,
            _ if self.status().0 == StatusCode::UNAUTHORIZED => {
                let schemes = HeaderValue::from_static("Nostr, Bearer realm=\"moltrade-relayer\"");
                return vec![(header::WWW_AUTHENTICATE, schemes)];
            }
            _ => return Vec::new(),
        };
        vec![(header::RETRY_AFTER, seconds.into())]
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = refusal.status();
        let error = Self::new(status, code, refusal.to_string());
        refusal.headers().into_iter().fold(error, |error, (name, value)| error.header(name, value))
    }
}

impl From<LimitReached> for Refusal {
    fn from(LimitReached { daily_limit, retry_after }: LimitReached) -> Self {
        Self::RateLimited { daily_limit, retry_after }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NoSuchBot(_) => Self::NoSuchBot,
            RegistryError::TooManyFollows => Self::TooManyFollows,
            RegistryError::Full => Self::Full,
            RegistryError::Closed => Self::RegistrationClosed,
            RegistryError::NotApproved(_) => Self::NotApproved,
            RegistryError::Storage(error) if error.is_full() => Self::DiskFull,
            // The registry logs failures of its database, so calls need not log them again.
            error => {
                tracing::debug!("cannot answer a request: {error}");
                Self::RegistryUnavailable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::clock::Clock;
    use crate::event_log::free_space::{FreeSpace, Reserve};
    use crate::event_log::{EventLog, StoreOptions};

    #[test]
    fn a_full_disk_has_its_own_code() {
        let folder = TempDir::new().unwrap();
        let room = Reserve::new(FreeSpace::from_fn(|| Ok(0)), 1);
        let options = StoreOptions { fsync: false, ..StoreOptions::default() };
        let log = EventLog::open_with(folder.path(), options, 1 << 20, Clock::system(), room).unwrap();
        let full = RegistryError::from(log.check_room().unwrap_err());
        assert_eq!(Refusal::from(full).status(), (StatusCode::SERVICE_UNAVAILABLE, "disk_full"));
    }
}
