//! Failed starts print one clear line without a stack trace, and exit with a nonzero status.

use std::net::TcpListener;

use crate::program::Site;

/// Asserts that the program exits with this status and message.
fn assert_refused(site: &Site, code: i32, expected: &[&str]) {
    let output = site.run();
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{said}");
    let last = said.lines().last().expect("a line");
    for expected in expected {
        assert!(last.contains(expected), "{expected:?} is not in: {last}");
    }
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
}

#[test]
fn a_port_in_use() {
    let site = Site::empty();
    let _taken = TcpListener::bind(("127.0.0.1", site.port())).expect("free");
    assert_refused(&site, 1, &["cannot listen on 127.0.0.1:", "[output] websocket_port"]);
    assert!(!site.log_path().exists(), "the database was not opened");
}

/// The default metrics port is Prometheus's own port, so it may be in use.
#[tokio::test]
async fn the_default_port_for_metrics_in_use_stops_nothing() {
    const KEY: &str = "RELAYER_MONITORING__PROMETHEUS_PORT";
    let site = Site::empty().unset(KEY);
    // If binding fails, another process already uses the port, as this test requires.
    let _taken = TcpListener::bind("127.0.0.1:9090");
    let running = site.start().await;
    running.until_stderr_contains("127.0.0.1:9090 is in use").await;
    let metrics = running.get("/metrics").await.expect("an answer");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    running.kill();
    assert_refused(&site.set(KEY, "9090"), 1, &["cannot listen on 127.0.0.1:9090", "prometheus_port"]);
}

#[tokio::test]
async fn a_locked_database() {
    let site = Site::empty();
    let _first = site.start().await;
    let second =
        Site::empty().set("RELAYER_DEDUPLICATION__ROCKSDB_PATH", site.log_path().display().to_string());
    assert_refused(&second, 1, &["in use by another process"]);
}

#[test]
fn a_path_that_cannot_be_a_folder() {
    let site = Site::empty();
    std::fs::write(site.log_path(), "a file").expect("written");
    assert_refused(&site, 1, &["cannot be used", "rocksdb_path"]);
}

#[tokio::test]
async fn a_damaged_database() {
    let site = Site::empty();
    site.start().await.kill();
    std::fs::write(site.log_path().join("CURRENT"), "MANIFEST-999999\n").expect("written");
    assert_refused(&site, 1, &["is damaged", "restore it from a backup"]);
}

#[test]
fn a_wrong_configuration() {
    let site = Site::empty().set("RELAYER_OUTPUT__BATCH_SIZE", "0");
    assert_refused(&site, 78, &["RELAYER_OUTPUT__BATCH_SIZE", "batch_size"]);
    let site = Site::empty();
    std::fs::write(site.folder().join("config.toml"), "[output]\nbatchsize = 5\n").expect("written");
    assert_refused(&site, 78, &["config.toml:2:1", "batchsize"]);
}
