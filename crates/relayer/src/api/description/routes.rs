//! A route table that describes itself: a route cannot be registered without its description.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};
use serde_json::{Value, json};

use super::operation::{About, Operation, Schemas};
use super::signature::Signature;
use crate::api::context::Context;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Guard {
    /// Anyone.
    Open,
    /// All readers, including those with a selection.
    Events,
    /// Readers of all events.
    State,
    /// The operator.
    Admin,
    /// The holder of a key, or the operator.
    Key,
}

impl Guard {
    /// Returns the OpenAPI security requirements. Without a configured token, programs on the same
    /// machine need none, and without configured readers, nobody needs one for reading.
    pub(super) fn security(self, takes_ticket: bool) -> Option<Value> {
        match self {
            Self::Open => None,
            Self::Events | Self::State if takes_ticket => {
                Some(json!([{ "readToken": [] }, { "ticket": [] }, { "adminToken": [] }, {}]))
            }
            Self::Events | Self::State => Some(json!([{ "readToken": [] }, { "adminToken": [] }, {}])),
            Self::Admin => Some(json!([{ "adminToken": [] }, {}])),
            Self::Key => Some(json!([{ "nostr": [] }, { "adminToken": [] }])),
        }
    }
}

/// A route that was registered.
#[derive(Debug)]
pub(in crate::api) struct Described {
    pub(super) method: Method,
    path: &'static str,
    about: About,
    guard: Guard,
    signature: fn(&mut Operation, &mut Schemas),
}

impl Described {
    /// Returns the path as OpenAPI writes it, without the `*` of a parameter that may contain
    /// slashes.
    pub(super) fn path(&self) -> String {
        self.path.replace("{*", "{")
    }

    pub(super) fn operation(&self, schemas: &mut Schemas) -> Value {
        let mut operation = Operation::new(self.about, self.guard);
        (self.signature)(&mut operation, schemas);
        operation.finish(self.method.as_str(), self.path, schemas)
    }
}

/// Routes for the same callers.
#[derive(Debug)]
pub(in crate::api) struct Routes {
    pub router: Router<Context>,
    pub described: Vec<Described>,
    guard: Guard,
}

impl Routes {
    pub fn new(guard: Guard) -> Self {
        Self { router: Router::new(), described: Vec::new(), guard }
    }

    pub fn get<H, T, I>(self, path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, Context> + Signature<I>,
        T: 'static,
    {
        self.add(Method::GET, MethodFilter::GET, path, handler, about)
    }

    pub fn post<H, T, I>(self, path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, Context> + Signature<I>,
        T: 'static,
    {
        self.add(Method::POST, MethodFilter::POST, path, handler, about)
    }

    pub fn delete<H, T, I>(self, path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, Context> + Signature<I>,
        T: 'static,
    {
        self.add(Method::DELETE, MethodFilter::DELETE, path, handler, about)
    }

    fn add<H, T, I>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: H,
        about: About,
    ) -> Self
    where
        H: Handler<T, Context> + Signature<I>,
        T: 'static,
    {
        self.router = self.router.route(path, on(filter, handler));
        let signature = <H as Signature<I>>::describe;
        self.described.push(Described { method, path, about, guard: self.guard, signature });
        self
    }
}
