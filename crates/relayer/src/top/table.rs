//! Tables of text, drawn into cells. Whatever is drawn is made printable here, so that text from
//! outside cannot control a terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::remote::printable;

/// The longest text that is looked at: longer than a line of any terminal.
const CHARACTERS_MAX: usize = 500;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Worth,
    Bad,
    Faint,
}

/// Which styles a terminal gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    /// Whether colours are wanted.
    pub colors: bool,
}

impl Theme {
    pub const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);

    pub fn style(self, tone: Tone) -> Style {
        let color = |color| if self.colors { Style::new().fg(color) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Good => color(Color::Green),
            Tone::Worth => color(Color::Yellow),
            Tone::Bad => color(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Faint => Style::new().add_modifier(Modifier::DIM),
        }
    }
}

/// Draws one line of text, cut to `area`, and returns how many columns it takes.
pub(super) fn put(buffer: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return 0;
    }
    let text = printable(text, CHARACTERS_MAX);
    let width = usize::from(area.width);
    if Span::raw(&text).width() <= width {
        return buffer.set_stringn(area.x, area.y, &text, width, style).0.saturating_sub(area.x);
    }
    let (end, _) = buffer.set_stringn(area.x, area.y, &text, width - 1, style);
    buffer.set_stringn(end, area.y, "…", 1, style).0.saturating_sub(area.x)
}

/// Draws text at the right end of `area`.
pub(super) fn put_right(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    let width = Span::raw(printable(text, CHARACTERS_MAX)).width();
    let before = area.width.saturating_sub(u16::try_from(width).unwrap_or(u16::MAX));
    let area = Rect { x: area.x.saturating_add(before), width: area.width - before, ..area };
    put(buffer, area, text, style);
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct Column {
    pub heading: &'static str,
    /// The width; 0 for all the width that the other columns leave.
    pub width: u16,
    /// Whether the text stands at the right.
    pub right: bool,
    /// The width of the table from which the column is shown.
    pub from: u16,
}

impl Column {
    pub const fn text(heading: &'static str, width: u16) -> Self {
        Self { heading, width, right: false, from: 0 }
    }

    pub const fn number(heading: &'static str, width: u16) -> Self {
        Self { heading, width, right: true, from: 0 }
    }

    pub const fn from(self, from: u16) -> Self {
        Self { from, ..self }
    }
}

#[derive(Debug, Default)]
pub(super) struct Row {
    /// A text for each column, with its tone.
    pub cells: Vec<(String, Tone)>,
    /// A text in place of the cells from this one on.
    pub note: Option<(usize, String)>,
}

#[derive(Debug)]
pub(super) struct Table<'a> {
    pub columns: &'a [Column],
    /// The heading of the first column.
    pub title: String,
    /// The column by which the rows are sorted, and its mark.
    pub sorted: Option<(usize, char)>,
}

/// Draws the headings and as many rows as fit.
pub(super) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    table: &Table<'_>,
    rows: impl Iterator<Item = Row>,
    theme: Theme,
) {
    let shown: Vec<(usize, &Column)> =
        table.columns.iter().enumerate().filter(|(_, column)| column.from <= area.width).collect();
    let taken: u16 = shown.iter().map(|(_, column)| column.width + 1).sum();
    let rest = area.width.saturating_sub(taken.saturating_sub(1));
    let places = |y: u16| {
        let mut x = area.x;
        shown.iter().map(move |(index, column)| {
            let width = if column.width == 0 { rest } else { column.width };
            let place = Rect { x, y, width: width.min(area.right().saturating_sub(x)), height: 1 };
            x = x.saturating_add(width + 1);
            (*index, *column, place)
        })
    };
    let cell = |buffer: &mut Buffer, column: &Column, place: Rect, text: &str, style: Style| {
        if column.right {
            put_right(buffer, place, text, style);
        } else {
            put(buffer, place, text, style);
        }
    };
    buffer.set_style(Rect { height: area.height.min(1), ..area }, Theme::BAR);
    for (index, column, place) in places(area.y) {
        let mut heading = if index == 0 { table.title.clone() } else { column.heading.to_owned() };
        heading.extend(table.sorted.filter(|(by, _)| *by == index).map(|(_, mark)| mark));
        cell(buffer, column, place, &heading, Theme::BAR);
    }
    for (y, row) in (area.y.saturating_add(1)..area.bottom()).zip(rows) {
        for (index, column, place) in places(y) {
            match &row.note {
                Some((from, note)) if *from == index => {
                    let place = Rect { width: area.right().saturating_sub(place.x), ..place };
                    put(buffer, place, note, theme.style(Tone::Faint));
                    break;
                }
                _ => {}
            }
            if let Some((text, tone)) = row.cells.get(index) {
                cell(buffer, column, place, text, theme.style(*tone));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, width: u16) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, 1));
        let area = buffer.area;
        put(&mut buffer, area, text, Style::new());
        buffer.content().iter().map(|cell| cell.symbol()).collect()
    }

    #[test]
    fn no_text_controls_the_terminal_or_leaves_its_place() {
        for (text, shown) in [
            ("\x1b[2J\x07\r\n\u{9b}1m", "�[2J����1m  "),
            ("a\u{202e}b\u{200f}\u{2066}c\u{61c}", "a�b��c�     "),
            ("twelve chars", "twelve chars"),
            ("thirteen char", "thirteen ch…"),
            // A wide character takes two cells. The second is blank.
            ("日本語日本語日", "日 本 語 日 本 … "),
        ] {
            assert_eq!(drawn(text, 12), shown);
        }
        assert_eq!(
            (drawn("abc", 1), drawn("日本", 1), drawn("x", 0)),
            ("…".into(), "…".into(), String::new())
        );
    }

    #[test]
    fn numbers_stand_at_the_right() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 1));
        let area = buffer.area;
        put_right(&mut buffer, area, "42", Style::new());
        assert_eq!(buffer, Buffer::with_lines(["    42"]));
        put_right(&mut buffer, area, "12345678", Style::new());
        assert_eq!(buffer, Buffer::with_lines(["12345…"]));
    }
}
