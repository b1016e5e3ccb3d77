//! Measures whole paths and prints each with its baseline from the same run: `make bench`.
//!
//! This process contains only the gateway. Relays, clients and readers run in child processes of
//! the same program, so that the CPU time measured here is the gateway's alone. Figures are CPU
//! times and ratios, because wall-clock time on a shared machine says little.

mod audience;
mod bare;
mod catch_up;
mod clients;
mod cpu;
mod crowd;
mod duplicate;
mod figures;
mod floods;
mod followers;
mod gateway;
mod ids;
mod latency;
mod memory;
mod new_event;
mod player;
mod pool;
mod pooled;
mod receiver;
mod registry;
mod repair;
mod sinks;
mod stock;
mod traffic;
mod websocket;

use std::error::Error;
use std::process::ExitCode;

use figures::Figure;

type Fallible<T> = Result<T, Box<dyn Error>>;
type Outcome = Fallible<Vec<Figure>>;
type Path = fn() -> Outcome;

/// The paths. The memory path comes first, because later it could reuse memory that other paths
/// have freed.
const PATHS: [(&str, Path); 13] = [
    ("memory", memory::run),
    ("duplicate", duplicate::run),
    ("new-event", new_event::run),
    ("floods", floods::run),
    ("latency", latency::run),
    ("websocket", websocket::run),
    ("ids", ids::run),
    ("pool", pool::run),
    ("repair", repair::run),
    ("sinks", sinks::run),
    ("catch-up", catch_up::run),
    ("followers", followers::run),
    ("registry", registry::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.split_first() {
        Some((role, arguments)) if role == player::ROLE => player::play(arguments),
        _ => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The paths that run only if an argument is their full name: `cargo bench -p moltrade-relayer
/// --bench paths -- tls-10000`.
const LONG_PATHS: [(&str, Path); 2] = [("tls-10000", pool::run_tls), ("clients-10000", clients::run)];

/// Runs the paths whose names contain one of the arguments, or all paths except the long ones if
/// there are no arguments.
fn run(arguments: &[String]) -> Fallible<()> {
    gateway::allow_many_sockets()?;
    let mut figures = Vec::new();
    for (name, path) in PATHS {
        if arguments.is_empty() || arguments.iter().any(|argument| name.contains(argument.as_str())) {
            println!("\n== {name}");
            figures.extend(path()?);
        }
    }
    for (name, path) in LONG_PATHS {
        if arguments.iter().any(|argument| argument == name) {
            println!("\n== {name}");
            figures.extend(path()?);
        }
    }
    figures::print(&figures);
    Ok(())
}
