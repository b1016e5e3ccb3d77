//! Serves the description: the document, and a page that shows it to people.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{About, Tag};
use crate::api::assets::{Asset, Caching};
use crate::api::error::ApiError;
use crate::api::parameter::{Form, PathParameter};
use crate::api::router;

static DOCUMENT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("application/json", router::description().to_string()));

static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("text/javascript; charset=utf-8", include_str!("../../../assets/api-docs/docs.js"))
});

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("text/css; charset=utf-8", include_str!("../../../assets/api-docs/docs.css"))
});

/// The page, with the versions of its files in their URLs.
static PAGE: LazyLock<Asset> = LazyLock::new(|| {
    let page = include_str!("../../../assets/api-docs/index.html");
    let page = page.replace("{script}", &SCRIPT.version).replace("{style}", &STYLE.version);
    Asset::new("text/html; charset=utf-8", page)
});

pub(in crate::api) const DOCUMENT_ABOUT: About = About::new(Tag::Description, "This description")
    .details("OpenAPI 3.1, made from the code of this version.")
    .content(&["application/json"])
    .cached();

/// `GET /api/openapi.json`
pub(in crate::api) async fn openapi(headers: HeaderMap) -> Response {
    DOCUMENT.answer(&headers, Caching::Revalidate)
}

pub(in crate::api) const PAGE_ABOUT: About =
    About::new(Tag::Description, "This description, as a page").content(&["text/html"]).cached();

/// `GET /api/docs`
pub(in crate::api) async fn page(headers: HeaderMap) -> Response {
    PAGE.answer(&headers, Caching::Revalidate)
}

pub(in crate::api) const FILE_ABOUT: About = About::new(Tag::Description, "A file of the page")
    .path(&[
        PathParameter { name: "version", form: Form::Text, about: "The file's version." },
        PathParameter {
            name: "name",
            form: Form::Choice(&["docs.js", "docs.css"]),
            about: "The file's name.",
        },
    ])
    .content(&["text/javascript", "text/css"])
    .cached()
    .errors(&[&[(axum::http::StatusCode::NOT_FOUND, "not_found")]]);

/// `GET /api/docs/{version}/{name}`
pub(in crate::api) async fn file(
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let not_found = || ApiError::not_found("not_found", "the page has no file of this name and version");
    let Path((version, name)) = path.map_err(|_| not_found())?;
    let file = match name.as_str() {
        "docs.js" => &*SCRIPT,
        "docs.css" => &*STYLE,
        _ => return Err(not_found()),
    };
    if file.version != version {
        return Err(not_found());
    }
    Ok(file.answer(&headers, Caching::Immutable))
}
