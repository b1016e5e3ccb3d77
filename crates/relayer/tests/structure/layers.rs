//! Modules import only what stands below them in ARCHITECTURE.md's list of layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");

/// An import of a module by another one.
type Arrow = (String, String);

/// What ARCHITECTURE.md says: the layer of each module, from the top, and the arrows that may point
/// backward.
struct Permitted {
    layers: BTreeMap<String, usize>,
    exceptions: BTreeSet<Arrow>,
}

impl Permitted {
    fn read() -> Self {
        let list = ARCHITECTURE
            .split_once("```layers\n")
            .and_then(|(_, rest)| rest.split_once("```"))
            .expect("ARCHITECTURE.md has a list of layers")
            .0;
        let mut permitted = Self { layers: BTreeMap::new(), exceptions: BTreeSet::new() };
        for (layer, line) in list.lines().enumerate() {
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
            *self.layers.get(module).unwrap_or_else(|| panic!("{module} is in no layer of ARCHITECTURE.md"))
        };
        layer(&arrow.0) < layer(&arrow.1) || self.exceptions.contains(arrow)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The top module of a file; `None` for those that only list modules.
fn module_of(file: &Path) -> Option<String> {
    let first = file.strip_prefix(SOURCES).expect("it is a source").iter().next()?;
    let module = first.to_str()?.trim_end_matches(".rs").to_owned();
    (!["lib", "main"].contains(&module.as_str())).then_some(module)
}

/// The top modules of this crate that a source names, but for its unit tests and comments.
fn imports(source: &str) -> BTreeSet<String> {
    let code = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line.split(" // ").next().unwrap_or_default(), "\n"])
        .collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            found.extend(of_list(list));
        } else {
            found.extend(name(rest));
        }
    }
    found
}

/// The modules of an import in braces, from behind the opening one.
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

/// The module that a path begins with; `None` for a type, a function or nothing.
fn name(path: &str) -> Option<String> {
    let end = path.find(|next: char| !next.is_ascii_alphanumeric() && next != '_')?;
    let name = &path[..end];
    (name.starts_with(|first: char| first.is_ascii_lowercase())).then(|| name.to_owned())
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let permitted = Permitted::read();
    let (mut wrong, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut arrows = 0;
    for file in files(Path::new(SOURCES)) {
        let Some(module) = module_of(&file) else { continue };
        for imported in imports(&read_to_string(&file).expect("readable")) {
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
    assert!(arrows > 100, "only {arrows} imports were found");
    assert_eq!(used, permitted.exceptions, "an exception that nobody needs is to go");
}

#[test]
fn imports_are_found_in_all_their_forms() {
    let source = "use crate::one::Type;\nuse crate::{two, three::{A, B}, four::C, Type};\n\
                  // crate::comment\nfn f() -> crate::five::Type { pub(in crate::six) }\n\
                  #[cfg(test)]\nmod tests {\n    use crate::seven;\n}\n";
    let found: Vec<String> = imports(source).into_iter().collect();
    assert_eq!(found, ["five", "four", "one", "six", "three", "two"]);
}
