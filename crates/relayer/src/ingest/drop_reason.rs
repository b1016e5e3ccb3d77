//! Every reason to refuse what a relay sent. Each is a metric label and a count in `/status`.

use wire::event::{Field, ParseError, names_signature};
use wire::message::MessageError;
use wire::verify::VerifyError;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal,)+) => {
        /// Why a frame or an event was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, enum_map::Enum)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The labels of all reasons.
            pub(crate) const LABELS: &'static [&'static str] = &[$($label),+];

            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// What the reason means, for people.
            pub(crate) fn meaning(self) -> &'static str {
                let comment = match self {
                    $(Self::$variant => concat!($($doc),+),)+
                };
                comment.trim_start()
            }
        }
    };
}

drop_reasons! {
    /// The frame is longer than any admitted event and is not a requested event. The frame is
    /// skipped; above 32 MiB, the connection is closed.
    FrameTooLarge = "frame_too_large",
    /// The bytes violate the WebSocket protocol (RFC 6455); the connection is closed. Or a text
    /// message other than an event is not UTF-8; the message is skipped.
    WebSocketProtocol = "websocket_protocol",
    /// The frame is binary; Nostr has only text frames.
    BinaryFrame = "binary_frame",
    /// The frame is not a JSON array.
    MalformedFrame = "malformed_frame",
    /// The frame is not a message of NIP-01 or NIP-42. A short text that is not a JSON array also
    /// has this reason: some servers send such texts to keep a connection open.
    UnknownMessage = "unknown_message",
    /// A message has wrong or missing elements.
    MalformedMessage = "malformed_message",
    /// The event is for a subscription that we did not open.
    WrongSubscription = "wrong_subscription",
    /// The event is not a JSON object, or it has a fault and lacks a well-formed `id`, `pubkey` or
    /// `sig`.
    MalformedEvent = "malformed_event",
    /// `id`, `pubkey` or `sig` is missing or occurs twice.
    Unsigned = "unsigned",
    /// `id` is not 64 hex digits.
    MalformedId = "malformed_id",
    /// `pubkey` is not 64 hex digits.
    MalformedPublicKey = "malformed_pubkey",
    /// `sig` is not 128 hex digits.
    MalformedSignature = "malformed_sig",
    /// Another signed field is missing. With this reason and all those up to `non_standard_form`,
    /// the event may be exactly what its author signed.
    MissingField = "missing_field",
    /// Another signed field occurs twice.
    RepeatedField = "repeated_field",
    /// `created_at` is not a whole number.
    MalformedCreatedAt = "malformed_created_at",
    /// `kind` is not a number from 0 to 65535.
    MalformedKind = "malformed_kind",
    /// `tags` is not a list of lists of strings.
    MalformedTags = "malformed_tags",
    /// `content` is not a string.
    MalformedContent = "malformed_content",
    /// A string is not Unicode, or hex is not in lower case.
    NonStandardForm = "non_standard_form",
    /// The kind is not in `[filters] allowed_kinds`.
    KindNotAllowed = "kind_not_allowed",
    /// The event is larger than `[filters] max_event_bytes`.
    EventTooLarge = "event_too_large",
    /// `created_at` is further ahead than `[filters] max_future_secs`.
    TooFarInFuture = "too_far_in_future",
    /// `created_at` is further back than `[filters] max_age_hours`.
    TooOld = "too_old",
    /// The event's NIP-40 expiration has passed.
    Expired = "expired",
    /// The id is not the hash of the event: the event was altered.
    IdMismatch = "id_mismatch",
    /// The public key is not on the curve.
    PublicKeyOffCurve = "pubkey_off_curve",
    /// The signature is wrong.
    BadSignature = "bad_signature",
}

impl DropReason {
    /// The index in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether a correct relay never sends such an event or frame. The other reasons are our own
    /// policy, or faults of authors that many relays do not check: a relay must not be quarantined
    /// because somebody published such events on it.
    pub(crate) const fn is_offence(self) -> bool {
        !matches!(
            self,
            Self::MissingField
                | Self::RepeatedField
                | Self::MalformedCreatedAt
                | Self::MalformedKind
                | Self::MalformedTags
                | Self::MalformedContent
                | Self::NonStandardForm
                | Self::KindNotAllowed
                | Self::EventTooLarge
                | Self::TooFarInFuture
                | Self::TooOld
                | Self::Expired
                | Self::UnknownMessage
        )
    }

