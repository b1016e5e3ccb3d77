//! A real Prometheus scrapes the program under load: every expression of the dashboard and of the
//! alerts returns data.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use relay_sim::Sim;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::form_urlencoded;

use crate::program::{PATIENCE, Running, Site};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").canonicalize().expect("it exists")
}

/// A running Prometheus. It is killed when this is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts to scrape a gateway every second, with the rules of deploy/.
    fn start(gateway: &Running) -> Self {
        let folder = TempDir::new().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{:?}]\nscrape_configs:\n  - job_name: \
             moltrade-relayer\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
            deploy().join("prometheus/rules.yml"),
            gateway.address(),
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration).expect("written");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("scripts/prometheus installs it"), address, _folder: folder }
    }

    /// The `data` of an answer; `None` if Prometheus does not answer yet.
    async fn get(&self, path: &str) -> Option<Value> {
        let mut socket = TcpStream::connect(self.address).await.ok()?;
        // HTTP/1.0, so that the body has no chunks.
        socket.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let mut body: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        assert_eq!(body["status"], "success", "{path}: {body}");
        Some(body["data"].take())
    }

    /// How many series an expression returns.
    async fn series(&self, expression: &str) -> usize {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let found = self.get(&format!("/api/v1/query?query={query}")).await;
        found.and_then(|data| Some(data["result"].as_array()?.len())).unwrap_or(0)
    }

    async fn until_it_returns_data(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.series(expression).await == 0 {
            assert!(Instant::now() < deadline, "no data: {expression}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The expressions of the dashboard, with values for its variables.
fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(deploy().join("grafana/relayer.json")).expect("readable");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets
        .map(|target| {
            let expression = target["expr"].as_str().expect("an expression").to_owned();
            let expression = expression.replace("$job", "moltrade-relayer").replace("$instance", ".*");
            expression.replace("$__rate_interval", "10s")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_of_dashboard_and_alerts_returns_data() {
    let sim = Sim::builder().seed(95).relays(3).events(100_000).copies(2).forge(0.1).per_second(300.0);
    let sim = sim.start().await.expect("starts");
    let hooks = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hook = hooks.local_addr().expect("bound");
    let hooked = Router::new().route("/", post(async || ""));
    let _hooks = tokio::spawn(async { axum::serve(hooks, hooked).await });
    let site = Site::on(&sim).set("RELAYER_OUTPUT__DOWNSTREAM_REST", format!("http://{hook}/"));
    let gateway = site.start().await;
    let client = site.consumer("?cursor=0").await;
    let prometheus = Prometheus::start(&gateway);
    prometheus.until_it_returns_data("rate(events_processed_total[10s]) > 0").await;

    let expressions = expressions();
    assert!(expressions.len() > 60, "{}", expressions.len());
    for expression in expressions {
        prometheus.until_it_returns_data(&expression).await;
    }
    let deadline = Instant::now() + PATIENCE;
    let rules: Vec<Value> = loop {
        let data = prometheus.get("/api/v1/rules").await.expect("an answer");
        let groups = data["groups"].as_array().expect("groups").clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone());
        let rules: Vec<Value> = rules.collect();
        if rules.iter().all(|rule| rule["health"] == "ok") {
            break rules;
        }
        assert!(Instant::now() < deadline, "{rules:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(rules.len() >= 30, "{}", rules.len());
    for rule in rules {
        let query = rule["query"].as_str().expect("a query");
        // With `bool`, a comparison returns its outcome instead of nothing.
        let outcome = [" == ", " > ", " < ", " >= "]
            .iter()
            .fold(query.to_owned(), |query, operator| query.replace(operator, &format!("{operator}bool ")));
        prometheus.until_it_returns_data(&outcome).await;
    }
    drop(client);
}
