//! `moltrade-relayer tail`: follows a running gateway and writes its events as lines of JSON.
//! [`options`] is the command line, [`session`] one connection, and [`output`] standard output.

mod options;
mod output;
mod session;

use std::fmt::Arguments;
use std::io::{self, Write};
use std::pin::{Pin, pin};

use reqwest::{Method, Upgraded};
use serde::Deserialize;
use tokio::signal::unix::SignalKind;
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;

use crate::config::Secret;
use crate::event_log::LogId;
use crate::limits::{TAIL_CALL_TIMEOUT, TAIL_MESSAGE_BYTES_MAX};
use crate::net::backoff::Backoff;
use crate::remote::{Answer, End, Opened, Remote, Target, signalled};
use options::Place;
pub use options::TailOptions;
use output::Output;
use session::Over;

/// How often in a row the next events may be trimmed before a connection begins.
const TRIMMED_MAX: u32 = 5;

struct Tail<'a> {
    gateway: Remote,
    options: &'a TailOptions,
    output: Output,
    place: Place,
    /// Events that may still be written.
    left: Option<u64>,
    /// The last trouble that was reported, so that an outage is not reported with each attempt.
    trouble: Option<String>,
}

/// A page of `/api/events`.
#[derive(Deserialize)]
struct Page {
    head: u64,
}

/// A refusal because of a cursor.
#[derive(Default, Deserialize)]
struct Refusal {
    oldest: Option<u64>,
}

/// Follows a gateway until the command ends.
pub async fn run(target: Target<'_>, token: Option<Secret>, options: &TailOptions) -> End {
    let gateway = target.url().and_then(|url| Remote::new(url, token, TAIL_CALL_TIMEOUT));
    let gateway = match gateway {
        Ok(gateway) => gateway,
        Err(why) => return End::Failed(why),
    };
    let (output, place, left) = (Output::new(), Place::default(), options.count.map(Into::into));
    let tail = Tail { gateway, options, output, place, left, trouble: None };
    tail.run(pin!(stopped())).await
}

/// Completes when the command should end: by a signal, or because nobody reads the output.
async fn stopped() {
    tokio::select! {
        () = signalled([SignalKind::interrupt(), SignalKind::terminate()]) => {}
        () = output::closed() => {}
    }
}

impl Tail<'_> {
    async fn run(mut self, mut stop: Pin<&mut impl Future>) -> End {
        let mut backoff = Backoff::of_sink();
        loop {
            let opened = tokio::select! {
                _ = &mut stop => return End::Done,
                opened = self.open() => opened,
            };
            let before = self.place.seq;
            let over = match opened {
                Ok(mut socket) => session::run(&mut self, &mut socket, stop.as_mut()).await,
                Err(over) => over,
            };
            let why = match over {
                Over::Final(end) => return end,
                Over::Broken(why) if self.options.no_reconnect => return End::Unreachable(why),
                Over::Broken(why) => why,
            };
            if self.place.seq != before {
                backoff.reset();
            }
            if self.trouble.as_ref() != Some(&why) {
                self.inform(format_args!("{why}; reconnecting"));
                self.trouble = Some(why);
            }
            tokio::select! {
                _ = &mut stop => return End::Done,
                () = sleep(backoff.next_delay()) => {}
            }
        }
    }

    /// Connects, to continue after the last event.
    async fn open(&mut self) -> Result<Box<WebSocketStream<Upgraded>>, Over> {
        if self.options.starts_now() && self.place.seq.is_none() {
            let page = self.gateway.call(Method::GET, "/api/events?limit=1", TAIL_MESSAGE_BYTES_MAX).await;
            let page = page.map_err(Over::Broken)?;
            if !page.status.is_success() {
                return Err(self.refused(&page));
            }
            let Page { head } = page.json().map_err(|why| Over::Final(self.failed(&why)))?;
            self.place = Place { log: page.log, seq: Some(head), seek: None };
        }
        let mut answer = None;
        for _ in 0..TRIMMED_MAX {
            let path = self.options.path(self.place);
            let opened = self.gateway.web_socket(&path, TAIL_MESSAGE_BYTES_MAX).await;
            match opened.map_err(Over::Broken)? {
                Opened::Open { socket, log } => {
                    self.connected(log);
                    return Ok(socket);
                }
                Opened::Refused(refusal) if !self.skip_trimmed(&refusal) => {
                    return Err(self.refused(&refusal));
                }
                Opened::Refused(refusal) => answer = Some(refusal),
            }
        }
        Err(Over::Broken(answer.map_or_else(String::new, |answer| answer.refusal())))
    }

    /// Continues at the oldest event, if the next events are no longer stored.
    fn skip_trimmed(&mut self, answer: &Answer) -> bool {
        let Refusal { oldest: Some(oldest) } = answer.json().unwrap_or_default() else { return false };
        let (first, last) = (self.place.seq.map(|seq| seq.saturating_add(1)), oldest.saturating_sub(1));
        match first {
            Some(first) => warn(format_args!(
                "events {first} to {last} are lost: the gateway no longer stores them; continuing with event {oldest}"
            )),
            None => warn(format_args!(
                "the gateway no longer stores the events up to {last}; starting with event {oldest}"
            )),
        }
        self.place.log = answer.log;
        match self.options.consumer {
            Some(_) => self.place.seek = Some(last),
            None => self.place.seq = Some(last),
        }
        true
    }

    fn refused(&self, answer: &Answer) -> Over {
        let why = answer.refusal();
        match answer.status.as_u16() {
            408 | 425 | 429 | 500.. => Over::Broken(why),
            _ => Over::Final(self.failed(&why)),
        }
    }

    fn failed(&self, why: &str) -> End {
        End::Failed(format!("the gateway at {} refuses: {why}", self.gateway.url))
    }

    fn connected(&mut self, log: Option<LogId>) {
        self.trouble = None;
        if self.place.log.is_some() && self.place.log != log {
            // The gateway refuses a cursor of another log, so this must be a named consumer.
            warn(format_args!(
                "the gateway has another log: a backup was restored; continuing at the cursor in the backup"
            ));
            self.place.seq = None;
        }
        (self.place.log, self.place.seek) = (log, None);
        let url = &self.gateway.url;
        match (&self.options.consumer, self.place.seq) {
            (Some(name), _) => self.inform(format_args!("connected to {url} as consumer {name}")),
            (None, Some(seq)) => {
                self.inform(format_args!("connected to {url}, continuing after event {seq}"))
            }
            (None, None) => self.inform(format_args!("connected to {url}")),
        }
    }

    fn take_event(&mut self, seq: u64, json: &str) {
        // After a reconnect, a consumer receives unacknowledged events again.
        if self.place.seq.is_some_and(|last| seq <= last) {
            return self.output.pass(seq);
        }
        self.output.push(json, seq);
        self.place.seq = Some(seq);
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    fn take_heartbeat(&mut self, seq: u64) {
        self.output.pass(seq);
        self.place.seq = self.place.seq.max(Some(seq));
    }

    /// Whether all events that were asked for have been received.
    fn is_complete(&self) -> bool {
        self.left == Some(0)
    }

    /// Prints a message on standard error, unless `--quiet` is set.
    fn inform(&self, what: Arguments<'_>) {
        if !self.options.quiet {
            warn(what);
        }
    }
}

/// Reports something that must not be missed.
fn warn(what: Arguments<'_>) {
    // If standard error fails, the events still arrive.
    let _ = writeln!(io::stderr(), "moltrade-relayer: {what}");
}
