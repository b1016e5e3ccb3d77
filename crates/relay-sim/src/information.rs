//! NIP-11: what a relay says about itself over HTTP, truthfully or not.

use serde_json::{Value, json};

use crate::faults::Fault;
use crate::policy::Policy;

/// What a relay answers to `GET` with `Accept: application/nostr+json`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Information {
    /// The relay's document with its real caps, limits and NIPs.
    #[default]
    True,
    /// The relay's document with this patch (RFC 7396: members replace, `null` removes), for false
    /// claims: `json!({"limitation":{"max_limit":5000}})`.
    Altered(Value),
    /// Status 404.
    NotFound,
    /// Bytes that are not JSON, with status 200.
    Garbage,
    /// A body that never ends.
    Endless,
    /// No answer.
    Hanging,
}

impl Information {
    /// A document without limits.
    pub fn without_limits() -> Self {
        Self::Altered(json!({ "limitation": null }))
    }

    /// A document that claims this `max_limit`.
    pub fn claiming_max_limit(events: usize) -> Self {
        Self::Altered(json!({ "limitation": { "max_limit": events } }))
    }
}

/// A body that begins like JSON but is not JSON.
pub(crate) const GARBAGE: &str = "{\"name\":\"a relay\",\"limitation\":{\"max_limit\":\u{fffd}<html>";
/// The beginning of the endless body; [`ENDLESS`] follows.
pub(crate) const ENDLESS_START: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/nostr+json\r\nConnection: close\r\n\r\n{\"name\":\"";
/// The bytes that the endless body repeats.
pub(crate) const ENDLESS: &[u8] = &[b'a'; 16 << 10];

/// The document of a relay.
pub(crate) fn document(number: usize, policy: &Policy, faults: &[(Fault, f64)]) -> String {
    let auth = faults.iter().any(|(fault, _)| fault.wants_auth());
    let mut limitation = json!({ "auth_required": auth });
    let (max_subscriptions, max_filters) = policy.limits.told();
    let (max_limit, default_limit) = match policy.cap.map(|cap| cap.told()) {
        Some((max, default)) => (Some(max), default),
        None => (None, None),
    };
    for (member, limit) in [
        ("max_limit", max_limit),
        ("default_limit", default_limit),
        ("max_subscriptions", max_subscriptions),
        ("max_filters", max_filters),
    ] {
        if let Some(limit) = limit {
            patch(&mut limitation, &json!({ member: limit }));
        }
    }
    let mut nips = vec![1, 11, 42];
    nips.extend(policy.negentropy.is_told().then_some(77));
    let mut document = json!({ "name": format!("simulated relay {number}"), "software": "relay-sim",
        "supported_nips": nips, "limitation": limitation });
    if let Information::Altered(altered) = &policy.information {
        patch(&mut document, altered);
    }
    document.to_string()
}

/// Applies a merge patch (RFC 7396).
fn patch(target: &mut Value, with: &Value) {
    let Value::Object(members) = with else {
        *target = with.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in members {
        if value.is_null() {
            target.remove(name);
        } else {
            patch(target.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_those_of_rfc_7396() {
        for (target, with, result) in [
            (json!({"a":"b"}), json!({"a":"c","b":1}), json!({"a":"c","b":1})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut patched = target;
            patch(&mut patched, &with);
            assert_eq!(patched, result);
        }
    }
}
