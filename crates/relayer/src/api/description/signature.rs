//! What the signature of a handler says about its route: the body that it reads, and what it
//! answers.

use std::marker::PhantomData;

use axum::extract::rejection::PathRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;

use super::messages::Messages;
use super::operation::{Operation, Schemas};
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::serve::Peer;
use crate::serve::Grant;

/// A handler that is described by its signature.
pub(in crate::api) trait Signature<Inputs> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

macro_rules! signature {
    ($($Input:ident),*) => {
        impl<F, Answered, $($Input,)*> Signature<($($Input,)*)> for F
        where
            F: Fn($($Input),*) -> Answered,
            Answered: Future<Output: Answer>,
            $($Input: Input,)*
        {
            fn describe(operation: &mut Operation, schemas: &mut Schemas) {
                $($Input::describe(operation, schemas);)*
                <Answered::Output as Answer>::describe(operation, schemas);
            }
        }
    };
}

signature!();
signature!(A);
signature!(A, B);
signature!(A, B, C);
signature!(A, B, C, D);
signature!(A, B, C, D, E);
signature!(A, B, C, D, E, G);

/// What a handler reads.
pub(in crate::api) trait Input {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

// The parameters of paths and queries are in the route's `About`.
impl<T> Input for Result<Path<T>, PathRejection> {}
impl Input for RawQuery {}
impl Input for State<Context> {}
impl Input for ConnectInfo<Peer> {}
impl Input for Extension<Grant> {}
impl Input for HeaderMap {}
impl Input for (Method, Uri) {}
impl Input for Result<WebSocketUpgrade, WebSocketUpgradeRejection> {}

/// What a handler answers.
pub(in crate::api) trait Answer {
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

impl<T: Answer> Answer for Result<T, ApiError> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
    }
}

impl<T: JsonSchema> Answer for Json<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers_json::<T>(StatusCode::OK, "Done.", schemas);
    }
}

/// Answers `201` if something was created, otherwise `200`.
#[derive(Debug)]
pub(in crate::api) struct Created<T> {
    pub is_new: bool,
    pub body: T,
}

impl<T: serde::Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let status = if self.is_new { StatusCode::CREATED } else { StatusCode::OK };
        (status, Json(self.body)).into_response()
    }
}

impl<T: JsonSchema> Answer for Created<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers_json::<T>(StatusCode::CREATED, "It is new.", schemas);
        operation.answers_json::<T>(StatusCode::OK, "It was there already.", schemas);
    }
}

/// Answers `202`: the work goes on after the answer.
#[derive(Debug)]
pub(in crate::api) struct Accepted<T>(pub T);

impl<T: serde::Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> Answer for Accepted<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers_json::<T>(StatusCode::ACCEPTED, "It has begun.", schemas);
    }
}

/// JSON in the form of `T` that was written without `T`, because events are stored as text.
#[derive(Debug)]
pub(in crate::api) struct Written<T> {
    json: axum::body::Body,
    form: PhantomData<T>,
}

impl<T> Written<T> {
    pub fn new(json: impl Into<axum::body::Body>) -> Self {
        Self { json: json.into(), form: PhantomData }
    }
}

impl<T> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.json).into_response()
    }
}

impl<T: JsonSchema> Answer for Written<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers_json::<T>(StatusCode::OK, "Done.", schemas);
    }
}

/// The route's `About` says what is in it.
impl Answer for Response {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

/// The answer to a WebSocket handshake, after which `M` are exchanged.
#[derive(Debug)]
pub(in crate::api) struct Upgraded<M> {
    response: Response,
    messages: PhantomData<M>,
}

impl<M> Upgraded<M> {
    pub const fn new(response: Response) -> Self {
        Self { response, messages: PhantomData }
    }
}

impl<M> IntoResponse for Upgraded<M> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl<M: Messages> Answer for Upgraded<M> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answers(StatusCode::SWITCHING_PROTOCOLS, "The WebSocket is open.", None);
        operation.carries(M::describe(schemas));
    }
}
