//! The options of `tail`, and the request that they make.

use std::num::NonZeroU64;

use clap::Args;
use url::form_urlencoded::Serializer;

use crate::clock;
use crate::event_log::LogId;
use crate::limits::TAIL_HEARTBEAT;
use crate::remote;

const AFTER_HELP: &str = "\
Examples:
  moltrade-relayer tail                                       new events, until Ctrl-C
  moltrade-relayer tail --cursor 0 -n 10                      the ten oldest events
  moltrade-relayer tail --since 1h --kinds 1,7 --envelope     the last hour, with seq and relay
  moltrade-relayer tail --filter '{\"#t\":[\"BTC\"]}' | jq .content
  moltrade-relayer tail --consumer import --cursor 0 | ./import
                                                              each run continues where the last
                                                              one ended; the first at the oldest
  MOLTRADE_RELAYER_TOKEN=… moltrade-relayer tail --url https://relayer.example

Events are written to standard output, one a line, and what happens to standard error. After a lost
connection, tail reconnects and continues after the last event.

Exit status:
  0   -n events were written, the reader closed the output, or a signal ended tail
  1   the gateway refused the request, or standard output cannot be written
  2   wrong command line
  3   with --no-reconnect: the gateway cannot be reached, or the connection was lost
  78  invalid configuration";

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = AFTER_HELP)]
pub struct TailOptions {
    /// The gateway's URL, as in http://127.0.0.1:8080 [default: the one that the configuration
    /// describes]
    #[arg(long, value_parser = remote::parse_url)]
    pub url: Option<String>,
    /// Start after this event: its sequence or LOG:SEQUENCE; 0 is before the oldest stored event
    /// [default: now]
    #[arg(long, value_name = "CURSOR", value_parser = cursor, conflicts_with = "since")]
    cursor: Option<String>,
    /// Start with the events received since this time: Unix seconds, or how long ago as in 90s,
    /// 15m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<u64>,
    /// Continue as this named consumer, whose cursor the gateway stores; acknowledges what was
    /// written
    #[arg(long, value_name = "NAME")]
    pub(super) consumer: Option<String>,
    /// Only these kinds, as in 1,7
    #[arg(long, value_name = "LIST")]
    kinds: Option<String>,
    /// Only events of these public keys, in hexadecimal
    #[arg(long, value_name = "LIST")]
    authors: Option<String>,
    /// Only events that match this NIP-01 filter
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// Write envelopes: the event with its sequence, log, time of receipt and first relay
    #[arg(long)]
    pub(super) envelope: bool,
    /// Stop after this number of events
    #[arg(short = 'n', long = "count", value_name = "NUMBER")]
    pub(super) count: Option<NonZeroU64>,
    /// Stop when the gateway cannot be reached or the connection is lost
    #[arg(long)]
    pub(super) no_reconnect: bool,
    /// Report only lost events and errors
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// Where the next connection continues.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The log of `seq`.
    pub log: Option<LogId>,
    /// The last event that was received, or that need not be received.
    pub seq: Option<u64>,
    /// Moves the consumer to this cursor.
    pub seek: Option<u64>,
}

impl TailOptions {
    /// Whether events from now on are wanted, for which a cursor has to be asked for.
    pub(super) const fn starts_now(&self) -> bool {
        self.consumer.is_none() && self.cursor.is_none() && self.since.is_none()
    }

