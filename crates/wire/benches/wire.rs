//! The cost of one frame at each step, compared with the lower bound of any gateway: the bare
//! signature check. Run with `cargo bench -p relayer-wire`; the end of the output has the ratio to
//! the bound.

#![allow(missing_docs, reason = "criterion_group! generates public functions")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group};
use secp256k1::{Secp256k1, XOnlyPublicKey, schnorr};
use serde_json::Value;
use wire::{Filter, Scan, Signer, UnverifiedEvent, VerifiedEvent, Verifier, scan};

/// An event whose `EVENT` frame with canonical JSON has about this many bytes.
fn event(author: u64, frame_bytes: usize) -> VerifiedEvent {
    let signer = Signer::from_seed(author);
    let [parent, mentioned] = [1, 2].map(|seed| Signer::from_seed(seed).pubkey().to_string());
    let tags = [vec!["e", &parent, "", "reply"], vec!["p", &mentioned], vec!["t", "nostr"]];
    let content = "It is a truth universally acknowledged, that events have content.\n";
    let bare = signer.sign(1_700_000_000, 1, &tags, "").json().len() + r#"["EVENT","sub",]"#.len();
    let content: String = content.chars().cycle().take(frame_bytes.saturating_sub(bare + 3)).collect();
    signer.sign(1_700_000_000, 1, &tags, &content)
}

/// The event's frame, with the event's members in this order.
fn frame(event: &VerifiedEvent, order: [&str; 7]) -> String {
    let value: Value = serde_json::from_slice(event.json()).unwrap();
    let members = order.map(|name| format!("\"{name}\":{}", value[name]));
    format!(r#"["EVENT","sub",{{{}}}]"#, members.join(","))
}

const ID_FIRST: [&str; 7] = ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"];
/// The order in which strfry writes members.
const ALPHABETICAL: [&str; 7] = ["content", "created_at", "id", "kind", "pubkey", "sig", "tags"];
const ID_LAST: [&str; 7] = ["pubkey", "created_at", "kind", "tags", "content", "sig", "id"];

fn frame_scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (size, bytes) in [("600 B", 600), ("100 kB", 100_000)] {
        for (name, order) in [("id first", ID_FIRST), ("alphabetical", ALPHABETICAL), ("id last", ID_LAST)] {
            let frame = frame(&event(1, bytes), order);
            assert!(matches!(scan(frame.as_bytes()), Scan::Event { .. }));
            group.throughput(Throughput::Bytes(frame.len() as u64));
            group.bench_function(format!("{size}, {name}"), |b| b.iter(|| scan(black_box(frame.as_bytes()))));
        }
    }
}

/// The event type that most code would start with.
#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct OwnedEvent {
    id: String,
    pubkey: String,
    created_at: u64,
    kind: u16,
    tags: Vec<Vec<String>>,
    content: String,
    sig: String,
}

/// 500 tags, as in contact lists.
fn contact_list() -> VerifiedEvent {
    let tags: Vec<_> =
        (0..500).map(|seed| ["p".to_owned(), Signer::from_seed(seed).pubkey().to_string()]).collect();
    Signer::from_seed(1).sign(1_700_000_000, 3, &tags, "")
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, event) in [("600 B", event(1, 600)), ("500 tags", contact_list())] {
        let json = event.json();
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(format!("{name}, UnverifiedEvent"), |b| {
            b.iter(|| UnverifiedEvent::parse(black_box(json)).unwrap())
        });
        group.bench_function(format!("{name}, owned strings"), |b| {
            b.iter(|| serde_json::from_slice::<OwnedEvent>(black_box(json)).unwrap())
        });
        group.bench_function(format!("{name}, serde_json::Value"), |b| {
            b.iter(|| serde_json::from_slice::<Value>(black_box(json)).unwrap())
        });
        group.bench_function(format!("{name}, from_canonical"), |b| {
            b.iter(|| VerifiedEvent::from_canonical(black_box(json).clone()).unwrap())
        });
    }
}

