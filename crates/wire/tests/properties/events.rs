//! Events in every valid form: the scan, the parser and the verifier agree on them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use wire::{Field, ParseError, RelayMessage, Scan, Signer, UnverifiedEvent, VerifiedEvent, Verifier, scan};

use crate::checks;
use crate::lawful::{Json, Style, any_json, needs_escape, style, text};

/// Any genuine event.
pub fn signed() -> impl Strategy<Value = VerifiedEvent> {
    let time = prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 1_600_000_000..1_800_000_000_u64];
    (0..3_u64, time, any::<u16>(), vec(vec(text(), 0..4), 0..5), text()).prop_map(
        |(author, created_at, kind, tags, content)| {
            Signer::from_seed(author).sign(created_at, kind, &tags, &content)
        },
    )
}

/// The seven members of the event's object, in NIP-01's order.
fn members(event: &VerifiedEvent) -> Vec<(String, Json)> {
    let parsed = UnverifiedEvent::parse(event.json()).expect("canonical");
    let tags =
        parsed.tags.iter().map(|tag| Json::List(tag.iter().map(|value| Json::text(&**value)).collect()));
    [
        ("id", Json::text(parsed.id)),
        ("pubkey", Json::text(parsed.pubkey)),
        ("created_at", Json::number(parsed.created_at)),
        ("kind", Json::number(parsed.kind.into())),
        ("tags", Json::List(tags.collect())),
        ("content", Json::text(&*parsed.content)),
        ("sig", Json::text(parsed.sig)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Members that NIP-01 does not sign.
fn extras() -> impl Strategy<Value = Vec<(String, Json)>> {
    let key = text().prop_filter("signed", |key| !FIELDS.iter().any(|field| field.name() == key));
    vec((prop_oneof![Just("ID".to_owned()), Just("seen".to_owned()), key], any_json()), 0..4)
}

const FIELDS: [Field; 7] = [
    Field::Id,
    Field::PublicKey,
    Field::CreatedAt,
    Field::Kind,
    Field::Tags,
    Field::Content,
    Field::Signature,
];

/// A genuine event, and its members mixed with extras in any order.
fn lawful_event() -> impl Strategy<Value = (VerifiedEvent, Vec<(String, Json)>)> {
    (signed(), extras()).prop_flat_map(|(event, extras)| {
        let members: Vec<_> = members(&event).into_iter().chain(extras).collect();
        (Just(event), Just(members).prop_shuffle())
    })
}

/// An `EVENT` frame in any valid form, and the event in it.
#[derive(Debug, Clone)]
pub struct Frame {
    pub event: VerifiedEvent,
    pub text: String,
    /// Whether the parts that the scan reads neither need nor contain escapes.
    plain: bool,
}

/// Any valid `EVENT` frame.
pub fn lawful_frame() -> impl Strategy<Value = Frame> {
    (lawful_event(), text(), style()).prop_map(|((event, members), subscription, style)| {
        let names = members.iter().map(|(name, _)| name).take_while(|name| *name != "id");
        let plain =
            !style.needless_escapes && !names.chain([&subscription]).any(|name| name.contains(needs_escape));
        Frame { text: write_frame(style, subscription, members), event, plain }
    })
}

fn write_frame(mut style: Style, subscription: String, members: Vec<(String, Json)>) -> String {
    style.write(&Json::List(vec![Json::text("EVENT"), Json::Text(subscription), Json::Object(members)]))
}

proptest! {
    #[test]
    fn every_lawful_form_is_the_same_event(frame in lawful_frame()) {
        let Frame { event, text, plain } = frame;
        let Ok(RelayMessage::Event { event: json, .. }) = RelayMessage::parse(text.as_bytes()) else {
            panic!("not an event message");
        };
        let parsed = UnverifiedEvent::parse(json.as_bytes()).expect("lawful");
        prop_assert_eq!(&Verifier::new().verify(&parsed), &Ok(event.clone()));
        match scan(text.as_bytes()) {
            Scan::Event { claimed, .. } => prop_assert_eq!(event.id(), claimed),
            Scan::Parse => prop_assert!(!plain, "a plain frame must be scanned"),
        }
        checks::frame(text.as_bytes());
        checks::event(json.as_bytes());
    }

    #[test]
    fn a_signed_field_that_is_repeated_is_refused(
        (_, mut members) in lawful_event(),
        (field, place) in (0..FIELDS.len(), any::<Index>()),
        (other, style) in (signed(), style()),
    ) {
        let (name, value) = self::members(&other).swap_remove(field);
        members.insert(place.index(members.len() + 1), (name, value));
        let event = style.clone().write(&Json::Object(members.clone()));
        prop_assert_eq!(
            UnverifiedEvent::parse(event.as_bytes()),
            Err(ParseError::Repeated(FIELDS[field]))
        );
        checks::frame(write_frame(style, "s".to_owned(), members).as_bytes());
    }

    #[test]
    fn a_signed_field_that_is_absent_is_named(
        (_, mut members) in lawful_event(),
        (field, mut style) in (0..FIELDS.len(), style()),
    ) {
        members.retain(|(name, _)| name != FIELDS[field].name());
        let event = style.write(&Json::Object(members));
        prop_assert_eq!(UnverifiedEvent::parse(event.as_bytes()), Err(ParseError::Missing(FIELDS[field])));
    }
}
