//! Every valid form of a message, in both directions, is parsed, and is equal after writing and
//! parsing.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use wire::{ClientMessage, Filter, Hints, RelayMessage};

use crate::checks;
use crate::filters::filter_json;
use crate::lawful::{Json, any_json, style, text};

proptest! {
    #[test]
    fn relay_messages(first in text(), second in text(), accepted: bool, event in any_json(), style in style()) {
        let event = style.clone().write(&event);
        let event = event.trim();
        let (subscription, reason) = (Cow::from(&first), Cow::from(&second));
        for message in [
            RelayMessage::Event { subscription: subscription.clone(), event },
            RelayMessage::Eose { subscription: subscription.clone(), hints: Hints::default() },
            RelayMessage::Closed { subscription: subscription.clone(), reason: reason.clone() },
            RelayMessage::Notice(reason.clone()),
            RelayMessage::Ok { id: subscription.clone(), accepted, reason: reason.clone() },
            RelayMessage::Auth { challenge: reason.clone() },
            RelayMessage::NegMsg { subscription: subscription.clone(), message: reason.clone() },
            RelayMessage::NegErr { subscription: subscription.clone(), reason: reason.clone() },
        ] {
            let json = message.to_json();
            prop_assert_eq!(RelayMessage::parse(json.as_bytes()), Ok(message.clone()));
            // Embedded events keep their text, so only messages without events can be restyled.
            if !matches!(message, RelayMessage::Event { .. }) {
                let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
                let other = style.clone().write(&value.into());
                prop_assert_eq!(RelayMessage::parse(other.as_bytes()), Ok(message));
                checks::relay_message(other.as_bytes());
            }
        }
    }

    #[test]
    fn client_messages(
        subscription in text().prop_filter("length", |text| (1..=64).contains(&text.chars().count())),
        filters in vec(filter_json(), 1..4),
        event in any_json(),
        style in style(),
    ) {
        let event = style.clone().write(&event);
        let event = event.trim();
        let parts = [Json::text("REQ"), Json::text(&subscription)];
        let request = Json::List(parts.into_iter().chain(filters.iter().cloned().map(Json::from)).collect());
        let request = style.clone().write(&request);
        let filters: Vec<_> =
            filters.iter().map(|filter| Filter::parse(&filter.to_string()).expect("valid")).collect();
        let subscription = subscription.as_str();
        let filter = filters.first().cloned().unwrap_or_default();
        let message = ClientMessage::Req { subscription: subscription.into(), filters };
        prop_assert_eq!(ClientMessage::parse(request.as_bytes()), Ok(message.clone()));
        for message in [
            message,
            ClientMessage::Close { subscription: subscription.into() },
            ClientMessage::Event { event },
            ClientMessage::Auth { event },
            ClientMessage::NegOpen { subscription: subscription.into(), filter, message: subscription.into() },
            ClientMessage::NegMsg { subscription: subscription.into(), message: subscription.into() },
            ClientMessage::NegClose { subscription: subscription.into() },
        ] {
            let json = message.to_json();
            prop_assert_eq!(ClientMessage::parse(json.as_bytes()), Ok(message));
            checks::client_message(json.as_bytes());
        }
    }
}
