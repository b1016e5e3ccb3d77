//! The screen of `top`: draws a [`Model`] as a [`View`] wants it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{RenderDirection, Sparkline, Widget};

use super::model::{Model, RATES};
use super::rows::{
    RECEIVER_COLUMNS, RELAY_COLUMNS, SORTED_COLUMNS, attention, decimal, facts, receivers, relay,
};
use super::sample::{GROUPS, Sample};
use super::table::{self, Row, Table, Theme, Tone, put, put_right};
use super::view::{Shown, View};
use crate::status::duration;

const KEYS: &str = " q quit  s/S sort  r reverse  f filter  Tab list  ↑↓ PgUp/Dn scroll  Space pause";

/// The rows that receivers get at most while relays need room.
const RECEIVER_ROWS: u16 = 4;

/// Draws the whole screen, and returns the numbers of rows that fit.
pub(super) fn draw(model: &Model, view: &View, theme: Theme, buffer: &mut Buffer) -> Shown {
    let area = buffer.area;
    let mut lines = (area.y..area.bottom().saturating_sub(1)).map(|y| Rect { y, height: 1, ..area });
    let Some(title_line) = lines.next() else { return Shown::default() };
    title(model, view, title_line, buffer);
    keys(area, buffer);
    let Some(sample) = &model.latest else {
        if let Some(line) = lines.nth(1) {
            let waiting = format!("asking {} …", model.url);
            let (text, tone) = trouble(model, line.width).unwrap_or((waiting, Tone::Plain));
            put(buffer, line, &text, theme.style(tone));
        }
        return Shown::default();
    };
    for (name, text) in facts(model, &sample.answers) {
        let Some(line) = lines.next() else { return Shown::default() };
        named(name, &text, line, theme.style(Tone::Plain), buffer);
    }
    let Some(line) = lines.next() else { return Shown::default() };
    if let Some((text, tone)) = trouble(model, line.width).or_else(|| attention(&sample.answers)) {
        put(buffer, line, &text, theme.style(tone));
    }
    for (index, (name, _)) in RATES.iter().enumerate() {
        let Some(line) = lines.next() else { return Shown::default() };
        rate(model, index, name, line, theme, buffer);
    }
    let Some(Rect { y: top, .. }) = lines.next() else { return Shown::default() };
    let rest = Rect { y: top, height: area.bottom().saturating_sub(1).saturating_sub(top), ..area };
    tables(model, sample, view, theme, rest, buffer)
}

fn title(model: &Model, view: &View, line: Rect, buffer: &mut Buffer) {
    let style = Theme::BAR.add_modifier(Modifier::BOLD);
    buffer.set_style(line, Theme::BAR);
    let answers = model.latest.as_ref().map(|sample| &sample.answers);
    let version = answers.map_or_else(String::new, |answers| format!(" {}", answers.version));
    let used = put(buffer, line, &format!(" moltrade-relayer{version} at {}", model.url), style);
    let state = match (&model.trouble, answers) {
        _ if view.is_paused => "paused ".to_owned(),
        (Some(_), _) => "unreachable ".to_owned(),
        (None, Some(answers)) => format!("up {} ", duration(answers.uptime_seconds)),
        (None, None) => String::new(),
    };
    let right = Rect { x: line.x + used, width: line.width.saturating_sub(used), ..line };
    put_right(buffer, right, &state, style);
}

fn keys(area: Rect, buffer: &mut Buffer) {
    let line = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
    buffer.set_style(line, Theme::BAR);
    put(buffer, line, KEYS, Theme::BAR);
}

/// The error of the last call, shortened to the available width.
fn trouble(model: &Model, width: u16) -> Option<(String, Tone)> {
    let why = model.trouble.as_ref()?;
    let tell = |why: &str| format!("cannot reach {}, trying again: {why}", model.url);
    let causes: Vec<&str> = why.split(": ").collect();
    let text = match (&*causes, tell(why)) {
        // The first and the last cause say most.
        ([first, _, .., last], text) if text.len() > width.into() => tell(&format!("{first}: {last}")),
        (_, text) => text,
    };
    Some((text, Tone::Bad))
}

fn named(name: &str, text: &str, line: Rect, style: Style, buffer: &mut Buffer) {
    let width = line.width.min(10);
    put(buffer, Rect { width, ..line }, name, Style::new().add_modifier(Modifier::BOLD));
    put(buffer, Rect { x: line.x + width, width: line.width - width, ..line }, text, style);
}