fn verify(c: &mut Criterion) {
    let events: Vec<_> = (0..20_000).map(|author| event(author, 600)).collect();
    let parsed: Vec<_> = events.iter().map(|event| UnverifiedEvent::parse(event.json()).unwrap()).collect();
    let mut group = c.benchmark_group("verify");
    group.bench_function("bare secp256k1, key parsed", |b| {
        let bare = Bare::new(&parsed[0]);
        b.iter(|| bare.verify());
    });
    let mut verifier = Verifier::new();
    group.bench_function("known author", |b| b.iter(|| verifier.verify(black_box(&parsed[0])).unwrap()));
    let mut next = parsed.iter().cycle();
    group.bench_function("new author", |b| b.iter(|| verifier.verify(next.next().unwrap()).unwrap()));
    // A wrong id is found before the signature is checked, so this benchmark measures only hashing
    // and serialisation.
    let mut forged = parsed[0].clone();
    forged.id = parsed[1].id;
    group.bench_function("wrong id: serialise and hash", |b| {
        b.iter(|| verifier.verify(black_box(&forged)).unwrap_err())
    });
}

/// The lower bound: the time of libsecp256k1 alone.
struct Bare {
    secp: Secp256k1<secp256k1::VerifyOnly>,
    key: XOnlyPublicKey,
    id: [u8; 32],
    sig: schnorr::Signature,
}

impl Bare {
    fn new(event: &UnverifiedEvent<'_>) -> Self {
        Self {
            secp: Secp256k1::verification_only(),
            key: XOnlyPublicKey::from_slice(event.pubkey.as_bytes()).unwrap(),
            id: *event.id.as_bytes(),
            sig: schnorr::Signature::from_byte_array(*event.sig.as_bytes()),
        }
    }

    fn verify(&self) {
        self.secp.verify_schnorr(black_box(&self.sig), black_box(&self.id), &self.key).unwrap();
    }
}

fn filter(c: &mut Criterion) {
    let author = Signer::from_seed(1);
    let mut group = c.benchmark_group("filter match");
    let filters = [
        ("kinds and author", format!(r#"{{"kinds":[1,6,7],"authors":["{}"]}}"#, author.pubkey())),
        ("tag", r##"{"#t":["nostr"]}"##.to_owned()),
    ];
    for (name, filter) in filters {
        let filter = Filter::parse(&filter).unwrap();
        for (size, bytes) in [("600 B", 600), ("100 kB", 100_000)] {
            let event = event(1, bytes);
            assert!(filter.matches(&event));
            group.bench_function(format!("{name}, {size}"), |b| b.iter(|| filter.matches(black_box(&event))));
        }
    }
}

/// Compares all processing of a new frame with the bare signature check. Measures the two
/// alternately, so that the state of the machine affects both equally.
fn ratio() {
    const ROUNDS: u32 = 40;
    const PER_ROUND: u32 = 500;
    let event = event(1, 600);
    let frame = frame(&event, ALPHABETICAL);
    let bare = Bare::new(&UnverifiedEvent::parse(event.json()).unwrap());
    let mut verifier = Verifier::new();
    let mut whole_path = || {
        let Scan::Event { event, .. } = scan(black_box(frame.as_bytes())) else { panic!("not scanned") };
        let event = UnverifiedEvent::parse(event).unwrap();
        black_box(verifier.verify(&event).unwrap());
    };
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..PER_ROUND).for_each(|_| work());
        start.elapsed() / PER_ROUND
    };
    let (mut path, mut limit) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        path = path.min(time(&mut whole_path));
        limit = limit.min(time(&mut || bare.verify()));
    }
    let ratio = path.as_secs_f64() / limit.as_secs_f64();
    println!("scan + parse + verify, 600 B, known author: {path:?}");
    println!("bare signature check:                       {limit:?}");
    println!("ratio:                                      {ratio:.3}");
}

criterion_group!(benches, frame_scan, parse, verify, filter);

fn main() {
    benches();
    ratio();
    Criterion::default().configure_from_args().final_summary();
}
