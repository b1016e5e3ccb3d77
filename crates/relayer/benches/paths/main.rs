//! Whole paths, each printed beside its limit from the same run: `make bench`.
//!
//! This process is the gateway and only the gateway: relays, clients and readers live in a child process
//! (this same program, told what to play), so that CPU time measured here is the gateway's alone.
//! Figures are CPU time and ratios, because wall-clock time on a shared machine says little.

mod cpu;
mod duplicate;
mod gateway;
mod player;

use std::process::ExitCode;

type Outcome = Result<(), Box<dyn std::error::Error>>;

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

/// Runs the paths whose names contain one of the arguments; without arguments all of them.
fn run(arguments: &[String]) -> Outcome {
    type Path = (&'static str, fn() -> Outcome);
    let paths: [Path; 1] = [("duplicate", duplicate::run)];
    for (name, path) in paths {
        if arguments.is_empty() || arguments.iter().any(|argument| name.contains(argument.as_str())) {
            println!("\n== {name}");
            path()?;
        }
    }
    Ok(())
}
