//! `relay-sim relays` as a program: its options create the same relays as the library.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use support::Client;

struct Relays(Child);

impl Drop for Relays {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("killed");
    }
}

/// Starts relays with these options, and returns them with the first two URLs.
fn relays(options: &str) -> (Relays, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-sim"));
    command.args(["relays", "--quiet", "--print-urls"]).args(options.split_whitespace());
    let mut program = Relays(command.stdout(Stdio::piped()).spawn().expect("started"));
    let lines = BufReader::new(program.0.stdout.take().expect("piped")).lines();
    let urls = lines.take(2).map(|line| line.expect("text")).collect();
    (program, urls)
}

#[tokio::test]
async fn options_give_relays_their_behaviour() {
    let (_program, urls) = relays(
        "--relays 2 --events 100 --copies 2 --stored 1 --seed 7 --cap 50 --cap refuse=50:0.5 \
         --max-filters 1 --rate-limit 3/3600 --burst 0:900:200 --base 1700000000",
    );
    let mut refusals = Vec::new();
    for url in &urls {
        let mut client = Client::connect(url).await;
        refusals.push(client.ask("{}").await.map(|events| events.len()));
        assert_eq!(client.ask(r#"{"limit":50}"#).await.map(|events| events.len()), Ok(50));
        assert_eq!(client.ask("{},{}").await, Err("invalid: too many filters".to_owned()));
        assert_eq!(client.ask("{}").await, Err("rate-limited: slow down".to_owned()));
    }
    refusals.sort();
    assert_eq!(refusals, [Ok(50), Err("invalid: limit must be at most 50".to_owned())]);
}

#[test]
fn a_gateway_elsewhere_gets_the_authority_in_a_file() {
    let path = std::env::temp_dir().join(format!("relay-sim-test-{}.pem", std::process::id()));
    let options =
        format!("--relays 2 --events 1 --tls --certificate expired:0.5 --ca-file {}", path.display());
    let (_program, urls) = relays(&options);
    let pem = std::fs::read(&path).expect("written");
    std::fs::remove_file(&path).expect("removed");
    assert!(CertificateDer::from_pem_slice(&pem).is_ok());
    assert!(urls.iter().all(|url| url.starts_with("wss://127.0.0.1:")));
    let ports: Vec<_> = urls.iter().map(|url| url.split(['/', ':']).nth(4)).collect();
    assert_ne!(ports[0], ports[1]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for options in [
        "--cap 5:2",
        "--cap some=5",
        "--certificate expired",
        "--ca-file x",
        "--default-limit 5",
        "--rate-limit 5",
        "--late 0.5",
        "--relays 2 --burst 2:0:1",
        "--deaf 1.5",
        "--fault mut",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-sim"));
        let command = command.args(["relays", "--quiet", "--seconds", "0"]).args(options.split_whitespace());
        let status = command.stderr(Stdio::null()).stdout(Stdio::null()).status().expect("run");
        assert_eq!(status.code(), Some(2), "{options}");
    }
}
