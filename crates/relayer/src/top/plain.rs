//! The figures as plain text, for pipes and files: no escape codes, and no cursor.

use std::fmt::Write;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::model::{Model, RATES};
use super::rows::{RECEIVER_COLUMNS, RELAY_COLUMNS, decimal, facts, receivers, relay};
use super::table::{self, Column, Row, Table, Theme};
use crate::limits::TOP_PLAIN_RELAYS_MAX;
use crate::remote::printable;
use crate::status::{duration, notes, problems};

/// The width of the tables: room for a long URL, and for the reason of each state.
const WIDTH: u16 = 160;

/// The lines of a table, far more than gateways have sinks.
const ROWS_MAX: u16 = 5_000;

/// The longest line of text.
const LINE_CHARACTERS_MAX: usize = 500;

/// Writes one block. `time` is when the figures were read.
pub(super) fn block(model: &Model, time: &str) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<9} {}", printable(what, LINE_CHARACTERS_MAX));
    };
    line("time", time);
    let Some(sample) = model.latest.as_ref().filter(|_| model.trouble.is_none()) else {
        let why = model.trouble.as_deref().unwrap_or("it has not answered yet");
        line("problem", &format!("cannot reach {}: {why}", model.url));
        return text;
    };
    let answers = &sample.answers;
    line("gateway", &format!("{}, {}, up {}", model.url, answers.version, duration(answers.uptime_seconds)));
    problems(answers).iter().for_each(|problem| line("problem", problem));
    notes(answers).iter().for_each(|note| line("note", note));
    facts(model, answers).iter().for_each(|(name, fact)| line(name, fact));
    if let Some(rates) = model.rates {
        let rates = RATES.iter().zip(rates).map(|((name, _), rate)| format!("{name} {}/s", decimal(rate)));
        line("rates", &Vec::from_iter(rates).join(", "));
    }
    let relays = sample.relays.relays.iter().take(TOP_PLAIN_RELAYS_MAX).map(|one| relay(one, model));
    text += &table("RELAY", &RELAY_COLUMNS, relays.collect());
    let more = sample.relays.total.saturating_sub(TOP_PLAIN_RELAYS_MAX);
    if more > 0 {
        let _ = writeln!(text, "and {more} more; GET /api/relays lists all");
    }
    text += &table("SINK OR CONSUMER", &RECEIVER_COLUMNS, receivers(model));
    text
}

/// A table after an empty line; nothing if there are no rows.
fn table(title: &str, columns: &[Column], rows: Vec<Row>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    // Longer tables than a buffer can hold are cut.
    let height = u16::try_from(rows.len() + 1).unwrap_or(u16::MAX).min(ROWS_MAX);
    let mut buffer = Buffer::empty(Rect::new(0, 0, WIDTH, height));
    let area = buffer.area;
    let table = Table { columns, title: title.to_owned(), sorted: None };
    table::draw(&mut buffer, area, &table, rows.into_iter(), Theme { colors: false });
    let mut text = "\n".to_owned();
    for line in buffer.content().chunks(WIDTH.into()) {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}
