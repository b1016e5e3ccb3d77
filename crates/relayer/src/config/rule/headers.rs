//! Headers of requests: a table of names and values.

use super::{Mismatch, Rule};
use crate::config::error::printable;
use crate::config::raw::{Kind, Raw, Shape};
use crate::config::webhook::Headers;

/// Headers; more are a mistake.
const HEADERS_MAX: usize = 32;

/// A table of headers.
pub struct HeaderTable;

/// Headers of requests.
pub const fn headers() -> HeaderTable {
    HeaderTable
}

impl Rule for HeaderTable {
    type Value = Headers;

    fn read(&self, raw: &Raw) -> Result<Headers, Vec<Mismatch>> {
        let Kind::Table(members) = &raw.kind else { return self.mismatch(raw) };
        if members.len() > HEADERS_MAX {
            let what = format!("found {} headers; allowed: {}", members.len(), self.allowed());
            return Err(vec![Mismatch::new(raw.offset, what)]);
        }
        let (mut headers, mut faults) = (Headers::default(), Vec::new());
        for member in members {
            let added = match &member.value.kind {
                Kind::Text(value) => headers.add(&member.key, value),
                _ => Err("its value is no text".to_owned()),
            };
            if let Err(fault) = added {
                let what =
                    format!("found a header (its value is not shown): {fault}; allowed: {}", self.allowed());
                faults.push(Mismatch { key: printable(&member.key), offset: member.offset, what });
            }
        }
        if faults.is_empty() { Ok(headers) } else { Err(faults) }
    }

    fn show(&self, headers: &Headers) -> Option<String> {
        let shown: Vec<String> = headers.map().keys().map(|name| format!("{name} = \"***\"")).collect();
        (!shown.is_empty()).then(|| format!("{{ {} }}", shown.join(", ")))
    }

    fn allowed(&self) -> String {
        format!("a table of at most {HEADERS_MAX} headers that are not the gateway's own")
    }

    fn shape(&self) -> Shape {
        Shape::Plain
    }

    fn example(&self) -> Vec<String> {
        vec!["{ Authorization = \"…\" }".to_owned()]
    }
}
