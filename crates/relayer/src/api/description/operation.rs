//! The description of one route.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::errors::{self, Errors};
use super::routes::Guard;
use crate::api::error::ErrorBody;
use crate::api::parameter::{Form, Parameter, PathParameter};

/// The group of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Tag {
    Events,
    State,
    Relays,
    Sinks,
    Fanout,
    Operator,
    Description,
}

impl Tag {
    /// All groups with their names and descriptions, in order.
    pub(super) const ALL: [(Self, &str, &str); 7] = [
        (Self::Events, "Events", "The log: as pages, and as a stream over a WebSocket or HTTP."),
        (Self::State, "State", "The state of the gateway, and its metrics."),
        (Self::Relays, "Relays", "The relays that events come from."),
        (Self::Sinks, "Sinks", "The services that events are pushed to, and their dead letters."),
        (
            Self::Fanout,
            "Fan-out",
            "Signals of bots, encrypted for each follower. docs/fanout.md explains it.",
        ),
        (Self::Operator, "Operator", "Commands to the running gateway."),
        (Self::Description, "Description", "This description."),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(tag, ..)| *tag == self).map_or("", |(_, name, _)| name)
    }
}

/// What a route does, beyond what its handler's signature says.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct About {
    pub(super) tag: Tag,
    pub(super) summary: &'static str,
    pub(super) details: &'static str,
    path: &'static [PathParameter],
    query: Option<&'static [Parameter]>,
    header: Option<&'static Parameter>,
    errors: &'static [Errors],
    /// The content types of an answer that is not JSON of one type.
    content: &'static [&'static str],
    is_cached: bool,
}

impl About {
    pub const fn new(tag: Tag, summary: &'static str) -> Self {
        Self {
            tag,
            summary,
            details: "",
            path: &[],
            query: None,
            header: None,
            errors: &[],
            content: &[],
            is_cached: false,
        }
    }

    pub const fn details(mut self, details: &'static str) -> Self {
        self.details = details;
        self
    }

    pub const fn path(mut self, path: &'static [PathParameter]) -> Self {
        self.path = path;
        self
    }

    /// The parameters of the query string, which have errors of their own.
    pub const fn query(mut self, query: &'static [Parameter]) -> Self {
        self.query = Some(query);
        self
    }

    /// A header with a meaning for this route alone.
    pub const fn header(mut self, header: &'static Parameter) -> Self {
        self.header = Some(header);
        self
    }

    pub const fn errors(mut self, errors: &'static [Errors]) -> Self {
        self.errors = errors;
        self
    }

    /// The answer has one of these types, whatever the signature of the handler says.
    pub const fn content(mut self, content_types: &'static [&'static str]) -> Self {
        self.content = content_types;
        self
    }

    /// The answer has an `ETag`.
    pub const fn cached(mut self) -> Self {
        self.is_cached = true;
        self
    }
}

/// The schemas of the types that are read and of those that are answered.
#[derive(Debug)]
pub(in crate::api) struct Schemas {
    read: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = "/components/schemas".into();
        });
        Self { read: settings.clone().into_generator(), answered: settings.for_serialize().into_generator() }
    }

    pub fn of_answer<T: JsonSchema>(&mut self) -> Value {
        self.answered.subschema_for::<T>().to_value()
    }

    pub fn of_body<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    /// All named schemas.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut all = self.answered.take_definitions(true);
        all.extend(self.read.take_definitions(true));
        all
    }
}

/// A route while it is described.
#[derive(Debug)]
pub(in crate::api) struct Operation {
    about: About,
    guard: Guard,
    body: Option<Value>,
    /// Descriptions and contents by status.
    answers: BTreeMap<u16, (&'static str, Option<Value>)>,
    errors: BTreeMap<u16, BTreeSet<&'static str>>,
    messages: Option<Value>,
}

impl Operation {
    pub(super) fn new(about: About, guard: Guard) -> Self {
        let mut operation = Self {
            about,
            guard,
            body: None,
            answers: BTreeMap::new(),
            errors: BTreeMap::new(),
            messages: None,
        };
        operation.fails(errors::ANY);
        about.errors.iter().for_each(|errors| operation.fails(errors));
        if let Some(query) = about.query {
            operation.fails(errors::QUERY);
            for parameter in query.iter().chain(about.header) {
                operation.fail(StatusCode::BAD_REQUEST, parameter.code);
                if parameter.form == Form::Cursor {
                    operation.fails(errors::CURSOR_OF_LOG);
                }
            }
        }
        match guard {
            Guard::Open | Guard::Key => {}
            Guard::Events => operation.fails(errors::EVENTS_READER),
            Guard::State => operation.fails(errors::STATE_READER),
            Guard::Admin => operation.fails(errors::ADMIN),
        }
        if !about.content.is_empty() {
            let content = about.content.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": {} })));
            operation.answers(StatusCode::OK, "Done.", Some(Value::Object(content.collect())));
        }
        if about.is_cached {
            operation.answers(StatusCode::NOT_MODIFIED, "It is what `If-None-Match` names.", None);
        }
        operation
    }

