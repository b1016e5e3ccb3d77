//! Every line of the log that an alert may match has a name, and docs/operations.md lists the
//! names.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;

use crate::layers::{SOURCES, code_of, files};

/// The names in the documentation: the first column of the table.
fn documented() -> BTreeSet<String> {
    let documentation = include_str!("../../../../docs/operations.md");
    let section = documentation.split("<!-- log events -->").nth(1).expect("the table of log events");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// The names of the lines that `code` logs. Panics if a line from `info` on has none.
fn names_in(code: &str, file: &Path) -> Vec<String> {
    let quoted = |rest: &str| rest.split('"').next().map(str::to_owned);
    // Lines that are written without `tracing`.
    let mut names: Vec<String> = code.split(" event: \"").skip(1).filter_map(quoted).collect();
    for level in ["error", "warn", "info", "debug", "trace"] {
        for call in code.split(&format!("tracing::{level}!(")).skip(1) {
            let call = call.trim_start();
            match call.strip_prefix("name: \"") {
                Some(rest) => names.extend(quoted(rest)),
                None if ["debug", "trace"].contains(&level) => {}
                None => {
                    panic!("{}: a line has no name: {}", file.display(), call.lines().next().unwrap_or(""))
                }
            }
        }
    }
    names
}

#[test]
fn lines_of_the_log_have_documented_names() {
    let sources = files(Path::new(SOURCES));
    let names =
        sources.iter().flat_map(|file| names_in(code_of(&read_to_string(file).expect("readable")), file));
    let names: BTreeSet<String> = names.collect();
    let is_name = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(names.iter().all(is_name), "{names:?}");
    assert_eq!(names, documented(), "the names in the code, and those in docs/operations.md");
}
