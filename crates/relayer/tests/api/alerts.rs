//! The alerts in deploy/prometheus: promtool accepts and tests them, and they match the gateway's
//! metrics and the documentation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::gateway::Gateway;

const RULES: &str = include_str!("../../../../deploy/prometheus/rules.yml");
const TESTS: &str = include_str!("../../../../deploy/prometheus/tests.yml");
const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus")
}

#[track_caller]
fn promtool(arguments: &[&str]) {
    let mut command = Command::new("promtool");
    let output =
        command.args(arguments).current_dir(folder()).output().expect("scripts/prometheus installs it");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

/// One alert of the file.
struct Alert {
    name: &'static str,
    text: &'static str,
}

impl Alert {
    /// The value of a key, which is on one line.
    #[track_caller]
    fn value(&self, key: &str) -> &'static str {
        let value =
            self.text.lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }
}

fn alerts() -> Vec<Alert> {
    let texts = RULES.split("- alert: ").skip(1);
    texts.map(|text| Alert { name: text.lines().next().expect("a name"), text }).collect()
}

/// The names of metrics in an expression: what is left without strings, selectors, ranges, label
/// lists, functions, operators and numbers.
fn metrics(expression: &str) -> BTreeSet<String> {
    const WORDS: [&str; 7] = ["and", "or", "unless", "by", "without", "on", "ignoring"];
    let mut text = String::new();
    let mut depth = 0;
    for character in expression.chars() {
        depth += i32::from(matches!(character, '{' | '['));
        if depth == 0 {
            text.push(character);
        }
        depth -= i32::from(matches!(character, '}' | ']'));
    }
    for word in ["by (", "without (", "on (", "ignoring ("] {
        while let Some(start) = text.find(word) {
            let end = start + text[start..].find(')').expect("it is closed");
            text.replace_range(start..=end, " ");
        }
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_part) {
        let end = start + rest[start..].find(|c| !is_part(c)).unwrap_or(rest.len() - start);
        let (word, after) = (&rest[start..end], &rest[end..]);
        let is_function = after.trim_start().starts_with('(');
        if !is_function && !WORDS.contains(&word) && !word.starts_with(|c: char| c.is_ascii_digit()) {
            found.insert(word.to_owned());
        }
        rest = after;
    }
    found
}

/// The anchors of the headings, as GitHub and others make them.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
        })
        .collect()
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    promtool(&["check", "rules", "rules.yml"]);
    promtool(&["test", "rules", "tests.yml"]);
}

#[test]
fn every_alert_has_a_severity_a_summary_a_runbook_and_tests() {
    let anchors = anchors(OPERATIONS);
    let (quiet, firing) = TESTS.split_once("\n  - name: Relayer").expect("the tests of each alert");
    let alerts = alerts();
    assert!(alerts.len() >= 30, "{}", alerts.len());
    for alert in &alerts {
        let Alert { name, .. } = alert;
        assert!(
            ["{ severity: critical }", "{ severity: warning }"].contains(&alert.value("labels")),
            "{name}"
        );
        assert!(alert.value("summary").contains("{{ $labels.instance }} "), "{name}");
        let (page, anchor) = alert.value("runbook_url").split_once('#').expect("an anchor");
        assert!(page.ends_with("/docs/operations.md"), "{page}");
        assert!(anchors.contains(anchor), "{name}: docs/operations.md has no section #{anchor}");
        assert!(quiet.contains(&format!("alertname: {name}, exp_alerts: []")), "{name} is not shown silent");
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels:");
        assert!(firing.contains(&fires), "{name} is not shown firing");
        for metric in metrics(alert.value("expr")) {
            assert!(
                quiet.contains(&format!("series: '{metric}{{")),
                "{name}: the quiet gateway has no {metric}"
            );
        }
    }
    let runbooks = OPERATIONS.split("<!-- alerts -->").nth(1).expect("the section of alerts");
    let described: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(
        described,
        alerts.iter().map(|alert| alert.name).collect(),
        "each has its section, and no other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_ask_for_metrics_that_the_gateway_has() {
    let gateway = Gateway::start().await;
    let text = gateway.get("/metrics").await.text;
    let mut known: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "histogram" => format!("{name}_bucket"),
            _ => name.to_owned(),
        })
        .collect();
    // Prometheus itself adds this one.
    known.insert("up".to_owned());
    for alert in alerts() {
        for metric in metrics(alert.value("expr")) {
            assert!(known.contains(&metric), "{}: /metrics has no {metric}", alert.name);
        }
    }
}

#[test]
fn metrics_are_found_in_an_expression() {
    let found = |expression| Vec::from_iter(metrics(expression)).join(" ");
    assert_eq!(found("rate(a_total{x=~\"b|c\"}[5m]) > 1e3 and d == 0"), "a_total d");
    assert_eq!(found("sum without (state) (relays{state=\"x\"}) / sum by (le) (y)"), "relays y");
    assert_eq!(found("histogram_quantile(0.99, rate(h_bucket[5m]))"), "h_bucket");
}
