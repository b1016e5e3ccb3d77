//! Every reason to refuse what a relay sent. Each is a metric label and is counted against the relay.

use wire::event::{Field, ParseError};
use wire::message::MessageError;
use wire::verify::VerifyError;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal,)+) => {
        /// Why a frame or an event was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The reason's label.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The frame is longer than any admitted event needs. The connection is closed.
    FrameTooLarge = "frame_too_large",
    /// The bytes break the WebSocket protocol (RFC 6455), invalid UTF-8 included. The connection is closed.
    WebSocketProtocol = "websocket_protocol",
    /// A binary frame; Nostr has none.
    BinaryFrame = "binary_frame",
    /// The frame is not a JSON array.
    MalformedFrame = "malformed_frame",
    /// The frame is no message that NIP-01 or NIP-42 defines.
    UnknownMessage = "unknown_message",
    /// A message with wrong parts.
    MalformedMessage = "malformed_message",
    /// An event for a subscription that was not asked for.
    WrongSubscription = "wrong_subscription",
    /// The event is not JSON, or not an object.
    MalformedEvent = "malformed_event",
    /// A signed field is missing.
    MissingField = "missing_field",
    /// A signed field occurs twice.
    RepeatedField = "repeated_field",
    /// `id` is not 64 lower-case hex digits.
    MalformedId = "malformed_id",
    /// `pubkey` is not 64 lower-case hex digits.
    MalformedPublicKey = "malformed_pubkey",
    /// `created_at` is not a whole number.
    MalformedCreatedAt = "malformed_created_at",
    /// `kind` is not a number from 0 to 65535.
    MalformedKind = "malformed_kind",
    /// `tags` is not a list of lists of strings.
    MalformedTags = "malformed_tags",
    /// `content` is not a string.
    MalformedContent = "malformed_content",
    /// `sig` is not 128 lower-case hex digits.
    MalformedSignature = "malformed_sig",
    /// The kind is not in `[filters] allowed_kinds`.
    KindNotAllowed = "kind_not_allowed",
    /// The event is larger than `[filters] max_event_bytes`.
    EventTooLarge = "event_too_large",
    /// `created_at` is further ahead than `[filters] max_future_secs`.
    TooFarInFuture = "too_far_in_future",
    /// `created_at` is longer ago than `[filters] max_age_hours`.
    TooOld = "too_old",
    /// Its NIP-40 expiration has passed.
    Expired = "expired",
    /// The id is not the hash of the event: somebody altered it.
    IdMismatch = "id_mismatch",
    /// The public key is not on the curve.
    PublicKeyOffCurve = "pubkey_off_curve",
    /// The signature is wrong.
    BadSignature = "bad_signature",
}

impl DropReason {
    /// The reason's place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether a relay that does its work never sends such a thing. The others are a matter of our policy, or
    /// of events that no relay checks.
    pub const fn is_offence(self) -> bool {
        !matches!(
            self,
            Self::KindNotAllowed
                | Self::EventTooLarge
                | Self::TooFarInFuture
                | Self::TooOld
                | Self::Expired
                | Self::UnknownMessage
        )
    }

    /// Whether only somebody who forges sends such a thing.
    pub const fn is_forgery(self) -> bool {
        matches!(self, Self::IdMismatch | Self::PublicKeyOffCurve | Self::BadSignature)
    }
}

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::NotJson | ParseError::NotAnObject => Self::MalformedEvent,
            ParseError::Missing(_) => Self::MissingField,
            ParseError::Repeated(_) => Self::RepeatedField,
            ParseError::Malformed(field) => match field {
                Field::Id => Self::MalformedId,
                Field::PublicKey => Self::MalformedPublicKey,
                Field::CreatedAt => Self::MalformedCreatedAt,
                Field::Kind => Self::MalformedKind,
                Field::Tags => Self::MalformedTags,
                Field::Content => Self::MalformedContent,
                Field::Signature => Self::MalformedSignature,
            },
        }
    }
}

impl From<VerifyError> for DropReason {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::IdMismatch => Self::IdMismatch,
            VerifyError::PublicKeyOffCurve => Self::PublicKeyOffCurve,
            VerifyError::BadSignature => Self::BadSignature,
        }
    }
}

impl From<MessageError> for DropReason {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::NotAnArray => Self::MalformedFrame,
            MessageError::UnknownType => Self::UnknownMessage,
            MessageError::WrongParts => Self::MalformedMessage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_labels_are_unique() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(DropReason::ALL.iter().filter(|other| other.label() == reason.label()).count(), 1);
        }
    }
}
