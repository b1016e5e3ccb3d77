//! `relay-sim consume` and `relay-sim both`.

use std::path::PathBuf;
use std::time::Duration;

use relay_sim::{Checker, ConsumeError, Consumer, Delivery, Origin, Sim};
use serde_json::json;
use tokio::time::{Instant, interval, timeout};
use wire::UnverifiedEvent;

use super::report::{self, Meter, PROGRESS_EVERY};
use super::sim_args::SimArgs;
use super::{Failure, Output, relays};

/// Options of `consume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    check: CheckArgs,
    /// Expect this many different events.
    #[arg(long)]
    expect_count: Option<usize>,
    /// Expect the genuine events of this JSONL file; may be repeated.
    #[arg(long)]
    expect_file: Vec<PathBuf>,
    /// Expect the events of the simulation described by the options below. Use the same options as
    /// for the relays, with --base and without --stamp.
    #[arg(long)]
    expect_sim: bool,
    #[command(flatten)]
    sim: SimArgs,
}

/// Options of `both`.
#[derive(Debug, clap::Args)]
pub struct BothArgs {
    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    sim: SimArgs,
}

/// How to consume, and what to tolerate.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Consumer")]
struct CheckArgs {
    /// The gateway's endpoint, for example ws://127.0.0.1:8080/ws?cursor=0.
    #[arg(long)]
    url: String,
    /// When the connection ends, reconnect with the last cursor, retrying for this many seconds.
    #[arg(long, value_name = "SECONDS")]
    reconnect: Option<f64>,
    /// Wait this many seconds for the gateway to accept the first connection.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    wait: f64,
    /// Give up when nothing has arrived for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    idle: f64,
    /// After all expected events, continue for this many seconds to detect additional ones.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    linger: f64,
    /// Sequence numbers may have gaps, because the URL selects some of the events.
    #[arg(long)]
    allow_gaps: bool,
    /// The number of times that created_at may descend between consecutive events: at most the
    /// gateway's number of batches minus one.
    #[arg(long)]
    max_descents: Option<u64>,
}

/// Seconds as a duration, if given.
pub fn duration(seconds: Option<f64>, option: &str) -> Result<Option<Duration>, Failure> {
    let duration = seconds.map(Duration::try_from_secs_f64).transpose();
    let duration = duration.ok().filter(|duration| duration.is_none_or(|d| d.as_secs() < u32::MAX.into()));
    duration.ok_or_else(|| Failure::Usage(format!("{option} is not a valid number of seconds")))
}

fn required(seconds: f64, option: &str) -> Result<Duration, Failure> {
    Ok(duration(Some(seconds), option)?.unwrap_or_default())
}

/// Consumes and checks.
pub async fn run(args: Args, output: Output) -> Result<bool, Failure> {
    let mut checker = Checker::new();
    if let Some(count) = args.expect_count {
        checker = checker.expect_count(count);
    }
    for file in &args.expect_file {
        let items = relay_sim::corpus::read_jsonl(file, 0).map_err(relay_sim::StartError::from)?;
        let genuine = items.into_iter().filter(|item| item.origin == Origin::Genuine);
        checker = checker.expect(genuine.map(|item| item.claims));
    }
    if args.expect_sim {
        // This simulation only supplies the expected events, so any free port will do.
        let sim = args.sim.builder().port(0).start().await?;
        checker = checker.expect(sim.events());
    }
    Run::new(&args.check, checker, None, output)?.run().await
}

/// Serves, consumes and checks.
pub async fn run_both(args: BothArgs, output: Output) -> Result<bool, Failure> {
    let sim = relays::start(&args.sim, output).await?;
    let events = sim.events();
    let made_later = sim.stats().unsent.saturating_sub(events.len());
    let checker = match made_later {
        0 => Checker::new().expect(events),
        // Stamped events have no id yet.
        _ => Checker::new().expect_count(sim.stats().unsent),
    };
    Run::new(&args.check, checker, Some(&sim), output)?.run().await
}

struct Run<'a> {
    args: &'a CheckArgs,
    idle: Duration,
    linger: Duration,
    checker: Checker,
    sim: Option<&'a Sim>,
    output: Output,
    meter: Meter,
    first_and_last: Option<(Instant, Instant)>,
    ended: Option<String>,
    reconnects: u64,
}

impl<'a> Run<'a> {
    fn new(
        args: &'a CheckArgs,
        checker: Checker,
        sim: Option<&'a Sim>,
        output: Output,
    ) -> Result<Self, Failure> {
        let cursor = args.url.split(['?', '&']).find_map(|pair| pair.strip_prefix("cursor="));
        let cursor = cursor.and_then(|cursor| cursor.parse().ok()).filter(|_| !args.allow_gaps);
        let checker = if args.allow_gaps { checker.allow_gaps() } else { checker };
        // Cursor 0 begins with the oldest stored event, whose number need not be 1.
        let checker = cursor.filter(|cursor| *cursor > 0).into_iter().fold(checker, Checker::after_cursor);
        Ok(Self {
            args,
            idle: required(args.idle, "--idle")?,
            linger: required(args.linger, "--linger")?,
            checker,
            sim,
            output,
            meter: Meter::start(),
            first_and_last: None,
            ended: None,
            reconnects: 0,
        })
    }

