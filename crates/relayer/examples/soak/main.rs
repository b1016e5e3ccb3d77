//! `make soak`: runs the built program under all disturbances, for a given time.
//!
//! A third of the relays are hostile: each has all faults of the simulator, and most also end
//! subscriptions with CLOSED around EOSE. Attackers connect to every port. The program is killed,
//! its clock is stepped, and the disks of its log output and of its data are each full once. A
//! second program runs at the same time without disturbances. At the end, the verdict checks what
//! must hold. Exit status: 0 passed, 1 failed.
//!
//! The disks are small file systems in memory, so the soak needs root, or `--no-mounts`.

mod attack;
mod clock;
mod disk;
mod program;
mod verdict;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use relay_sim::{Ending, EndingPlace, Fault, Figures, Sim, SimBuilder, Who};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use attack::Attackers;
use clock::Clock;
use disk::Disk;
use program::Program;
use verdict::Seen;
use watch::Watch;

/// The number of relays; the first third is hostile.
const RELAYS: usize = 30;
const HOSTILE: usize = RELAYS / 3;
/// The number of relays that have each event. It exceeds the number of hostile relays, so at least
/// one relay is honest.
const COPIES: usize = HOSTILE + 2;
/// The probability of each fault of a hostile relay before each event.
const FAULT_CHANCE: f64 = 0.002;
/// The probability of each connection-wide fault of a hostile relay at each connection.
const CONNECTION_FAULT_CHANCE: f64 = 0.05;
/// The number of subscriptions that a hostile relay ends with CLOSED. The number is small because
/// most other faults come with events, and an ended subscription gets no events.
const ENDINGS: usize = 5;
/// Bytes of the data disk for each event, in addition to the space that the program keeps free.
const BYTES_AN_EVENT: u64 = 8_000;
/// The minimum size of the data disk: for write buffers, and for the space that the program keeps
/// free.
const DATA_MEBIBYTES: u64 = 1_024;
const LOG_MEBIBYTES: u64 = 64;
/// The time limit for honest relays to become live after a disturbance.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// The time limit for all events to arrive after the end.
const SETTLING_MAX: Duration = Duration::from_secs(180);
/// The time in which delayed events still arrive after a disturbance.
const AFTERMATH: Duration = Duration::from_secs(2);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

type Outcome<T> = Result<T, anyhow::Error>;

