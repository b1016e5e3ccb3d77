//! The terminal. It is in raw mode while the screen is shown, and is restored however the command
//! ends.

use std::io::{self, Stdout, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{panic, thread};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{Event, read};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use tokio::sync::mpsc;

/// Whether the terminal has to be restored. Restoring twice would move the cursor.
static IS_CHANGED: AtomicBool = AtomicBool::new(false);

/// The terminal in raw mode. Dropping this value restores it, and so does a panic before its
/// message is printed.
#[derive(Debug)]
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// # Errors
    /// When standard output or input is not a terminal that can be controlled.
    pub fn open() -> io::Result<Self> {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            restore();
            report(panic);
        }));
        IS_CHANGED.store(true, Ordering::Relaxed);
        let open = || {
            enable_raw_mode()?;
            execute!(stdout(), EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(stdout()))
        };
        Ok(Self(open().inspect_err(|_| restore())?))
    }

    pub const fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.0
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if IS_CHANGED.swap(false, Ordering::Relaxed) {
        // A closed terminal needs no restoring.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
}

/// Keys and changes of the size, from a thread that ends with the process. The channel closes when
/// the terminal is closed.
pub(super) fn events() -> io::Result<mpsc::Receiver<Event>> {
    let (sender, receiver) = mpsc::channel(1);
    let read_all = move || {
        while let Ok(event) = read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read_all)?;
    Ok(receiver)
}
