//! Event files: one JSON object on each line, served unchanged.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::Verifier;

use super::{Item, Origin};

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum JsonlError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    /// A line is not a JSON object.
    #[error("{path}:{line}: not a JSON object")]
    NotAnObject {
        path: PathBuf,
        /// The line number, counted from 1.
        line: usize,
    },
}

/// A line that states why its event is not genuine.
#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(rename = "reason")]
    _reason: &'a RawValue,
}

/// Reads a file whose lines are events, or `{"reason":…,"event":{…}}` for events that are not
/// genuine. Each event is verified to determine whether it is genuine. Empty lines are skipped.
///
/// # Errors
/// When the file cannot be read, or a line is not a JSON object.
pub fn read_jsonl(path: &Path, base: u64) -> Result<Vec<Item>, JsonlError> {
    let text = std::fs::read(path).map_err(|error| JsonlError::Io { path: path.to_owned(), error })?;
    let text = Bytes::from(text);
    let mut verifier = Verifier::new();
    let mut items = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if !line.starts_with(b"{") {
            return Err(JsonlError::NotAnObject { path: path.to_owned(), line: index + 1 });
        }
        items.push(item(line, &text, base, &mut verifier));
    }
    Ok(items)
}

fn item(line: &[u8], file: &Bytes, base: u64, verifier: &mut Verifier) -> Item {
    match serde_json::from_slice::<Labelled<'_>>(line) {
        Ok(labelled) => {
            let event = file.slice_ref(labelled.event.get().as_bytes());
            let item = Item::from_text(event, base, verifier);
            // The file's label wins, because the event may be rejected for a reason outside NIP-01.
            Item { origin: Origin::Invalid, ..item }
        }
        Err(_) => Item::from_text(file.slice_ref(line), base, verifier),
    }
}
