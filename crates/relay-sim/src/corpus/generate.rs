//! Generates signed events from a seed: a few hundred authors, mixed kinds, sizes and texts.

use std::sync::atomic::{AtomicUsize, Ordering};

use wire::{Signer, VerifiedEvent};

use crate::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// Mostly 400 to 700 bytes an event, some nearly empty, one in a hundred up to 40 KiB.
    Mixed,
    /// Every event's JSON has exactly this many bytes (at least 400), without tags and escapes: for
    /// benches.
    Exactly(usize),
}

/// Creates numbered events, in any order and on any thread.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    sizes: Sizes,
    kinds: Vec<u16>,
    authors: Vec<Signer>,
}

/// Kinds and their frequencies, in percent.
const KINDS: [(u16, usize); 10] =
    [(1, 42), (7, 22), (0, 5), (3, 4), (6, 5), (1984, 2), (30931, 5), (30932, 5), (30933, 5), (30934, 5)];

/// Pieces of content that are difficult for parsers: escapes, control characters, other scripts,
/// text that looks like JSON or like an event.
const PIECES: [&str; 32] = [
    "the",
    "market",
    "opens",
    "at",
    "nine",
    "and",
    "nobody",
    "knows",
    "why",
    "relay",
    "long BTC/USDT",
    "0.25",
    "stop-loss",
    "take profit",
    "gm",
    "nostr:npub1xyz",
    "https://example.com/a?b=c&d=%20",
    "#trading",
    "日本語のテキスト",
    "привет",
    "مرحبا",
    "👩‍👩‍👧‍👦🚀",
    "ü\u{301}",
    "\n\n",
    "\t",
    "\"quoted\"",
    "back\\slash",
    "\u{1}\u{1f}\u{7f}",
    "\u{2028}\u{feff}",
    "</script>",
    r#"{"id":"00","kind":1,"tags":[["e","x"]]}"#,
    r#"["EVENT","s",{"id":"#,
];

/// Plain words for texts of an exact size.
const PLAIN: &str = "all is quiet on the wire and the order book holds its breath for now ";

impl Generator {
    /// A generator with this many authors (at least one). An empty list of kinds means the usual
    /// mix.
    pub fn new(seed: u64, authors: usize, kinds: &[u16], sizes: Sizes) -> Self {
        let authors = (0..authors.max(1) as u64).map(|number| Signer::from_seed(number ^ (seed << 16)));
        Self { seed, sizes, kinds: kinds.to_vec(), authors: authors.collect() }
    }

    /// The authors' keys.
    pub fn authors(&self) -> impl Iterator<Item = wire::PublicKey> {
        self.authors.iter().map(|author| *author.pubkey())
    }

    /// The event with this number. `sent_us` adds the tag `["sent_us","<Unix microseconds>"]`.
    pub fn event(&self, number: usize, created_at: u64, sent_us: Option<u64>) -> VerifiedEvent {
        let rng = &mut Rng::new(&[self.seed, 0xE7E17, number as u64]);
        // The lesser of two draws, so that some authors write much and most write little.
        let author = rng.below(self.authors.len()).min(rng.below(self.authors.len()));
        let kind = self.kind(rng);
        let mut tags = match self.sizes {
            Sizes::Mixed => tags(rng, kind, number),
            Sizes::Exactly(_) => Vec::new(),
        };
        tags.extend(sent_us.map(|time| vec!["sent_us".to_owned(), time.to_string()]));
        let content = match self.sizes {
            Sizes::Mixed => content(rng),
            Sizes::Exactly(bytes) => plain_content(number, bytes, created_at, kind, &tags),
        };
        match self.authors.get(author) {
            Some(author) => author.sign(created_at, kind, &tags, &content),
            None => Signer::from_seed(self.seed).sign(created_at, kind, &tags, &content),
        }
    }

