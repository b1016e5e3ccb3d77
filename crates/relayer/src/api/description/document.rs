//! The OpenAPI document.

use serde_json::{Map, Value, json};

use super::operation::{Schemas, Tag};
use super::routes::Described;

const ABOUT: &str = "\
Relayer receives events from many Nostr relays, verifies them, removes duplicates, and serves them in a durable order. \
`docs/API.md` explains the API.

**Errors.** Every failed request is answered with an `Error`: `error` is for programs, `message` says what is wrong and \
how to fix it. A request that is not valid HTTP, or whose head is too long, gets 400, 414 or 431 without a body.

**Time.** Names that end in `_ms` or `_at`, and `since` of the fan-out, are Unix milliseconds. `created_at`, and the \
times of coverage and gaps, are Unix seconds.

**Additions.** New fields, parameters and routes may be added. Ignore what you do not know.";

const ADMIN_TOKEN: &str = "\
The `admin_token` of `[api]`. If none is configured, programs on the gateway's machine need none: they call a loopback \
address with `Content-Type: application/json`, without headers of a proxy and without a foreign `Origin`.";

const READ_TOKEN: &str = "\
The token of one of `[[api.readers]]`. While none is configured, reading needs no token. A reader with `kinds` or \
`authors` gets those events only, and no state.";

const TICKET: &str = "\
A ticket of `POST /api/tickets`, for clients that cannot send headers, such as `EventSource` and the WebSockets of \
browsers. It is valid once, for 30 seconds.";

const NOSTR: &str = "\
A NIP-98 event, signed by the key that the call concerns, as base64: `Authorization: Nostr <base64>`. Each is accepted \
once. `docs/fanout.md` shows how to make one.";

const LOG_HEADER: &str = "The identity of the gateway's log. Sequences mean events of this log only.";

/// Makes the document of these routes.
pub(in crate::api) fn document<'a>(routes: impl IntoIterator<Item = &'a Described>) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let operation = route.operation(&mut schemas);
        let path = paths.entry(route.path()).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let tags = Tag::ALL.map(|(_, name, description)| json!({ "name": name, "description": description }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Relayer",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A Nostr event gateway",
            "description": ABOUT,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "headers": {
                "Relayer-Log": {
                    "description": LOG_HEADER,
                    "schema": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
                },
            },
            "securitySchemes": {
                "adminToken": { "type": "http", "scheme": "bearer", "description": ADMIN_TOKEN },
                "readToken": { "type": "http", "scheme": "bearer", "description": READ_TOKEN },
                "ticket": { "type": "apiKey", "in": "query", "name": "ticket", "description": TICKET },
                "nostr": { "type": "http", "scheme": "nostr", "description": NOSTR },
            },
        },
    })
}