    /// Adds the errors of a body that may be absent.
    pub fn reads_body(&mut self) {
        self.fails(errors::WHOLE_BODY);
    }

    /// Adds a JSON body of the request.
    pub fn takes<T: JsonSchema>(&mut self, schemas: &mut Schemas) {
        self.body = Some(schemas.of_body::<T>());
        self.reads_body();
        self.fails(errors::BODY);
    }

    pub fn fails(&mut self, errors: Errors) {
        errors.iter().for_each(|(status, code)| self.fail(*status, code));
    }

    fn fail(&mut self, status: StatusCode, code: &'static str) {
        self.errors.entry(status.as_u16()).or_default().insert(code);
    }

    /// Adds an answer with its content, an OpenAPI object.
    pub(super) fn answers(&mut self, status: StatusCode, description: &'static str, content: Option<Value>) {
        self.answers.insert(status.as_u16(), (description, content));
    }

    pub(super) fn answers_json<T: JsonSchema>(
        &mut self,
        status: StatusCode,
        description: &'static str,
        schemas: &mut Schemas,
    ) {
        self.answers(status, description, Some(json_content(&schemas.of_answer::<T>())));
    }

    /// Adds the messages of the WebSocket.
    pub(super) fn carries(&mut self, messages: Value) {
        self.messages = Some(messages);
    }

    /// Returns the OpenAPI operation object. `method` and `path` identify it.
    pub(super) fn finish(self, method: &str, path: &str, schemas: &mut Schemas) -> Value {
        let About { tag, summary, details, path: in_path, query, header, .. } = self.about;
        let mut parameters: Vec<Value> = in_path.iter().map(PathParameter::description).collect();
        parameters.extend(query.unwrap_or_default().iter().map(Parameter::description));
        parameters.extend(header.map(Parameter::header_description));
        let mut responses = Map::new();
        for (status, (description, content)) in self.answers {
            responses.insert(status.to_string(), response(description, content));
        }
        let error = schemas.of_answer::<ErrorBody>();
        for (status, codes) in self.errors {
            let codes: Vec<&str> = codes.into_iter().collect();
            let schema = json!({ "allOf": [error, { "properties": { "error": { "enum": codes } } }] });
            responses.insert(status.to_string(), response(&codes.join(", "), Some(json_content(&schema))));
        }
        for (status, description) in BEFORE_ROUTING {
            responses.insert(status.as_str().to_owned(), json!({ "description": description }));
        }
        let mut operation = json!({
            "operationId": operation_id(method, path), "tags": [tag.name()], "summary": summary,
            "parameters": parameters, "responses": responses,
        });
        if let Value::Object(operation) = &mut operation {
            if !details.is_empty() {
                operation.insert("description".to_owned(), details.into());
            }
            if let Some(body) = self.body {
                let body = json!({ "required": true, "content": json_content(&body) });
                operation.insert("requestBody".to_owned(), body);
            }
            if let Some(security) = self.guard.security(method == "GET") {
                operation.insert("security".to_owned(), security);
            }
            if let Some(messages) = self.messages {
                operation.insert("x-websocket-messages".to_owned(), messages);
            }
        }
        operation
    }
}

/// What the HTTP server answers by itself, without a body.
const BEFORE_ROUTING: [(StatusCode, &str); 2] = [
    (StatusCode::URI_TOO_LONG, "The URL is longer than 65,534 bytes."),
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too long."),
];

fn json_content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn response(description: &str, content: Option<Value>) -> Value {
    let mut response = json!({
        "description": description, "headers": { "Relayer-Log": { "$ref": "#/components/headers/Relayer-Log" } },
    });
    if let (Value::Object(response), Some(content)) = (&mut response, content) {
        response.insert("content".to_owned(), content);
    }
    response
}

/// `GET /api/events/{id}` becomes `get_api_events_id`.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|character: char| !character.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let words: Vec<String> = std::iter::once(method).chain(words).map(str::to_ascii_lowercase).collect();
    words.join("_")
}