    /// The reason for an event that does not parse.
    ///
    /// If `id`, `pubkey` and `sig` are well-formed, the author may have signed the event as it is,
    /// so its other faults are blamed on the author. The signature is not checked: the bytes that
    /// the author signed would be a guess, every copy would cost a check because refused ids are
    /// not remembered, and the event is dropped in any case.
    pub(crate) fn of_malformed(event: &[u8], error: ParseError) -> Self {
        let may_be_signed = names_signature(event);
        match error {
            ParseError::NotJson | ParseError::NotAnObject if may_be_signed => Self::NonStandardForm,
            ParseError::NotJson | ParseError::NotAnObject => Self::MalformedEvent,
            ParseError::Missing(field) | ParseError::Repeated(field) | ParseError::Malformed(field) => {
                match (field, error) {
                    (Field::Id | Field::PublicKey | Field::Signature, ParseError::Malformed(_))
                        if may_be_signed =>
                    {
                        Self::NonStandardForm
                    }
                    (Field::Id, ParseError::Malformed(_)) => Self::MalformedId,
                    (Field::PublicKey, ParseError::Malformed(_)) => Self::MalformedPublicKey,
                    (Field::Signature, ParseError::Malformed(_)) => Self::MalformedSignature,
                    (Field::Id | Field::PublicKey | Field::Signature, _) => Self::Unsigned,
                    _ if !may_be_signed => Self::MalformedEvent,
                    (_, ParseError::Missing(_)) => Self::MissingField,
                    (_, ParseError::Repeated(_)) => Self::RepeatedField,
                    (Field::CreatedAt, _) => Self::MalformedCreatedAt,
                    (Field::Kind, _) => Self::MalformedKind,
                    (Field::Tags, _) => Self::MalformedTags,
                    (Field::Content, _) => Self::MalformedContent,
                }
            }
        }
    }

    /// Whether the event is a forgery.
    pub const fn is_forgery(self) -> bool {
        matches!(self, Self::IdMismatch | Self::PublicKeyOffCurve | Self::BadSignature)
    }
}

impl From<DropReason> for &'static str {
    fn from(reason: DropReason) -> Self {
        reason.label()
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
    fn only_events_that_nobody_signed_are_offences() {
        let signed = wire::Signer::from_seed(1).sign(7, 1, &[["t"]], "hi");
        let signed = String::from_utf8(signed.json().to_vec()).expect("UTF-8");
        let sig = signed.split("\"sig\":").nth(1).expect("a signature").trim_end_matches('}').to_owned();
        let upper = sig.to_uppercase();
        for (from, to, reason) in [
            ("\"kind\":1", "\"kind\":70000", DropReason::MalformedKind),
            ("\"kind\":1,", "", DropReason::MissingField),
            ("\"kind\":1", "\"kind\":1,\"kind\":1", DropReason::RepeatedField),
            ("[\"t\"]", "[\"t\",5]", DropReason::MalformedTags),
            ("\"hi\"", "null", DropReason::MalformedContent),
            ("\"hi\"", "\"\\ud800\"", DropReason::NonStandardForm),
            ("\"created_at\":7", "\"created_at\":7.5", DropReason::MalformedCreatedAt),
            (&sig, &upper, DropReason::NonStandardForm),
            (&sig, "\"00\"", DropReason::MalformedSignature),
            ("\"id\":\"", "\"id\":\"0", DropReason::MalformedId),
            ("\"pubkey\":\"", "\"pubkey\":\"0", DropReason::MalformedPublicKey),
            ("\"sig\":", "\"signature\":", DropReason::Unsigned),
            ("{\"id\"", "{\"id\":0,\"id\"", DropReason::MalformedId),
            ("\"kind\":1", "\"kind\":", DropReason::MalformedEvent),
            (",\"sig\"", ",\"kind\":1,\"signature\"", DropReason::MalformedEvent),
        ] {
            assert!(signed.contains(from), "{from}");
            let event = signed.replace(from, to);
            let error = wire::UnverifiedEvent::parse(event.as_bytes()).expect_err(&event);
            assert_eq!(DropReason::of_malformed(event.as_bytes(), error), reason, "{to}");
            let is_authors = [&sig, "\"id\":\"", "\"pubkey\":\"", "\"sig\":", "{\"id\""];
            let is_authors = !is_authors.contains(&from) || to == upper;
            let is_authors = is_authors && reason != DropReason::MalformedEvent;
            assert_eq!(reason.is_offence(), !is_authors, "{to}");
        }
    }

    #[test]
    fn indices_and_labels_are_unique() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(DropReason::LABELS[index], reason.label());
            assert_eq!(DropReason::ALL.iter().filter(|other| other.label() == reason.label()).count(), 1);
        }
    }
}
