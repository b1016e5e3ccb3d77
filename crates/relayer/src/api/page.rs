//! The live page: `GET /` for browsers, and the files that the page loads. The page gets all data
//! from the API. Its files contain no data of the gateway, so anyone may load them.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use ring::digest::{Context, SHA256};

use super::assets::{Asset, Caching};
use super::description::{About, Tag};
use super::error::ApiError;
use super::parameter::{Form, PathParameter};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

macro_rules! files {
    ($($content_type:ident: $($name:literal)+;)+) => {
        &[$($(($name, $content_type, include_str!(concat!("../../assets/page/", $name)))),+),+]
    };
}

/// The files of the page with their types and contents. `tests/page/assets.rs` checks that none is
/// missing.
const FILES: &[(&str, &str, &str)] = files! {
    SCRIPT: "api.js" "app.js" "components.js" "dialogs.js" "format.js" "nip19.js" "plot.js" "session.js" "table.js"
            "ui.js" "views/consumers.js" "views/dead_letters.js" "views/event.js" "views/fanout.js" "views/log.js"
            "views/overview.js" "views/refusals.js" "views/relay.js" "views/relays.js" "views/sink.js" "views/sinks.js"
            "views/tail.js"
            "vendor/hooks.mjs" "vendor/htm.mjs" "vendor/preact.mjs" "vendor/uPlot.mjs";
    STYLE: "style.css" "vendor/uPlot.css";
    ICON: "icon.svg";
};

struct Page {
    index: Asset,
    files: Vec<(&'static str, Asset)>,
    /// Changes with every file. The files import each other by relative URLs, so one version in
    /// the URL covers all of them.
    version: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let mut hash = Context::new(&SHA256);
    for (name, _, content) in FILES {
        hash.update(name.as_bytes());
        hash.update(content.as_bytes());
    }
    let hash = hash.finish();
    let version = hash.as_ref().iter().take(8).fold(String::new(), |mut version, byte| {
        // Writing to a string cannot fail.
        let _ = write!(version, "{byte:02x}");
        version
    });
    let index = include_str!("../../assets/page/index.html").replace("{version}", &version);
    let files = FILES.iter().map(|(name, content_type, content)| (*name, Asset::new(content_type, *content)));
    Page { index: Asset::new("text/html; charset=utf-8", index), files: files.collect(), version }
});

pub(super) const INDEX: About = About::new(Tag::State, "The live page, for browsers")
    .details("Clients whose `Accept` header does not name `text/html` get `not_found`.")
    .content(&["text/html"])
    .cached()
    .errors(&[&[(StatusCode::NOT_FOUND, "not_found")]]);

/// `GET /`
pub(super) async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    let vary = (header::VARY, HeaderValue::from_static("Accept"));
    if !accepts_html(&headers) {
        let message = "there is nothing here; docs/API.md lists the paths, and browsers get a page";
        return Err(ApiError::not_found("not_found", message).header(vary.0, vary.1));
    }
    let mut page = PAGE.index.answer(&headers, Caching::Revalidate);
    page.headers_mut().insert(vary.0, vary.1);
    Ok(page)
}

/// Browsers name `text/html` when they open a page. Other programs send `*/*`, other types or
/// nothing.
fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = accepted.flat_map(|value| value.split(','));
    let mut types = types.filter_map(|range| range.split(';').next());
    types.any(|name| name.trim().eq_ignore_ascii_case("text/html"))
}

pub(super) const FILE: About = About::new(Tag::State, "A file of the live page")
    .path(&[
        PathParameter { name: "version", form: Form::Text, about: "The version of the page." },
        PathParameter {
            name: "file",
            form: Form::Text,
            about: "The file's path, which may contain slashes.",
        },
    ])
    .content(&["text/javascript", "text/css", "image/svg+xml"])
    .cached()
    .errors(&[&[(StatusCode::NOT_FOUND, "not_found")]]);

/// `GET /page/{version}/{file}`
pub(super) async fn file(
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let page = &*PAGE;
    let file =
        path.ok().filter(|Path((version, _))| *version == page.version).and_then(|Path((_, sought))| {
            page.files.iter().find_map(|(name, file)| (*name == sought).then_some(file))
        });
    let message = "the page has no file of this name and version; reload the page";
    let file = file.ok_or_else(|| ApiError::not_found("not_found", message))?;
    Ok(file.answer(&headers, Caching::Immutable))
}
