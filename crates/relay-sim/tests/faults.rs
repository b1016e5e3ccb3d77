//! Each kind of misbehaviour happens, is counted, and is repeated with the same seed.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use relay_sim::{Count, Fault, Garbage, Sim, SimBuilder, Stats, Who};
use support::{Client, Seen, id};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::{Signer, UnverifiedEvent, Verifier};

const BASE: u64 = 1_700_000_000;

/// One relay with 50 stored events.
fn one() -> SimBuilder {
    Sim::builder().seed(7).relays(1).events(50).copies(1).stored(1.0).base(BASE)
}

/// Reads up to EOSE or the end of the connection, from a relay that has this fault at every event.
async fn seen(fault: Fault) -> (Vec<Seen>, Stats) {
    let sim = one().fault(fault, Who::All, 1.0).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(Seen::Eose | Seen::Gone(_))) {
        seen.push(client.next().await);
    }
    (seen, sim.stop().await)
}

/// Reads a raw socket until the connection ends or nothing arrives for a moment.
async fn raw(sim: &Sim) -> (Vec<u8>, bool) {
    let mut socket = TcpStream::connect(sim.address()).await.expect("connected");
    let request = "GET /r/0 HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("sent");
    // A masked frame whose mask is zero.
    let req = br#"["REQ","s",{}]"#;
    socket.write_all(&[&[0x81, 0x80 | req.len() as u8, 0, 0, 0, 0], &req[..]].concat()).await.expect("sent");
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match timeout(Duration::from_secs(1), socket.read(&mut buffer)).await {
            Err(_) => return (bytes, false),
            Ok(Ok(0) | Err(_)) => return (bytes, true),
            Ok(Ok(length)) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

fn events(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Event(event) if event.starts_with('{'))).count()
}