    fn kind(&self, rng: &mut Rng) -> u16 {
        if let Some(kind) = rng.pick(&self.kinds) {
            return *kind;
        }
        let mut place = rng.below(KINDS.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in KINDS {
            if place < weight {
                return kind;
            }
            place -= weight;
        }
        1
    }

    /// The events numbered from `first` with these dates, created by one thread for each core.
    pub fn events(&self, first: usize, created_at: &[u64]) -> Vec<VerifiedEvent> {
        const CHUNK: usize = 256;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut made = Vec::new();
            loop {
                let start = next.fetch_add(CHUNK, Ordering::Relaxed);
                let Some(times) = created_at.get(start..) else { return made };
                if times.is_empty() {
                    return made;
                }
                let chunk = times.iter().take(CHUNK).enumerate();
                let chunk = chunk.map(|(offset, time)| self.event(first + start + offset, *time, None));
                made.push((start, chunk.collect::<Vec<_>>()));
            }
        };
        let mut chunks: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        });
        chunks.sort_unstable_by_key(|(start, _)| *start);
        chunks.into_iter().flat_map(|(_, chunk)| chunk).collect()
    }
}

fn content(rng: &mut Rng) -> String {
    let bytes = match rng.below(100) {
        0..5 => rng.between(0, 10),
        5..85 => rng.between(60, 300),
        85..95 => rng.between(300, 1_000),
        95..99 => rng.between(1_000, 4_000),
        _ => rng.between(4_000, 40_000),
    };
    let mut content = String::with_capacity(bytes + 64);
    while content.len() < bytes {
        content.push_str(rng.pick(&PIECES).copied().unwrap_or_default());
        content.push(' ');
    }
    content
}

fn tags(rng: &mut Rng, kind: u16, number: usize) -> Vec<Vec<String>> {
    let mut tags = Vec::new();
    let mut tag = |name: &str, value: String| tags.push(vec![name.to_owned(), value]);
    if (30_000..40_000).contains(&kind) {
        tag("d", format!("signal-{number}"));
        tag("symbol", "BTC/USDT".to_owned());
    }
    for _ in 0..rng.below(3) {
        match rng.below(4) {
            0 => tag("t", rng.pick(&["nostr", "bitcoin", "trading", "日本"]).map_or("", |t| *t).to_owned()),
            1 => tag("r", "wss://relay.example/ \"x\"".to_owned()),
            other => {
                let name = if other == 2 { "e" } else { "p" };
                tag(name, (0..4).map(|_| format!("{:016x}", rng.bits())).collect());
            }
        }
    }
    tags
}

/// Words that fill the event's JSON up to exactly `bytes`, different for every number.
fn plain_content(number: usize, bytes: usize, created_at: u64, kind: u16, tags: &[Vec<String>]) -> String {
    let tags = serde_json::to_string(tags).unwrap_or_default().len();
    // Keys, quotes and commas of the seven fields, and the hex of id, key and signature.
    const FIXED: usize = 73 + 64 + 64 + 128;
    let around = FIXED + tags + created_at.to_string().len() + kind.to_string().len();
    let length = bytes.saturating_sub(around);
    let mut content = format!("{number} ");
    while content.len() < length {
        content.push_str(PLAIN);
    }
    content.truncate(length);
    content
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_events_on_any_number_of_threads() {
        let generator = |seed| Generator::new(seed, 20, &[], Sizes::Mixed);
        let times = vec![1_700_000_000; 600];
        let events = generator(7).events(0, &times);
        assert_eq!(events.len(), 600);
        assert_eq!(events, generator(7).events(0, &times));
        assert_eq!(events.get(555), Some(&generator(7).event(555, 1_700_000_000, None)));
        assert!(generator(8).events(0, &times).iter().all(|event| !events.contains(event)));
        let ids: HashSet<_> = events.iter().map(VerifiedEvent::id).collect();
        assert_eq!(ids.len(), 600, "an event occurs twice");
        let kinds: HashSet<_> = events.iter().map(VerifiedEvent::kind).collect();
        assert!([0, 1, 3, 7, 30931, 30934].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    }

    #[test]
    fn sizes_are_typical_or_exact() {
        let times = vec![1_700_000_000; 600];
        let mut sizes: Vec<_> = Generator::new(7, 20, &[], Sizes::Mixed)
            .events(0, &times)
            .iter()
            .map(|e| e.json().len())
            .collect();
        sizes.sort_unstable();
        assert!((450..750).contains(&sizes[300]), "{sizes:?}");
        assert!(sizes[0] < 450 && sizes[599] > 4_000, "{sizes:?}");
        let exact = Generator::new(7, 3, &[1, 30931], Sizes::Exactly(600));
        assert!((0..200).all(|number| exact.event(number, 1_700_000_000, None).json().len() == 600));
        assert_eq!(exact.event(1, 1_700_000_000, Some(1_700_000_000_000_000)).json().len(), 600);
    }
}
