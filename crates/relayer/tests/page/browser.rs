//! Runs a scenario of `browser/` in Chromium, against a gateway of the test.

use std::env;
use std::io::{Read, Seek};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use relay_sim::wait::until;
use serde_json::Value;

const INSTALL: &str = "Chromium is not installed, and this test needs it: run scripts/chromium, or set CHROMIUM to the \
                       path of Chrome";

/// Runs all steps of a scenario, and expects that they succeed.
pub async fn drive(scenario: &str, gateway: SocketAddr, arguments: Value) {
    let packages = env::var_os("RELAYER_TEST_NODE_PAGE")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("node-page"), PathBuf::from);
    let node = packages.join("node");
    assert!(node.exists(), "{}: there is no Node.js to drive the page with; run: make node", node.display());
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/browser/run.mjs");
    let mut command = Command::new(node);
    command.arg(run).arg(scenario).arg(format!("http://{gateway}")).arg(arguments.to_string());
    let mut told = tempfile::tempfile().unwrap();
    command.env("PACKAGES", &packages).env("CHROMIUM", chromium());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(told.try_clone().unwrap());
    let mut running = Running(command.spawn().unwrap());
    let mut status = None;
    until(scenario, || {
        status = running.0.try_wait().unwrap();
        status.is_some()
    })
    .await;
    let mut text = String::new();
    told.rewind().unwrap();
    told.read_to_string(&mut text).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{text}");
}

/// Dropping this ends the script, and Chromium with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks where `scripts/chromium` looks.
fn chromium() -> PathBuf {
    let names = env::var("CHROMIUM").map_or_else(
        |_| ["chromium", "chromium-browser", "google-chrome"].map(str::to_owned).to_vec(),
        |name| vec![name],
    );
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = env::split_paths(&path).collect();
    // A name with slashes replaces the folder that it is joined to only if it is absolute.
    let mut files = names.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    files.find(|file| file.is_file()).unwrap_or_else(|| panic!("{INSTALL}"))
}