/// Run the built program under faults, attacks, kills, clock steps and full disks.
#[derive(Debug, Parser)]
struct Args {
    /// Duration in minutes.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// New events a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// The number of kills.
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// The seed of events and misbehaviour.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out the full disks, which need root.
    #[arg(long)]
    no_mounts: bool,
    /// The program [default: moltrade-relayer beside the folder of this example].
    #[arg(long)]
    program: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Disturbance {
    Kill,
    /// Sets the clock this many seconds ahead of the system's.
    Clock(i64),
    LogDiskFull,
    DataDiskFull,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(soak(&args)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(args: &Args) -> Outcome<bool> {
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let events = (length.as_secs_f64() * args.rate) as usize;
    println!("Signing {events} events for {RELAYS} simulated relays, of which {HOSTILE} are hostile ...");
    let sim = Arc::new(hostile_simulation(args, events).start().await?);
    let calm = Arc::new(simulation(args, events).relays(RELAYS - HOSTILE).copies(2).start().await?);
    let folder = tempfile::Builder::new().prefix("relayer-soak-").tempdir()?;
    let mut soak = Soak::start(args, &sim, folder.path(), events).await?;
    let quiet_folder = folder.path().join("quiet");
    std::fs::create_dir(&quiet_folder)?;
    let mut quiet = Program::start(program(args)?, (&quiet_folder, &quiet_folder), &calm.urls(), &[]).await?;
    let watch = Watch::start(&sim, &soak.events_url()).await?;
    let quiet_watch = Watch::start(&calm, &format!("ws://{}/ws?cursor=0", quiet.address)).await?;
    soak.until_honest_are_live().await?;
    let attackers = Attackers::start(soak.program.address, soak.program.metrics);
    sim.go();
    calm.go();
    let ended = async {
        soak.run(length, &schedule(args), &watch, &attackers, &quiet).await?;
        soak.settle(&watch, &quiet_watch).await;
        soak.program.stop().await?;
        quiet.stop().await
    };
    let ended = ended.await;
    println!("What the hostile relays did: {}", serde_json::to_string(&hostile_figures(&sim))?);
    let passed = verdict::print(&soak.seen, &watch, &quiet_watch, &attackers, &ended);
    if !passed {
        let kept = std::env::temp_dir().join("relayer-soak.log");
        std::fs::copy(soak.log_folder().join("gateway.log"), &kept)?;
        println!("The gateway's log is in {}", kept.display());
    }
    Ok(passed)
}

fn simulation(args: &Args, events: usize) -> SimBuilder {
    Sim::builder().seed(args.seed).events(events).per_second(args.rate).hold()
}

fn hostile_simulation(args: &Args, events: usize) -> SimBuilder {
    let hostile = Who::These((0..HOSTILE).collect());
    let sim = simulation(args, events).relays(RELAYS).copies(COPIES).forge(0.2).forgers(hostile.clone());
    // Honest relays, too, carry malformed events that their authors signed.
    let honest = Who::These((HOSTILE..RELAYS).collect());
    let sim = [Fault::Poison, Fault::Oversized]
        .into_iter()
        .fold(sim, |sim, fault| sim.fault(fault, honest.clone(), FAULT_CHANCE));
    let sim = with_endings(sim);
    Fault::all().into_iter().fold(sim, |sim, fault| {
        let chance = if fault.is_per_connection() { CONNECTION_FAULT_CHANCE } else { FAULT_CHANCE };
        sim.fault(fault, hostile.clone(), chance)
    })
}

/// Makes hostile relays end subscriptions. Each relay has a different combination of position and
/// reason.
fn with_endings(sim: SimBuilder) -> SimBuilder {
    use EndingPlace::{AtFirstEvent, BeforeEose, BehindEose, InsteadOfEose};
    let reasons = ["error: it is over", "rate-limited: one at a time"];
    let places = [InsteadOfEose, BeforeEose, BehindEose, AtFirstEvent];
    let kinds = places.into_iter().flat_map(|place| reasons.map(|reason| (place, reason)));
    kinds.zip(0..HOSTILE).fold(sim, |sim, ((place, reason), relay)| {
        sim.endings(Who::These(vec![relay]), Ending::times(ENDINGS, place, reason))
    })
}

/// The total counts of all hostile relays.
fn hostile_figures(sim: &Sim) -> Figures {
    let stats = sim.stats();
    stats.relays.iter().take(HOSTILE).fold(Figures::default(), |mut sum, figures| {
        sum += figures;
        sum
    })
}

/// The schedule of disturbances; each time is a share of the soak's duration.
fn schedule(args: &Args) -> Vec<(f64, Disturbance)> {
    let kills = (0..args.kills).map(|kill| ((kill as f64 + 0.5) / args.kills as f64, Disturbance::Kill));
    // If the clock were further behind, the program would refuse events as dated too far ahead
    // (`max_future_secs`).
    let clock = [(0.2, 3_600), (0.4, -600), (0.6, 0)];
    let clock = clock.map(|(at, secs)| (at, Disturbance::Clock(secs)));
    let disks = [(0.3, Disturbance::LogDiskFull), (0.7, Disturbance::DataDiskFull)];
    let disks = disks.into_iter().filter(|_| !args.no_mounts);
    let mut schedule: Vec<_> = kills.chain(clock).chain(disks).collect();
    schedule.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    schedule
}

fn program(args: &Args) -> Outcome<PathBuf> {
    if let Some(program) = &args.program {
        return Ok(program.clone());
    }
    let this = std::env::current_exe()?;
    let beside =
        this.parent().and_then(|examples| examples.parent()).context("this example has no folder")?;
    Ok(beside.join("moltrade-relayer"))
}

/// The disturbed program and its environment.
struct Soak {
    program: Program,
    clock: Clock,
    honest: Vec<String>,
    disks: Option<[Disk; 2]>,
    folder: PathBuf,
    seen: Seen,
    began: Instant,
    length: Duration,
}

impl Soak {
    async fn start(args: &Args, sim: &Sim, folder: &std::path::Path, events: usize) -> Outcome<Self> {
        let [log, data] = ["log", "data"].map(|name| folder.join(name));
        let mebibytes = DATA_MEBIBYTES + ((events as u64 * BYTES_AN_EVENT) >> 20);
        let disks = match args.no_mounts {
            true => None,
            false => Some([Disk::mount(&log, LOG_MEBIBYTES)?, Disk::mount(&data, mebibytes)?]),
        };
        std::fs::create_dir_all(&log)?;
        std::fs::create_dir_all(&data)?;
        let clock = Clock::build(folder)?;
        let environment = clock.environment();
        let program = Program::start(program(args)?, (&data, &log), &sim.urls(), &environment).await?;
        let honest = (HOSTILE..RELAYS).map(|relay| sim.url(relay)).collect();
        Ok(Self {
            program,
            clock,
            honest,
            disks,
            folder: folder.to_owned(),
            seen: Seen::default(),
            began: Instant::now(),
            length: Duration::ZERO,
        })
    }

    fn events_url(&self) -> String {
        format!("ws://{}/ws?cursor=0", self.program.address)
    }

    fn log_folder(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Disturbs the program as scheduled, and checks it once a second.
    async fn run(
        &mut self,
        length: Duration,
        schedule: &[(f64, Disturbance)],
        watch: &Watch,
        attackers: &Attackers,
        quiet: &Program,
    ) -> Outcome<()> {
        (self.began, self.length) = (Instant::now(), length);
        let mut schedule = schedule.iter().peekable();
        let mut told = Instant::now();
        while self.began.elapsed() < length {
            if let Some((_, disturbance)) = schedule.next_if(|(at, _)| self.share() >= *at) {
                println!("{:>6.0} s  {disturbance:?}", self.began.elapsed().as_secs_f64());
                self.disturb(*disturbance).await.with_context(|| format!("{disturbance:?}"))?;
            }
            self.look().await?;
            let resident = quiet.resident_bytes().context("the quiet gateway has exited")?;
            self.seen.quiet_memory.push((self.share(), resident));
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                let resident = self.seen.memory.last().map_or(0, |(_, bytes)| bytes >> 20);
                println!(
                    "{:>6.0} s  {} events delivered, {resident} MiB; attackers: {}",
                    self.began.elapsed().as_secs_f64(),
                    watch.deliveries(),
                    attackers.figures()
                );
            }
            sleep(Duration::from_secs(1).min(length / 100)).await;
        }
        Ok(())
    }

    /// The elapsed share of the soak.
    fn share(&self) -> f64 {
        self.began.elapsed().as_secs_f64() / self.length.as_secs_f64()
    }

    async fn look(&mut self) -> Outcome<Value> {
        let resident = self.program.resident_bytes().context("the gateway has exited")?;
        self.seen.memory.push((self.share(), resident));
        let status = self.program.status().await?;
        let quarantined = connections(&status).filter(|(_, state)| *state == "quarantined");
        let honest = quarantined.filter(|(url, _)| self.honest.iter().any(|honest| is_same(honest, url)));
        self.seen.quarantined.extend(honest.map(|(url, _)| url.to_owned()));
        Ok(status)
    }

    async fn disturb(&mut self, disturbance: Disturbance) -> Outcome<()> {
        let from = now_us();
        match disturbance {
            Disturbance::Kill => {
                self.program.kill()?;
                self.program.go_on().await?;
                self.seen.kills += 1;
                self.until_honest_are_live().await?;
            }
            Disturbance::Clock(secs) => {
                let before = steps(&self.look().await?);
                self.clock.set_offset(secs)?;
                self.seen.steps.0 += 1;
                let seen = timeout(RECOVERY_MAX, async {
                    while steps(&self.look().await?) <= before {
                        sleep(Duration::from_millis(100)).await;
                    }
                    Outcome::Ok(())
                });
                if let Ok(seen) = seen.await {
                    seen?;
                    self.seen.steps.1 += 1;
                }
                return Ok(()); // A step must not delay events, so the latencies during it count.
            }
            Disturbance::LogDiskFull => self.fill_disk("the log's", 0).await?,
            Disturbance::DataDiskFull => {
                self.fill_disk("the data's", 1).await?;
                self.until_honest_are_live().await?;
            }
        }
        sleep(AFTERMATH).await;
        self.seen.disturbed.push((from, now_us()));
        Ok(())
    }

    /// Keeps a disk full for a thirtieth of the soak.
    async fn fill_disk(&mut self, name: &'static str, number: usize) -> Outcome<()> {
        let until = Instant::now() + self.length / 30;
        let disk = |soak: &Self| soak.disks.as_ref().and_then(|disks| disks.get(number).map(Disk::filler));
        let filler = disk(self).context("there are no disks of our own")?;
        disk::fill(&filler)?;
        while Instant::now() < until {
            self.look().await?;
            sleep(Duration::from_millis(200)).await;
        }
        std::fs::remove_file(filler)?;
        self.seen.disks.push(name);
        Ok(())
    }

    /// Waits until all honest relays are connected.
    async fn until_honest_are_live(&mut self) -> Outcome<()> {
        let all = self.honest.len();
        let waiting = async {
            loop {
                let status = self.look().await?;
                let live = connections(&status).filter(|(_, state)| matches!(*state, "live" | "backfilling"));
                let live = live.filter(|(url, _)| self.honest.iter().any(|honest| is_same(honest, url)));
                if live.count() == all {
                    return Ok(());
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(RECOVERY_MAX, waiting).await.context("not all honest relays are live")?
    }

    /// Waits until the clients of both programs have all events.
    async fn settle(&mut self, watch: &Watch, quiet: &Watch) {
        let settled = timeout(SETTLING_MAX, async {
            while !(watch.is_complete() && quiet.is_complete()) {
                sleep(Duration::from_millis(100)).await;
            }
        });
        if settled.await.is_err() {
            println!("Gave up waiting; the verdict shows what is missing.");
        }
    }
}

/// The relays in `/status`, each with its state.
fn connections(status: &Value) -> impl Iterator<Item = (&str, &str)> {
    let connections = status.get("connections").and_then(Value::as_array).into_iter().flatten();
    connections.filter_map(|seen| Some((seen.get("url")?.as_str()?, seen.get("status")?.as_str()?)))
}

/// The number of clock steps that the program has detected.
fn steps(status: &Value) -> u64 {
    status.pointer("/clock/steps").and_then(Value::as_u64).unwrap_or(0)
}

fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn now_us() -> u64 {
    let since =
        moltrade_relayer::clock::system_time().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
