//! `moltrade-relayer top`: shows rates, relays, sinks and consumers of a running gateway.
//!
//! [`sample`] asks the gateway, and [`model`] computes rates. [`rows`] turns both into text.
//! [`table`] draws this text on the [`screen`] of a [`terminal`], or it is printed as [`plain`]
//! text. [`view`] has the choices that the user made with keys.

mod model;
mod plain;
mod rows;
mod sample;
mod screen;
mod table;
mod terminal;
mod view;

use std::env;
use std::future::pending;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ratatui::crossterm::event::Event;
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock;
use crate::config::Secret;
use crate::crash_point;
use crate::limits::{STATUS_CALL_TIMEOUT, STATUS_TIMEOUT};
use crate::remote::{self, End, Remote, Target, signalled};
use model::Model;
use sample::{RelayQuery, Sample};
use table::Theme;
use terminal::Screen;
use view::{Next, View};

/// Seconds between two refreshes.
const INTERVAL: u16 = 2;

/// Seconds over which the rates of a single plain-text block are measured.
const SINGLE_INTERVAL: u16 = 1;

const AFTER_HELP: &str = "\
Examples:
  moltrade-relayer top                       the screen, until q
  moltrade-relayer top | cat                 the figures once, as plain text
  moltrade-relayer top --interval 60 >> top.log
                                             a block of plain text each minute

Keys:
  q, Esc, Ctrl-C    quit
  s, S              sort relays by the next or the previous figure
  r                 reverse the order of relays
  f                 show all relays, those that are connected, or those that are not
  Tab               scroll sinks and consumers, or relays again
  Up, Down, PgUp, PgDn, Home, End
                    scroll
  Space             pause, and go on

Without a terminal, top writes plain text. NO_COLOR=1 turns colours off.

Exit status:
  0   ended as asked
  1   standard output cannot be written, or --url or the terminal cannot be used
  2   wrong command line
  3   a single plain-text block was asked for, and the gateway cannot be reached
  78  invalid configuration";

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = AFTER_HELP)]
pub struct TopOptions {
    /// The gateway's URL, as in http://127.0.0.1:8080 [default: the one that the configuration
    /// describes]
    #[arg(long, value_parser = remote::parse_url)]
    pub url: Option<String>,
    /// Seconds between two refreshes [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3_600))]
    interval: Option<u16>,
    /// Stop after this number of refreshes [default for plain text without --interval: 1]
    #[arg(short = 'n', long = "count", value_name = "NUMBER")]
    count: Option<NonZeroU64>,
}

/// Shows the gateway until the command ends.
pub async fn run(target: Target<'_>, token: Option<Secret>, options: &TopOptions) -> End {
    let gateway = target.url().and_then(|url| Remote::new(url, token, STATUS_CALL_TIMEOUT));
    let gateway = match gateway {
        Ok(gateway) => Arc::new(gateway),
        Err(why) => return End::Failed(why),
    };
    let is_dumb = env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
    let done = match io::stdout().is_terminal() && !is_dumb {
        true => interactive(&gateway, options).await.map(|()| End::Done),
        false => blocks(&gateway, options).await,
    };
    done.unwrap_or_else(|error| match error.kind() {
        // The reader has closed the output early, as `head` does.
        ErrorKind::BrokenPipe => End::Done,
        _ => End::Failed(format!("cannot write to the terminal: {error}")),
    })
}

async fn ask(gateway: Arc<Remote>, query: RelayQuery) -> Result<Sample, String> {
    let sample = timeout(STATUS_TIMEOUT, Sample::ask(&gateway, query)).await;
    sample.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
}

/// Writes plain text.
async fn blocks(gateway: &Arc<Remote>, options: &TopOptions) -> io::Result<End> {
    let is_single = options.interval.is_none() && options.count.is_none();
    let interval = options.interval.unwrap_or(if is_single { SINGLE_INTERVAL } else { INTERVAL });
    let mut left = options.count.map(NonZeroU64::get).or(is_single.then_some(1));
    let mut model = Model::new(gateway.url.clone());
    model.update(ask(Arc::clone(gateway), RelayQuery::default()).await);
    let mut separator = "";
    while left != Some(0) {
        sleep(Duration::from_secs(interval.into())).await;
        model.update(ask(Arc::clone(gateway), RelayQuery::default()).await);
        if let Some(why) = model.trouble.as_ref().filter(|_| is_single) {
            return Ok(End::Unreachable(format!("cannot reach {}: {why}", gateway.url)));
        }
        let time = httpdate::fmt_http_date(clock::system_time());
        let mut out = io::stdout().lock();
        write!(out, "{separator}{}", plain::block(&model, &time))?;
        out.flush()?;
        separator = "\n";
        left = left.map(|left| left.saturating_sub(1));
    }
    Ok(End::Done)
}

/// Shows the screen until a key or a signal ends it.
async fn interactive(gateway: &Arc<Remote>, options: &TopOptions) -> io::Result<()> {
    let theme = Theme { colors: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    let mut screen = Screen::open()?;
    show(gateway, options, theme, &mut screen, &mut terminal::events()?).await
}

async fn show(
    gateway: &Arc<Remote>,
    options: &TopOptions,
    theme: Theme,
    screen: &mut Screen,
    events: &mut mpsc::Receiver<Event>,
) -> io::Result<()> {
    let interval = Duration::from_secs(options.interval.unwrap_or(INTERVAL).into());
    let (mut model, mut view) = (Model::new(gateway.url.clone()), View::default());
    let mut left = options.count.map(NonZeroU64::get);
    let start = |view: &View| Some(tokio::spawn(ask(Arc::clone(gateway), view.query())));
    let mut asking = start(&view);
    let mut due = Instant::now();
    let mut stop = pin!(signalled([SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]));
    loop {
        crash_point::reached("top_draw");
        screen.terminal().draw(|frame| {
            let shown = screen::draw(&model, &view, theme, frame.buffer_mut());
            view.clamp(shown);
        })?;
        if left == Some(0) {
            return Ok(());
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            event = events.recv() => {
                let next = match event {
                    Some(Event::Key(key)) => view.press(key),
                    Some(_) => Next::Draw,
                    // The terminal was closed.
                    None => Next::Quit,
                };
                match next {
                    Next::Quit => return Ok(()),
                    Next::Ask => {
                        if let Some(asked) = asking.take() {
                            asked.abort();
                        }
                        asking = start(&view);
                    }
                    Next::Draw | Next::Nothing => {}
                }
            }
            sample = answer(&mut asking) => {
                asking = None;
                model.update(sample);
                due = Instant::now() + interval;
                left = left.map(|left| left.saturating_sub(1));
            }
            () = sleep_until(due), if asking.is_none() && !view.is_paused => asking = start(&view),
        }
    }
}

/// Waits for the answer. Pending if nothing was asked.
async fn answer(asking: &mut Option<JoinHandle<Result<Sample, String>>>) -> Result<Sample, String> {
    match asking {
        Some(asking) => match asking.await {
            Ok(sample) => sample,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(error.to_string()),
            },
        },
        None => pending().await,
    }
}