#[tokio::test]
async fn garbage_stands_between_genuine_frames() {
    for garbage in [
        Garbage::InvalidJson,
        Garbage::Binary,
        Garbage::HugeString,
        Garbage::DeepNesting,
        Garbage::WrongSubscription,
        Garbage::UnknownType,
    ] {
        let (seen, stats) = seen(Fault::Garbage(garbage)).await;
        assert_eq!((events(&seen), seen.len()), (50, 101), "{garbage:?}");
        assert_eq!((stats.get(garbage.into()), stats.total.garbage()), (50, 50));
        let is_it = |seen: &Seen| match (garbage, seen) {
            (Garbage::Binary, Seen::Binary(_)) => true,
            (Garbage::InvalidJson, Seen::Text(text)) => {
                serde_json::from_str::<serde_json::Value>(text).is_err()
            }
            (Garbage::HugeString, Seen::Event(text)) => text.len() > 1 << 20,
            (Garbage::DeepNesting, Seen::Text(text)) => {
                text.bytes().all(|byte| byte == b'[') && text.len() == 50_000
            }
            (Garbage::WrongSubscription, Seen::Text(text)) => text.starts_with(r#"["EVENT","nobody"#),
            (Garbage::UnknownType, Seen::Text(text)) => !text.starts_with(r#"["EVENT""#),
            _ => false,
        };
        assert_eq!(seen.iter().filter(|seen| is_it(seen)).count(), 50, "{garbage:?}");
    }
}

#[tokio::test]
async fn text_that_is_no_utf8_reaches_the_client() {
    let (seen, stats) = seen(Fault::Garbage(Garbage::InvalidUtf8)).await;
    assert!(matches!(&seen[..], [Seen::Gone(reason)] if reason.to_lowercase().contains("utf")), "{seen:?}");
    assert!(stats.get(Count::InvalidUtf8) > 0);
}

#[tokio::test]
async fn truncated_frames_end_or_hang() {
    for (garbage, ends) in [(Garbage::TruncatedDrop, true), (Garbage::TruncatedStall, false)] {
        let sim = one().fault(Fault::Garbage(garbage), Who::All, 1.0).start().await.expect("started");
        let (bytes, ended) = raw(&sim).await;
        assert_eq!(ended, ends, "{garbage:?}");
        let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer") + 4;
        let frame = &bytes[head..];
        let announced = match frame[1] {
            126 => 4 + usize::from(u16::from_be_bytes([frame[2], frame[3]])),
            length => 2 + usize::from(length),
        };
        assert!(frame.len() < announced, "{garbage:?}: {} of {announced}", frame.len());
        assert_eq!(sim.stats().get(garbage.into()), 1);
    }
}

#[tokio::test]
async fn lawful_oddities_lose_nothing() {
    for (fault, count, messages) in [
        (Fault::Notice, Count::Notices, 101),
        (Fault::Ping, Count::Control, 51),
        (Fault::Fragment, Count::Fragmented, 51),
        (Fault::Repeat, Count::Repeated, 101),
        (Fault::Stall(Duration::from_millis(1)), Count::Stalls, 51),
    ] {
        let (seen, stats) = seen(fault).await;
        assert_eq!(seen.len(), messages, "{fault:?}");
        let ids: HashSet<_> = seen
            .iter()
            .filter_map(|seen| if let Seen::Event(event) = seen { Some(id(event)) } else { None })
            .collect();
        assert_eq!(ids.len(), 50, "{fault:?}");
        assert!(stats.get(count) >= 50, "{fault:?}");
    }
}

#[tokio::test]
async fn slow_drip_sends_every_byte_in_the_end() {
    let fault = Fault::Drip(Duration::from_micros(1));
    let sim = Sim::builder().relays(1).events(1).kinds([1]).copies(1).fault(fault, Who::All, 1.0);
    let sim = sim.start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    assert!(matches!(client.take(2).await[..], [Seen::Eose, Seen::Event(_)]));
    assert_eq!(sim.stats().get(Count::Drips), 1);
}

#[tokio::test]
async fn drops_and_half_open_connections_keep_the_rest_for_later() {
    for (fault, count) in [(Fault::Drop, Count::Drops), (Fault::HalfOpen, Count::HalfOpen)] {
        let sim =
            Sim::builder().seed(7).relays(1).events(300).copies(1).base(BASE).fault(fault, Who::All, 0.005);
        let sim = sim.start().await.expect("started");
        let mut ids = HashSet::new();
        let mut connections = 0;
        while ids.len() < 300 {
            connections += 1;
            assert!(connections < 1000, "{fault:?}: no progress");
            let mut client = Client::subscribe(&sim.url(0)).await;
            loop {
                match client.next_or_silence().await {
                    Some(Seen::Event(event)) => _ = ids.insert(id(&event)),
                    Some(Seen::Eose) => {}
                    Some(Seen::Gone(_)) | None => break,
                    Some(other) => panic!("{other:?}"),
                }
                if ids.len() == 300 {
                    break;
                }
            }
        }
        assert!(sim.stats().get(count) > 0, "{fault:?}");
    }
}

#[tokio::test]
async fn closed_ends_a_subscription_and_nothing_is_lost() {
    let sim = one().fault(Fault::Closed, Who::All, 0.05).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    let mut ids = HashSet::new();
    loop {
        match client.next().await {
            Seen::Event(event) => _ = ids.insert(id(&event)),
            Seen::Text(text) => {
                assert!(text.starts_with(r#"["CLOSED","s","error:"#), "{text}");
                client.say(r#"["REQ","s",{}]"#).await;
            }
            Seen::Eose => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ids.len(), 50);
    assert!(sim.stats().get(Count::Closed) > 0);
}

#[tokio::test]
async fn refusals_refuse() {
    for (fault, reason) in [(Fault::Refuse, ""), (Fault::RefuseUpgrade, "503")] {
        let sim = one().fault(fault, Who::All, 1.0).start().await.expect("started");
        let error = Client::try_connect(&sim.url(0)).await.err().expect("refused").to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!((sim.stats().get(Count::Refused), sim.stats().get(Count::Upgrades)), (1, 0));
    }
}

#[tokio::test]
async fn forged_copies_stand_before_and_after_genuine_ones() {
    let sim = Sim::builder().seed(7).relays(8).events(200).copies(4).forge(0.5).base(BASE).stored(0.5);
    let sim = sim.start().await.expect("started");
    let mut verifier = Verifier::new();
    let (mut forged, mut genuine, mut before, mut after) = (0, 0, 0, 0);
    for (number, url) in sim.urls().iter().enumerate() {
        let mut client = Client::subscribe(url).await;
        let mut order: HashMap<String, Vec<bool>> = HashMap::new();
        let entries = sim.events_on(&[number]).len();
        let mut of_this = 0;
        while of_this < entries {
            let Seen::Event(text) = client.next().await else { continue };
            let event = UnverifiedEvent::parse(text.as_bytes()).expect("well-formed");
            let is_genuine = verifier.verify(&event).is_ok();
            of_this += usize::from(is_genuine);
            order.entry(event.id.to_string()).or_default().push(is_genuine);
        }
        genuine += of_this;
        forged += order.values().flatten().filter(|genuine| !**genuine).count();
        before += order.values().filter(|order| order.windows(2).any(|w| w == [false, true])).count();
        after += order.values().filter(|order| order.windows(2).any(|w| w == [true, false])).count();
    }
    assert_eq!(genuine, 800);
    assert!(before >= 90 && after > 0 && forged >= before + after, "{before} {after} {forged}");
    let stats = sim.stop().await;
    assert_eq!(stats.get(Count::Genuine), 800);
    assert!(stats.get(Count::Forged) >= forged as u64);
}

#[tokio::test]
async fn a_seed_gives_the_same_misbehaviour() {
    let bytes = async |seed: u64| {
        let who = Who::Share(0.5);
        let sim = Sim::builder().seed(seed).relays(4).events(200).copies(2).stored(1.0).base(BASE).forge(0.2);
        let sim =
            sim.garbage(&who, 0.005).fault(Fault::Notice, who.clone(), 0.1).start().await.expect("started");
        let (bytes, _) = raw(&sim).await;
        (bytes, sim.clean_relays(), sim.stats().relays[0])
    };
    let (first, again) = (bytes(7).await, bytes(7).await);
    assert!(first == again, "{:?} {:?}", first.2, again.2);
    assert_eq!(first.1.len(), 2);
    assert!(bytes(8).await.0 != first.0);
}

#[tokio::test]
async fn lines_of_files_are_served_word_by_word() {
    let genuine = Signer::from_seed(5).sign(BASE, 1, &[vec!["t".to_owned()]], "ü");
    let genuine = String::from_utf8(genuine.json().to_vec()).expect("UTF-8");
    let spaced = genuine.replacen('{', "{ \"extra\" : 1 , ", 1);
    let broken = r#"{"id":"x","kind":"y"}"#;
    let lines = format!("{spaced}\n\n{{\"reason\": \"bad id\", \"event\": {broken}}}\n");
    let path = std::env::temp_dir().join(format!("relay-sim-test-{}.jsonl", std::process::id()));
    std::fs::write(&path, lines).expect("written");
    let sim = Sim::builder().relays(2).copies(2).stored(1.0).file(&path).start().await.expect("started");
    std::fs::remove_file(&path).expect("removed");
    let mut client = Client::subscribe(&sim.url(1)).await;
    let mut texts = client.stored().await;
    texts.sort();
    let mut expected = [spaced, broken.to_owned()];
    expected.sort();
    assert_eq!(texts, expected);
    let stats = sim.stats();
    assert_eq!((stats.get(Count::Genuine), stats.get(Count::Invalid)), (1, 1));
    assert_eq!((sim.events().len(), sim.invalid()), (1, vec![broken.into()]));
}
