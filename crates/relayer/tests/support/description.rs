//! Compares answers of a gateway with the OpenAPI document. The helpers that send requests call
//! [`check_answer`], so each test of the API is also a test of the description.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The document, in which no named type has fields that are not described.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = moltrade_relayer::testing::api_description();
    let schemas = document["components"]["schemas"].as_object_mut().expect("schemas");
    for schema in schemas.values_mut().filter(|schema| schema.get("properties").is_some()) {
        schema["unevaluatedProperties"] = false.into();
    }
    document
});

/// The validators that were needed, by place in the document.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// The operations of the document: method, path and description.
pub fn operations() -> impl Iterator<Item = (String, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(|(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

/// Checks that an answer has a status, a content type and a body that the document has for the
/// request.
#[track_caller]
pub fn check_answer(method: &str, target: &str, status: u16, content_type: Option<&str>, body: &str) {
    let request = format!("{method} {target} was answered with {status}, {content_type:?}, {body}");
    let Some(path) = path_of(target) else {
        return assert!(matches!(status, 404 | 508), "the path is not described: {request}");
    };
    // `HEAD` is answered as `GET`, without a body.
    if method == "HEAD" || matches!((status, body), (400 | 414 | 431, "")) {
        return;
    }
    // The answer to a preflight of CORS.
    if (method, status) == ("OPTIONS", 200) {
        return assert_eq!(body, "", "{request}");
    }
    let Some(operation) = DOCUMENT["paths"][path].get(method.to_lowercase()) else {
        return assert_eq!(status, 405, "the method is not described: {request}");
    };
    let answer = &operation["responses"][status.to_string()];
    assert!(answer.is_object(), "the status is not described: {request}");
    let Some(content) = answer["content"].as_object() else {
        return assert_eq!(body, "", "the body is not described: {request}");
    };
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    let content = content.get(kind).unwrap_or_else(|| panic!("the type is not described: {request}"));
    if kind == "application/json" {
        let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {request}"));
        assert_valid(&format!("{method} {path} {status}"), &content["schema"], &body, &request);
    }
}

/// Checks that a message of the gateway on a WebSocket is described.
#[track_caller]
pub fn check_message(path: &str, message: &str) {
    let schema = &DOCUMENT["paths"][path]["get"]["x-websocket-messages"]["sent"];
    let value = serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {message}"));
    assert_valid(path, schema, &value, &format!("{path} sent {message}"));
}

#[track_caller]
fn assert_valid(place: &str, schema: &Value, value: &Value, what: &str) {
    let new = || {
        let mut schema: Map<String, Value> = schema.as_object().expect("a schema").clone();
        schema.insert("components".to_owned(), json!({ "schemas": DOCUMENT["components"]["schemas"] }));
        Arc::new(jsonschema::draft202012::new(&Value::Object(schema)).expect("a valid schema"))
    };
    let validator = {
        let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(validators.entry(place.to_owned()).or_insert_with(new))
    };
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {}", errors.join("; "));
}

/// The described path of a URL. A path without parameters precedes others.
fn path_of(target: &str) -> Option<&'static str> {
    let target = target.split('?').next().unwrap_or_default();
    let paths = DOCUMENT["paths"].as_object().expect("paths").keys().map(String::as_str);
    let fits = |path: &&str| {
        let (mut segments, mut found) = (path.split('/'), target.split('/'));
        loop {
            match (segments.next(), found.next()) {
                (None, None) => return true,
                // The URL of a relay and the path of a file may contain slashes.
                (Some("{url}" | "{file}"), Some(first)) => {
                    return !first.is_empty() || found.next().is_some();
                }
                (Some(segment), Some(found)) if segment.starts_with('{') && !found.is_empty() => {}
                (segment, found) if segment == found => {}
                _ => return false,
            }
        }
    };
    paths.filter(fits).min_by_key(|path| path.matches('{').count())
}
