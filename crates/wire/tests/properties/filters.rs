//! Every valid form of a filter is parsed, survives a round trip, and matches as NIP-01 specifies.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value};
use wire::{Filter, Signer};

use crate::checks;
use crate::lawful::{style, text};

/// Few distinct values, so that filters and events often match.
fn common_text() -> impl Strategy<Value = String> {
    prop_oneof![5 => "[ab]", 1 => text()]
}

fn hex() -> impl Strategy<Value = String> {
    prop_oneof![(0..3_u64).prop_map(|author| Signer::from_seed(author).pubkey().to_string()), "[0-9a-f]{64}"]
}

/// Any filter, as JSON.
pub fn filter_json() -> impl Strategy<Value = Value> {
    // Conditions are rare, because most filters should match some events.
    let number = || option::weighted(0.2, prop_oneof![3 => 0..8_u64, 1 => any::<u64>()]);
    let list = |values: BoxedStrategy<Value>| option::weighted(0.2, vec(values, 0..5));
    let kind = prop_oneof![3 => 0..4_u16, 1 => any::<u16>()];
    let lists = (
        list(hex().prop_map(Value::from).boxed()),
        list(hex().prop_map(Value::from).boxed()),
        list(kind.prop_map(Value::from).boxed()),
        vec(("#[abA]", vec(common_text().prop_map(Value::from), 0..3)), 0..3),
    );
    (lists, number(), number(), number()).prop_map(|((ids, authors, kinds, tags), since, until, limit)| {
        let lists = [("ids", ids), ("authors", authors), ("kinds", kinds)];
        let lists = lists.into_iter().filter_map(|(key, list)| Some((key.to_owned(), list?.into())));
        let numbers = [("since", since), ("until", until), ("limit", limit)];
        let numbers = numbers.into_iter().filter_map(|(key, number)| Some((key.to_owned(), number?.into())));
        let tags = tags.into_iter().map(|(key, values)| (key, values.into()));
        Value::Object(lists.chain(numbers).chain(tags).collect::<Map<_, _>>())
    })
}

proptest! {
    #[test]
    fn read_written_and_matched(
        filter in filter_json(),
        style in style(),
        event in (0..4_u64, 0..8_u64, 0..4_u16, vec(vec(prop_oneof![5 => "[abA]", 1 => text()], 0..4), 0..4)),
        name_the_event in any::<bool>(),
    ) {
        let (author, created_at, kind, tags) = event;
        let event = Signer::from_seed(author).sign(created_at, kind, &tags, "");
        let mut filter = filter;
        if let Some(ids) = filter.get_mut("ids").filter(|_| name_the_event).and_then(Value::as_array_mut) {
            ids.push(event.id().to_string().into());
        }
        let json = style.clone().write(&filter.clone().into());
        let parsed = Filter::parse(&json).expect("valid");
        checks::filter(&json);
        checks::filter_matches(&parsed, &filter, &event);
    }

    #[test]
    fn other_values_are_refused(
        key in prop_oneof![Just("ids"), Just("authors"), Just("kinds"), Just("since"), Just("limit"), Just("#e")],
        value in prop_oneof![
            Just("null"), Just("true"), Just("-1"), Just("1.5"), Just("\"1\""), Just("{}"), Just("[null]"),
            Just("[[]]"), Just("[-1]"), Just("[65536]"), Just("[1.0]"),
        ],
    ) {
        let filter = format!("{{\"{key}\":{value}}}");
        prop_assert!(Filter::parse(&filter).is_err());
    }
}
