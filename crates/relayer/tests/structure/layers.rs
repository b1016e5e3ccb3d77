//! Modules import only from lower layers. ARCHITECTURE.md lists the layers of the crate.
//! `relay/mod.rs` and `fanout/mod.rs` list the layers of these folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

pub(crate) const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");
const RELAY: &str = include_str!("../../src/relay/mod.rs");
const FANOUT: &str = include_str!("../../src/fanout/mod.rs");

/// An import: the importing module and the imported one.
type Arrow = (String, String);

/// A list of layers: the number of each module's layer, counted from the top, and the imports that
/// may point upward.
struct Permitted {
    layers: BTreeMap<String, usize>,
    exceptions: BTreeSet<Arrow>,
}

impl Permitted {
    fn read(text: &str) -> Self {
        let list = text
            .split_once("```layers\n")
            .and_then(|(_, rest)| rest.split_once("```"))
            .expect("the text has a list of layers")
            .0;
        let mut permitted = Self { layers: BTreeMap::new(), exceptions: BTreeSet::new() };
        for (layer, line) in list.lines().enumerate() {
            let line = line.trim_start_matches("//! ");
            if let Some((from, to)) = line.split_once(" -> ") {
                permitted.exceptions.insert((from.to_owned(), to.to_owned()));
                continue;
            }
            for module in line.split_whitespace() {
                let twice = permitted.layers.insert(module.to_owned(), layer);
                assert!(twice.is_none(), "{module} is in two layers");
            }
        }
        permitted
    }

    fn permits(&self, arrow: &Arrow) -> bool {
        let layer = |module: &str| {
            *self.layers.get(module).unwrap_or_else(|| panic!("{module} is in no list of layers"))
        };
        layer(&arrow.0) < layer(&arrow.1) || self.exceptions.contains(arrow)
    }
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The direct submodule of `folder` to which a file belongs; `None` for files that only list
/// modules.
fn module_of(file: &Path, folder: &Path) -> Option<String> {
    let first = file.strip_prefix(folder).expect("it is within the folder").iter().next()?;
    let module = first.to_str()?.trim_end_matches(".rs").to_owned();
    (!["lib", "main", "mod"].contains(&module.as_str())).then_some(module)
}

/// A source without its unit tests.
pub(crate) fn code_of(source: &str) -> &str {
    source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The path from a file up to `folder`, made of `super::`.
fn upward(file: &Path, folder: &Path) -> String {
    let path = file.strip_prefix(folder).expect("it is within the folder");
    let is_map = path.file_name().is_some_and(|name| name == "mod.rs");
    "super::".repeat(path.iter().count() - usize::from(is_map))
}

/// The direct submodules of `root` (`crate::`, a path below it, or repeated `super::`) that a
/// source file names outside of unit tests and comments.
fn imports(source: &str, root: &str) -> BTreeSet<String> {
    let code: String = code_of(source)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line.split(" // ").next().unwrap_or_default(), "\n"])
        .collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        if code[..at].ends_with("super::") {
            continue;
        }
        let rest = &code[at + root.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            found.extend(of_list(list));
        } else {
            found.extend(name(rest));
        }
    }
    found
}

/// The modules in a braced import; `list` starts after the opening brace.
fn of_list(list: &str) -> Vec<String> {
    let mut found: Vec<String> = name(list.trim_start()).into_iter().collect();
    let mut depth = 0;
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.extend(name(list[at + 1..].trim_start())),
            _ => {}
        }
    }
    found
}

/// The first module of a path; `None` for a type, a function or an empty path.
fn name(path: &str) -> Option<String> {
    let end = path.find(|next: char| !next.is_ascii_alphanumeric() && next != '_')?;
    let name = &path[..end];
    (name != "super" && name.starts_with(|first: char| first.is_ascii_lowercase())).then(|| name.to_owned())
}

/// Checks the direct submodules of a folder, and returns the number of imports.
fn check(folder: &Path, root: &str, layers: &str) -> usize {
    let permitted = Permitted::read(layers);
    let (mut wrong, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut arrows = 0;
    for file in files(folder) {
        let Some(module) = module_of(&file, folder) else { continue };
        let source = read_to_string(&file).expect("readable");
        let (absolute, relative) = (imports(&source, root), imports(&source, &upward(&file, folder)));
        for imported in absolute.into_iter().chain(relative) {
            if imported == module {
                continue;
            }
            arrows += 1;
            let arrow = (module.clone(), imported);
            if !permitted.permits(&arrow) {
                wrong.insert(format!("{}: {} -> {}", file.display(), arrow.0, arrow.1));
            } else if permitted.exceptions.contains(&arrow) {
                used.insert(arrow);
            }
        }
    }
    assert!(wrong.is_empty(), "these imports point backward:\n{}", Vec::from_iter(wrong).join("\n"));
    assert_eq!(used, permitted.exceptions, "an exception that nobody needs is to go");
    arrows
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let arrows = check(Path::new(SOURCES), "crate::", ARCHITECTURE);
    assert!(arrows > 100, "only {arrows} imports were found");
}

#[test]
fn the_groups_of_relay_import_only_what_stands_below_them() {
    let arrows = check(&Path::new(SOURCES).join("relay"), "crate::relay::", RELAY);
    assert!(arrows > 30, "only {arrows} imports were found");
}

#[test]
fn the_modules_of_fanout_import_only_what_stands_below_them() {
    let arrows = check(&Path::new(SOURCES).join("fanout"), "crate::fanout::", FANOUT);
    assert!(arrows > 15, "only {arrows} imports were found");
}

#[test]
fn imports_are_found_in_all_their_forms() {
    let source = "use crate::one::Type;\nuse crate::{two, three::{A, B}, four::C, Type};\n\
                  // crate::comment\nfn f() -> crate::five::Type { pub(in crate::six) }\n\
                  #[cfg(test)]\nmod tests {\n    use crate::seven;\n}\n";
    let found: Vec<String> = imports(source, "crate::").into_iter().collect();
    assert_eq!(found, ["five", "four", "one", "six", "three", "two"]);
    let source = "use super::near::A;\nuse super::super::far::B;\nuse super::super::super::out::C;\n";
    assert_eq!(imports(source, "super::super::").into_iter().collect::<Vec<_>>(), ["far"]);
    let folder = Path::new("src/fanout");
    assert_eq!(upward(Path::new("src/fanout/proof/mod.rs"), folder), "super::");
    assert_eq!(upward(Path::new("src/fanout/proof/nip42.rs"), folder), "super::super::");
}
