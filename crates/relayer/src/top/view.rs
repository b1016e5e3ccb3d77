//! The user's choice of rows, order and filter, and the keys that change it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::sample::{GROUPS, RelayQuery, SORTS};
use crate::limits::TOP_RELAYS_MAX;

#[derive(Debug, Default)]
pub(super) struct View {
    query: RelayQuery,
    /// Whether the keys that scroll move the receivers, and not the relays.
    pub in_receivers: bool,
    /// The first relay and the first receiver that are shown.
    pub relay: usize,
    pub receiver: usize,
    pub is_paused: bool,
    /// The rows that the last drawing had room for.
    pub shown: Shown,
}

/// The rows of each table that fit on the screen, and how many rows there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub relay_rows: usize,
    pub relays: usize,
    pub receiver_rows: usize,
    pub receivers: usize,
}

/// The action after a key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    Draw,
    /// Ask the gateway at once.
    Ask,
    Quit,
}

impl View {
    /// Which relays the gateway is asked for.
    pub const fn query(&self) -> RelayQuery {
        self.query
    }

    /// Moves the first rows so that no room is wasted after the last one.
    pub fn clamp(&mut self, shown: Shown) {
        self.shown = shown;
        self.relay = self.relay.min(shown.relays.saturating_sub(shown.relay_rows));
        self.receiver = self.receiver.min(shown.receivers.saturating_sub(shown.receiver_rows));
    }

    pub fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Nothing;
        }
        let page = if self.in_receivers { self.shown.receiver_rows } else { self.shown.relay_rows };
        let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
        match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Next::Quit,
            KeyCode::Char('q') | KeyCode::Esc => Next::Quit,
            KeyCode::Char('s') => self.sort((self.query.sort + 1) % SORTS.len()),
            KeyCode::Char('S') => self.sort((self.query.sort + SORTS.len() - 1) % SORTS.len()),
            KeyCode::Char('r') => {
                self.query.ascending = !self.query.ascending;
                self.restart()
            }
            KeyCode::Char('f') => {
                self.query.group = (self.query.group + 1) % GROUPS.len();
                self.restart()
            }
            KeyCode::Char(' ') => {
                self.is_paused = !self.is_paused;
                if self.is_paused { Next::Draw } else { Next::Ask }
            }
            KeyCode::Tab | KeyCode::BackTab => {
                self.in_receivers = !self.in_receivers;
                Next::Draw
            }
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::PageUp => self.scroll(-page),
            KeyCode::PageDown => self.scroll(page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.scroll(isize::MAX),
            _ => Next::Nothing,
        }
    }

    /// Sorts by another figure: texts from A to Z, and numbers from the largest.
    fn sort(&mut self, sort: usize) -> Next {
        self.query.sort = sort;
        self.query.ascending = SORTS.get(sort) == Some(&Some("url"));
        self.restart()
    }

    fn restart(&mut self) -> Next {
        (self.relay, self.query.offset) = (0, 0);
        Next::Ask
    }

    fn scroll(&mut self, rows: isize) -> Next {
        let Shown { relay_rows, relays, receiver_rows, receivers } = self.shown;
        if self.in_receivers {
            let last = receivers.saturating_sub(receiver_rows);
            self.receiver = self.receiver.saturating_add_signed(rows).min(last);
            return Next::Draw;
        }
        self.relay = self.relay.saturating_add_signed(rows).min(relays.saturating_sub(relay_rows));
        // The part that is asked for is moved when the screen reaches its end.
        let asked = self.query.offset..self.query.offset + TOP_RELAYS_MAX;
        if asked.contains(&self.relay) && self.relay + relay_rows <= asked.end {
            return Next::Draw;
        }
        self.query.offset = self.relay.saturating_sub((TOP_RELAYS_MAX - relay_rows.min(TOP_RELAYS_MAX)) / 2);
        Next::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, code: KeyCode) -> Next {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_sort_filter_and_quit() {
        let mut view = View::default();
        assert_eq!(press(&mut view, KeyCode::Char('s')), Next::Ask);
        assert_eq!((view.query().sort, view.query().ascending), (1, false));
        press(&mut view, KeyCode::Char('S'));
        press(&mut view, KeyCode::Char('S'));
        press(&mut view, KeyCode::Char('S'));
        assert_eq!((view.query().sort, view.query().ascending), (5, true), "addresses from A to Z");
        assert_eq!(press(&mut view, KeyCode::Char('r')), Next::Ask);
        assert!(!view.query().ascending);
        assert_eq!(press(&mut view, KeyCode::Char('f')), Next::Ask);
        assert_eq!(view.query().group, 1);
        assert_eq!(press(&mut view, KeyCode::Char(' ')), Next::Draw);
        assert_eq!(press(&mut view, KeyCode::Char(' ')), Next::Ask);
        assert_eq!(press(&mut view, KeyCode::Char('x')), Next::Nothing);
        assert_eq!(press(&mut view, KeyCode::Char('q')), Next::Quit);
        assert_eq!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Next::Quit);
        assert_eq!(press(&mut view, KeyCode::Char('c')), Next::Nothing);
    }

    #[test]
    fn scrolling_stays_within_the_list_and_asks_for_more_when_needed() {
        let mut view = View::default();
        view.clamp(Shown { relay_rows: 10, relays: 1_000, receiver_rows: 3, receivers: 4 });
        assert_eq!((press(&mut view, KeyCode::Up), view.relay), (Next::Draw, 0));
        assert_eq!((press(&mut view, KeyCode::PageDown), view.relay), (Next::Draw, 10));
        assert_eq!((press(&mut view, KeyCode::End), view.relay), (Next::Ask, 990));
        assert_eq!(view.query().offset, 895);
        assert_eq!((press(&mut view, KeyCode::Home), view.relay), (Next::Ask, 0));
        assert_eq!(view.query().offset, 0);
        press(&mut view, KeyCode::Tab);
        assert_eq!((press(&mut view, KeyCode::End), view.receiver), (Next::Draw, 1));
        view.clamp(Shown { relay_rows: 10, relays: 5, receiver_rows: 3, receivers: 0 });
        assert_eq!((view.relay, view.receiver), (0, 0));
    }
}
