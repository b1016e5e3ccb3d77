//! The files that run the gateway elsewhere name settings, ports and paths that exist: the unit,
//! the package, the image, the compose file and the workflow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moltrade_relayer::cli::EXIT_CONFIG;
use moltrade_relayer::config::Config;
use serde_json::Value;

use crate::accepted;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().expect("a string")).collect()
}

/// The settings of the unit. Repeated ones keep the last value.
fn unit() -> BTreeMap<String, String> {
    let text = read("deploy/systemd/moltrade-relayer.service");
    let settings = text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
    settings
        .map(|line| line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The ports of the API and of the metrics, by default.
fn ports() -> (u16, u16) {
    let config = Config::default();
    (config.output.websocket_port, config.monitoring.prometheus_port.expect("a default").get())
}

#[test]
fn the_unit_the_package_and_the_configuration_of_the_service_fit_together() {
    let unit = unit();
    let (user, state) = (&unit["User"], format!("/var/lib/{}", unit["StateDirectory"]));
    assert_eq!(unit["WorkingDirectory"], state);
    assert_eq!(unit["RestartPreventExitStatus"], EXIT_CONFIG.to_string());
    let text = read("deploy/systemd/config.toml");
    let path = accepted(&text, &[]).deduplication.rocksdb_path;
    assert!(path.starts_with(&state), "{} is not in {state}", path.display());
    let users = read("deploy/systemd/moltrade-relayer.sysusers");
    assert!(users.lines().any(|line| line.starts_with(&format!("u {user} "))), "{users}");

    let manifest = read("crates/relayer/Cargo.toml");
    let manifest = toml::de::DeTable::parse(&manifest).expect("TOML");
    let deb = &manifest.get_ref()["package"].get_ref()["metadata"].get_ref()["deb"].get_ref();
    let list = |key: &str| deb[key].get_ref().as_array().expect("a list").iter().map(|item| item.get_ref());
    let (program, file) = unit["ExecStart"].split_once(" --config ").expect("it names the file");
    assert_eq!(list("conf-files").next().and_then(|item| item.as_str()), Some(file));
    let mut installed = Vec::new();
    for asset in list("assets") {
        let [source, target] = [0, 1].map(|index: usize| asset[index].get_ref().as_str().expect("a path"));
        let built = source.starts_with("target/release/");
        let folder = source.trim_end_matches("*.md");
        assert!(built || root().join("crates/relayer").join(folder).exists(), "{source} does not exist");
        let name = source.rsplit('/').next().expect("a name");
        installed.push(if target.ends_with('/') { format!("/{target}{name}") } else { format!("/{target}") });
    }
    for path in [program, file] {
        assert!(
            installed.iter().any(|installed| installed == path),
            "{path} is not installed: {installed:?}"
        );
    }
    let scripts = read("deploy/debian/postinst") + &read("deploy/debian/postrm");
    for path in [&state, file, &format!("root:{user}")] {
        assert!(scripts.contains(path), "the scripts of the package do not name {path}");
    }
}

#[test]
fn the_compose_file_names_existing_files_settings_and_ports() {
    let compose = yaml("deploy/compose/compose.yaml");
    let (api, metrics) = ports();
    let gateways = ["gateway-postgres", "gateway-embedded"];
    for (name, service) in compose["services"].as_object().expect("services") {
        let text = service.to_string();
        let image = service["image"].as_str().expect("an image");
        let is_gateway = gateways.contains(&name.as_str());
        assert!(is_gateway || image.rsplit_once(':').is_some_and(|(_, tag)| tag.contains('.')), "{image}");
        assert!(service["logging"]["options"]["max-size"].is_string(), "{name}: the log is not limited");
        // The image of the gateway has its own health check.
        assert!(is_gateway || service["healthcheck"]["test"].is_array(), "{name}: no health check");
        for volume in strings(&service["volumes"]) {
            let source = volume.split(':').next().expect("a source");
            let path = root().join("deploy/compose").join(source);
            if source.starts_with('.') {
                let is_elsewhere = !path.parent().expect("a folder").exists();
                assert!(path.exists() || is_elsewhere, "{name} mounts {source}, which does not exist");
            } else {
                assert!(compose["volumes"].get(source).is_some(), "{name}: {source} is not declared");
            }
        }
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is published to other machines: {port}");
        }
        for (key, value) in service["environment"].as_object().into_iter().flatten() {
            let is_secret = ["PASSWORD", "TOKEN"].iter().any(|word| key.ends_with(word));
            let value = value.as_str().unwrap_or_default();
            assert!(!is_secret || value.starts_with("${") && value.contains(":?"), "{name}: {key}={value}");
        }
        if is_gateway {
            assert_eq!(strings(&service["ports"]), [format!("127.0.0.1:{api}:{api}")]);
            assert!(strings(&service["networks"]["default"]["aliases"]).contains(&"gateway"), "{text}");
            let environment = service["environment"].as_object().expect("variables");
            let settings = environment.keys().map(|key| (key.as_str(), sample(key)));
            accepted("", &settings.collect::<Vec<_>>());
        }
    }
    let prometheus = yaml("deploy/compose/prometheus.yml");
    let targets = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    assert_eq!(strings(targets), [format!("gateway:{metrics}")]);
    let example = read("deploy/compose/env.example");
    for variable in ["RELAYER_API__ADMIN_TOKEN", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"] {
        assert!(example.lines().any(|line| line == format!("{variable}=")), "{variable} has a value");
    }
}

/// A valid value of a setting that the compose file and the image set.
fn sample(key: &str) -> &'static str {
    match key {
        "RELAY_URLS" => "wss://relay.example",
        "RELAYER_RELAY__USER_AGENT" => "gateway",
        "RELAYER_API__PUBLIC_URL" => "http://127.0.0.1:8080",
        "RELAYER_API__ADMIN_TOKEN" => "0123456789abcdef0123456789abcdef",
        "RELAYER_POSTGRES__DSN" => "postgres://relayer:secret@postgres/relayer",
        _ => panic!("{key} is not known to this test"),
    }
}

