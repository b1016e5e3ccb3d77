//! The configuration file: its text, and places in it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::error::{Place, Problem};

/// The largest file that is read: room for 100,000 relays. The limit keeps a wrong path (a device,
/// a database) from filling the memory.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A file's name and text.
pub(super) struct Document<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Document<'_> {
    pub(super) fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Place::File { path: self.path.into(), line, column }
    }

    /// The place of a problem that concerns the whole file.
    pub(super) fn whole(&self) -> Place {
        Place::File { path: self.path.into(), line: 0, column: 0 }
    }
}

/// The text of the file; `None` if the file does not exist and `named` is false.
pub(super) fn read(path: &Path, named: bool) -> Result<Option<String>, Problem> {
    let problem = |what: String| Problem { place: Document { path, text: "" }.whole(), key: None, what };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(fault) if fault.kind() == ErrorKind::NotFound && !named => return Ok(None),
        Err(fault) => return Err(problem(format!("the configuration file cannot be read: {fault}"))),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            let what = format!("larger than {FILE_BYTES_MAX} bytes: this is not a configuration file");
            return Err(problem(what));
        }
        Ok(_) => {}
    }
    String::from_utf8(bytes).map(Some).map_err(|fault| {
        let valid = fault.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(fault.as_bytes());
        // Up to the first invalid byte, the lossy text has the same bytes as the file.
        let place = Document { path, text: &text }.place(valid);
        Problem { place, key: None, what: "found a byte that is not UTF-8; allowed: UTF-8 text".to_owned() }
    })
}