    async fn run(mut self) -> Result<bool, Failure> {
        let wait = required(self.args.wait, "--wait")?;
        let mut consumer = Consumer::connect_within(&self.args.url, wait).await?;
        if let Some(patience) = duration(self.args.reconnect, "--reconnect")? {
            consumer = consumer.reconnect(patience);
            // Time spent reconnecting does not count as idle.
            self.idle = self.idle.max(patience);
        }
        let mut ticks = interval(PROGRESS_EVERY);
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        'deliveries: loop {
            let patience = if self.checker.is_complete() { self.linger } else { self.idle };
            // This future is kept across ticks, because reconnecting may take several ticks.
            let next = timeout(patience, consumer.next());
            tokio::pin!(next);
            let next = loop {
                tokio::select! {
                    biased;
                    next = &mut next => break next,
                    _ = ticks.tick() => self.progress(),
                    interrupted = &mut interrupt => {
                        interrupted.map_err(Failure::Signal)?;
                        // An interrupt is not a fault, but missing events are.
                        break 'deliveries;
                    }
                }
            };
            match next {
                Ok(Ok(delivery)) => self.take(&delivery),
                Ok(Err(error)) => {
                    let after_all =
                        self.checker.is_complete() && !matches!(error, ConsumeError::Malformed(_));
                    self.ended = (!after_all).then(|| error.to_string());
                    break;
                }
                Err(_) => break,
            }
        }
        self.reconnects = consumer.reconnects();
        self.report()
    }

    fn take(&mut self, delivery: &Delivery) {
        let now = Instant::now();
        self.first_and_last = Some((self.first_and_last.map_or(now, |(first, _)| first), now));
        if let Err(wrong) = self.checker.check(delivery)
            && !self.output.quiet
            && self.checker.wrong().len() <= 10
        {
            eprintln!("delivery {}: {wrong}", self.checker.deliveries());
        }
        if let Some(sent_us) = self.sent_us(delivery) {
            self.checker.note_latency_us(delivery.at_us.saturating_sub(sent_us));
        }
    }

    /// When the first copy was written, according to the relays or to the event's tag.
    fn sent_us(&self, delivery: &Delivery) -> Option<u64> {
        let event = UnverifiedEvent::parse(&delivery.event).ok()?;
        if let Some(stamp) = event.tag_value("sent_us") {
            return stamp.parse().ok();
        }
        self.sim?.first_sent_us(&event.id)
    }

    fn progress(&mut self) {
        if self.output.quiet {
            return;
        }
        let verdict = self.checker.deliveries();
        eprintln!(
            "{:6.1} s  {verdict} delivered  {} faults",
            self.meter.seconds(),
            self.checker.wrong().len()
        );
        if let Some(sim) = self.sim {
            eprintln!("{}", self.meter.line(sim));
        }
    }

    fn report(self) -> Result<bool, Failure> {
        let verdict = self.checker.verdict();
        let seconds = self.first_and_last.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let (events, megabytes) = (verdict.deliveries as f64, verdict.bytes as f64 / 1e6);
        let descents = self.args.max_descents.is_none_or(|max| verdict.descents <= max);
        let whole = self.ended.is_none();
        let passed = verdict.passed() && descents && whole;
        let stats = self.sim.map(Sim::stats);
        if self.output.json {
            let relays = stats.as_ref().map(report::relays_json);
            report::print(
                &json!({ "passed": passed, "verdict": verdict, "seconds": seconds, "ended": self.ended,
                    "events_per_second": events / seconds.max(1e-9), "reconnects": self.reconnects,
                    "mb_per_second": megabytes / seconds.max(1e-9), "relays": relays })
                .to_string(),
            )?;
            return Ok(passed);
        }
        let mut text =
            stats.map(|stats| report::relays_text(&stats, self.meter.seconds(), None)).unwrap_or_default();
        text += &format!(
            "{events} events, {megabytes:.1} MB in {seconds:.3} s: {:.0} events/s, {:.1} MB/s, {} reconnects\n",
            events / seconds.max(1e-9),
            megabytes / seconds.max(1e-9),
            self.reconnects,
        );
        if let Some(latency) = verdict.latency {
            text += &format!(
                "latency from the first copy written: p50 {} us, p99 {} us, max {} us ({} measured)\n",
                latency.p50_us, latency.p99_us, latency.max_us, latency.count
            );
        }
        if let Some(ended) = self.ended {
            text += &format!("ended: {ended}\n");
        }
        if !descents {
            text += &format!("created_at descends {} times, more than permitted\n", verdict.descents);
        }
        text +=
            &if passed { verdict.to_string() } else { verdict.to_string().replacen("PASSED", "FAILED", 1) };
        report::print(&text)?;
        Ok(passed)
    }
}