    /// The path and query of the request.
    pub(super) fn path(&self, place: Place) -> String {
        let start = "/ws?";
        let mut query = Serializer::for_suffix(start.to_owned(), start.len());
        let heartbeat = TAIL_HEARTBEAT.as_secs().to_string();
        query.append_pair("format", "envelope").append_pair("heartbeat", &heartbeat);
        let selection = [("kinds", &self.kinds), ("authors", &self.authors), ("filter", &self.filter)];
        for (name, value) in selection {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let number = |log: Option<LogId>, seq: u64| match log {
            Some(log) => format!("{log}:{seq}"),
            None => seq.to_string(),
        };
        if let Some(name) = &self.consumer {
            query.append_pair("consumer", name);
        }
        match (place.seek, place.seq) {
            (Some(seek), _) => {
                query.append_pair("seek", &number(place.log, seek));
            }
            // The gateway knows the cursor.
            (None, Some(_)) if self.consumer.is_some() => {}
            (None, Some(seq)) => {
                query.append_pair("cursor", &number(place.log, seq));
            }
            (None, None) => {
                let since = self.since.map(|since| since.to_string());
                for (name, value) in [("cursor", &self.cursor), ("since", &since)] {
                    if let Some(value) = value {
                        query.append_pair(name, value);
                    }
                }
            }
        }
        query.finish()
    }
}

fn cursor(text: &str) -> Result<String, String> {
    let (log, seq) = text.split_once(':').map_or((None, text), |(log, seq)| (Some(log), seq));
    let is_log = log.is_none_or(|log| log.parse::<LogId>().is_ok());
    match is_log && seq.parse::<u64>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("write a sequence as in 42, or LOG:SEQUENCE as in 5b1f08c2a94e7d36:42".to_owned()),
    }
}

/// Returns Unix seconds.
fn since(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (text.get(..at), Some(1)),
        Some((at, 'm')) => (text.get(..at), Some(60)),
        Some((at, 'h')) => (text.get(..at), Some(3_600)),
        Some((at, 'd')) => (text.get(..at), Some(86_400)),
        _ => (Some(text), None),
    };
    let number: Option<u64> = number.and_then(|number| number.parse().ok());
    let number =
        number.ok_or("write Unix seconds as in 1700000000, or how long ago as in 90s, 15m, 2h, 7d")?;
    Ok(match unit {
        Some(unit) => clock::unix_secs().saturating_sub(number.saturating_mul(unit)),
        None => number,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: TailOptions,
    }

    fn parse(line: &str) -> Result<TailOptions, clap::Error> {
        let words = std::iter::once("tail").chain(line.split_whitespace());
        Ok(Line::try_parse_from(words)?.options)
    }

    fn path(line: &str, place: Place) -> String {
        let path = parse(line).expect(line).path(place);
        path.strip_prefix("/ws?format=envelope&heartbeat=30").expect("the same for all").to_owned()
    }

    #[test]
    fn options_become_parameters() {
        let start = Place::default();
        assert_eq!(path("", start), "");
        assert_eq!(path("--cursor 5b1f08c2a94e7d36:7", start), "&cursor=5b1f08c2a94e7d36%3A7");
        assert_eq!(path("--since 1700000000 --kinds 1,7", start), "&kinds=1%2C7&since=1700000000");
        assert_eq!(path("--consumer a&b --cursor 0", start), "&consumer=a%26b&cursor=0");
        let filter = r##"--filter {"#t":["a+b"]}"##;
        assert_eq!(path(filter, start), "&filter=%7B%22%23t%22%3A%5B%22a%2Bb%22%5D%7D");
    }

    #[test]
    fn a_later_connection_continues_after_the_last_event() {
        let log = Some("5b1f08c2a94e7d36".parse().expect("an identity"));
        let place = Place { log, seq: Some(9), seek: None };
        assert_eq!(path("--cursor 0", place), "&cursor=5b1f08c2a94e7d36%3A9");
        assert_eq!(path("--since 1h", place), "&cursor=5b1f08c2a94e7d36%3A9");
        assert_eq!(path("--consumer a --cursor 0", place), "&consumer=a");
        let place = Place { seek: Some(20), ..place };
        assert_eq!(path("--consumer a", place), "&consumer=a&seek=5b1f08c2a94e7d36%3A20");
    }

    #[test]
    fn a_time_may_be_relative() {
        let now = clock::unix_secs();
        for (text, ago) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800)] {
            let since = since(text).expect(text);
            assert!((now - ago..=now - ago + 5).contains(&since), "{text}: {since}");
        }
        assert_eq!(since("1700000000"), Ok(1_700_000_000));
        assert_eq!(since("99999999999999999d"), Ok(0));
        for wrong in ["", "h", "-1", "1w", "1.5h", "1 h", "ü"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [
            "--cursor x",
            "--cursor 5b1f:7",
            "--cursor -1",
            "--cursor 1 --since 1h",
            "-n 0",
            "-n x",
            "--url ws://a.example",
            "extra",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("-n 3 -q --envelope --no-reconnect --url http://a.example/").is_ok());
    }
}
