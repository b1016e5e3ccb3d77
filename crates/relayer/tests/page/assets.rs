//! The files of the page: all are served, and the vendored files are identical to those in their
//! packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use relay_sim::wait::within;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::relays::with_relays;

const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page");

/// The files below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found
}

/// The status, head and body of the answer to a `GET`.
async fn get(
    gateway: &moltrade_relayer::testing::TestGateway,
    path: &str,
    accept: &str,
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_get_the_page_and_all_of_its_files() {
    let folder = TempDir::new().unwrap();
    let gateway = with_relays(0, &folder, |_| {}).await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let (status, head, page) = get(&gateway, "/", browser).await;
    assert_eq!(status, 200);
    for header in [
        "content-type: text/html",
        "vary: accept",
        "cache-control: no-cache",
        "x-content-type-options: nosniff",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert!(
        head.contains("content-security-policy: default-src 'none'; ") && !head.contains("unsafe"),
        "{head}"
    );
    assert!(!page.contains("://") && !page.contains("style=") && !page.contains("<style"), "{page}");
    let version = page.split("page/").nth(1).unwrap().split('/').next().unwrap();
    let mut served = 0;
    for file in files(Path::new(ASSETS)) {
        let name = file.to_str().unwrap();
        if name == "index.html" || name.ends_with(".LICENSE") || name.ends_with(".json") {
            continue;
        }
        let (status, head, body) = get(&gateway, &format!("/page/{version}/{name}"), "*/*").await;
        assert_eq!(status, 200, "{name} is not served");
        assert!(head.contains("immutable") && head.contains("content-security-policy"), "{head}");
        assert_eq!(body, fs::read_to_string(Path::new(ASSETS).join(&file)).unwrap(), "{name}");
        served += 1;
    }
    assert!(served > 10, "only {served} files");
    for path in [
        "/page/0123456789abcdef/app.js",
        &format!("/page/{version}/vendor"),
        &format!("/page/{version}/..%2fCargo.toml"),
    ] {
        assert_eq!(get(&gateway, path, browser).await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_get_what_they_got_before_the_page() {
    let folder = TempDir::new().unwrap();
    let gateway = with_relays(0, &folder, |_| {}).await;
    for accept in ["*/*", "application/json", "application/nostr+json", "text/plain", ""] {
        let (status, _, body) = get(&gateway, "/", accept).await;
        assert_eq!((status, body.contains("\"error\":\"not_found\"")), (404, true), "{accept}: {body}");
    }
    let (status, head, _) = get(&gateway, "/favicon.ico", "*/*").await;
    assert_eq!((status, head.contains("application/json")), (404, true));
}

#[test]
fn vendored_files_are_those_of_the_manifest() {
    let vendor = Path::new(ASSETS).join("vendor");
    let manifest: Value = serde_json::from_slice(&fs::read(vendor.join("vendor.json")).unwrap()).unwrap();
    let mut listed = BTreeSet::from([PathBuf::from("vendor.json")]);
    for package in manifest["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        for field in ["version", "licence", "why"] {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {field}");
        }
        assert!(package["integrity"].as_str().unwrap().starts_with("sha512-"), "{name}");
        let files = package["files"].as_object().unwrap();
        assert!(files.values().any(|file| file["from"] == "LICENSE"), "{name} has no licence text");
        for (file, about) in files {
            let content = fs::read(vendor.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let hash = digest(&SHA256, &content);
            let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(about["sha256"], hash, "{file} was changed; see scripts/vendor-assets");
            listed.insert(PathBuf::from(file));
        }
    }
    assert_eq!(files(&vendor), listed, "files without a package");
}

/// The page shows text from strangers, so no script may turn text into elements or code.
#[test]
fn no_script_of_ours_interprets_text() {
    for file in files(Path::new(ASSETS)) {
        let name = file.to_str().unwrap();
        if name.starts_with("vendor") || !name.ends_with(".js") {
            continue;
        }
        let code = fs::read_to_string(Path::new(ASSETS).join(&file)).unwrap();
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "dangerouslySet",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!code.contains(word), "{name} contains {word}");
        }
        assert!(!code.contains("http://") && !code.contains("https://"), "{name} names another server");
    }
}