/// A rate in figures, and as a curve with the newest value at the right.
fn rate(model: &Model, index: usize, name: &str, line: Rect, theme: Theme, buffer: &mut Buffer) {
    let now = model.rates.and_then(|rates| rates.get(index).copied());
    let now = now.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", decimal(rate)));
    named(name, "", line, Style::new(), buffer);
    let (x, width) = (line.x + line.width.min(10), 10);
    put_right(buffer, Rect { x, width, ..line }.intersection(line), &now, Style::new());
    let curve = Rect { x: x + width + 2, width: line.width.saturating_sub(34), ..line }.intersection(line);
    let Some(history) = model.history.get(index) else { return };
    let history = history.iter().rev().copied().take(usize::from(curve.width));
    let most = history.clone().fold(0.0, f64::max);
    Sparkline::default()
        // Tenths, because quiet gateways have small rates.
        .data(history.map(|rate| (rate * 10.0).round() as u64))
        .direction(RenderDirection::RightToLeft)
        .style(theme.style(if name == "refused" { Tone::Worth } else { Tone::Good }))
        .render(curve, buffer);
    let right = Rect { x: curve.right(), width: line.right().saturating_sub(curve.right()), ..line };
    put_right(buffer, right, &format!("max {}", decimal(most)), theme.style(Tone::Faint));
}

fn tables(
    model: &Model,
    sample: &Sample,
    view: &View,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) -> Shown {
    let receivers = receivers(model);
    let count = u16::try_from(receivers.len()).unwrap_or(u16::MAX);
    // Headings take two lines.
    let rows = area.height.saturating_sub(2);
    let relays = u16::try_from(sample.relays.total).unwrap_or(u16::MAX).max(1);
    let wanted = count.max(1);
    let receiver_rows = wanted.min(RECEIVER_ROWS.max(rows.saturating_sub(relays))).min(rows / 2);
    let relay_rows = rows - receiver_rows;
    let shown = Shown {
        relay_rows: relay_rows.into(),
        relays: sample.relays.total,
        receiver_rows: receiver_rows.into(),
        receivers: receivers.len(),
    };
    let top = Rect { height: (relay_rows + 1).min(area.height), ..area };
    let bottom = Rect { y: top.bottom(), height: area.bottom().saturating_sub(top.bottom()), ..area };
    let mark = |is_active| if is_active { '›' } else { ' ' };
    let query = view.query();
    let column = SORTED_COLUMNS.get(query.sort).copied().flatten();
    let group = match GROUPS.get(query.group) {
        Some((name, states)) if !states.is_empty() => format!(" {name}"),
        _ => String::new(),
    };
    let relays = Table {
        columns: &RELAY_COLUMNS,
        title: format!(
            "{}RELAYS{group} {}",
            mark(!view.in_receivers),
            range(view.relay, shown.relay_rows, shown.relays)
        ),
        sorted: column.map(|column| (column, if query.ascending { '▲' } else { '▼' })),
    };
    let skipped = view.relay.saturating_sub(sample.asked.offset);
    let rows = sample.relays.relays.iter().skip(skipped).map(|one| relay(one, model));
    table::draw(buffer, top, &relays, or_none(rows, "none"), theme);
    let table = Table {
        columns: &RECEIVER_COLUMNS,
        title: format!(
            "{}SINKS, CONSUMERS {}",
            mark(view.in_receivers),
            range(view.receiver, shown.receiver_rows, shown.receivers)
        ),
        sorted: None,
    };
    table::draw(
        buffer,
        bottom,
        &table,
        or_none(receivers.into_iter().skip(view.receiver), "no sinks or consumers"),
        theme,
    );
    shown
}

/// `3-9 of 50`: which rows are shown.
fn range(first: usize, rows: usize, total: usize) -> String {
    match total {
        0 => String::new(),
        total => format!("{}-{} of {total}", (first + 1).min(total), (first + rows).min(total)),
    }
}

fn or_none(rows: impl Iterator<Item = Row>, none: &str) -> impl Iterator<Item = Row> {
    let mut rows = rows.peekable();
    let none = rows.peek().is_none().then(|| Row { cells: Vec::new(), note: Some((0, none.to_owned())) });
    none.into_iter().chain(rows)
}

#[cfg(test)]
mod tests;