#[test]
fn the_image_is_pinned_unprivileged_and_uses_the_default_ports() {
    let dockerfile = read("Dockerfile");
    let values = |instruction: &str| {
        let values = dockerfile.lines().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '));
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    for base in values("FROM").iter().filter(|base| !base.starts_with("tools ")) {
        let digest =
            base.split_once("@sha256:").map(|(_, digest)| digest.split(' ').next().expect("a digest"));
        assert_eq!(digest.map(str::len), Some(64), "{base}");
    }
    let (api, metrics) = ports();
    assert_eq!(values("EXPOSE"), [format!("{api} {metrics}")]);
    assert_eq!(values("USER"), ["999:999"], "existing volumes belong to this user");
    assert!(values("HEALTHCHECK")[0].ends_with(r#"CMD ["moltrade-relayer", "health"]"#));
    let settings = &values("ENV")[0];
    let settings: Vec<_> = settings.split(' ').filter_map(|setting| setting.split_once('=')).collect();
    let config = accepted("", &settings);
    assert!(config.deduplication.rocksdb_path.starts_with(&values("VOLUME")[0]));
    // What is copied is sent to the build, and nothing else of the root.
    let ignored = read(".dockerignore");
    let sent: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix("!/")).collect();
    assert_eq!(ignored.lines().find(|line| !line.starts_with('#')), Some("*"), "everything else is ignored");
    for path in &sent {
        assert!(root().join(path).exists(), "{path} does not exist");
    }
    for copied in values("COPY").iter().filter(|copied| !copied.starts_with("--from=") && *copied != ". .") {
        let sources = copied.split(' ').filter(|source| !source.starts_with('/'));
        sources.for_each(|source| assert!(sent.contains(&source), "{source} is not sent to the build"));
    }
    for pattern in ["**/*.key", "**/node_modules", "**/target"] {
        assert!(ignored.lines().any(|line| line == pattern), "{pattern} is not ignored");
    }
}

#[test]
fn the_workflow_calls_the_makefile_only_and_pins_its_actions() {
    let makefile = read("Makefile");
    let workflow = yaml(".github/workflows/ci.yml");
    let mut commands = 0;
    for (name, job) in workflow["jobs"].as_object().expect("jobs") {
        for step in job["steps"].as_array().expect("steps") {
            if let Some(command) = step["run"].as_str() {
                let target = command.strip_prefix("make ").unwrap_or_else(|| panic!("{name} runs {command}"));
                let is_target = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
                assert!(is_target, "the Makefile has no {target}");
                commands += 1;
            }
            if let Some(action) = step["uses"].as_str() {
                let commit = action.split_once('@').map_or("", |(_, commit)| commit);
                let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(is_commit, "{action} is not pinned to a commit");
            }
        }
    }
    assert!(commands > 0, "the workflow runs nothing");
}
