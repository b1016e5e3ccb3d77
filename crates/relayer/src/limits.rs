//! Every limit that is not configured, in one place, each with its reason.
//!
//! What holds memory or waits is bounded by something here or in the configuration; what happens at the
//! bound is said beside it.

use std::time::Duration;

/// Bytes of candidate frames between the sockets and the commit. When they are used up, connections stop
/// reading, so that back-pressure reaches the relays. 32 MiB are about 50,000 ordinary events.
pub const INGEST_BYTES_MAX: usize = 32 << 20;

/// Candidates that may wait in one shard's inbox. The byte limit is met first unless frames are tiny.
pub const INBOX_CANDIDATES_MAX: usize = 8_192;

/// Bursts of verified events that may wait for the sequencer; a shard that finds it full waits.
pub const SEQUENCER_BURSTS_MAX: usize = 64;

/// What a frame may be longer than the largest admitted event: escapes and white space can double it.
pub const fn frame_bytes_max(event_bytes_max: usize) -> usize {
    2 * event_bytes_max + 4_096
}

/// Events that a reader takes from RocksDB at once, and their bytes: what one lagging consumer holds.
pub const READ_EVENTS_MAX: usize = 512;
/// See [`READ_EVENTS_MAX`].
pub const READ_BYTES_MAX: usize = 1 << 20;

/// Threads that wait for the disk, on behalf of lagging consumers and queries.
pub const BLOCKING_THREADS_MAX: usize = 64;

/// Events that one page of `/api/events` returns at most.
pub const PAGE_EVENTS_MAX: usize = 1_000;

/// About how many bytes of events one page of `/api/events` returns: a page is held in memory until its
/// client has taken it. One event always fits.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

/// Events that one page of `/api/events` looks at to find those that match.
pub const PAGE_SCAN_MAX: usize = 20_000;

/// Names that are looked up at once, each on a thread of its own that mostly sleeps. Ten thousand names
/// that take 100 ms each are known after 16 seconds; names that nobody answers for take a turn for as long
/// as the system's resolver insists.
pub const LOOKUPS_AT_ONCE_MAX: usize = 64;

/// Addresses of one relay that are tried. All of them have had their chance before
/// [`DIAL_STEP_TIMEOUT`], and a name with hundreds of addresses does not use up sockets.
pub const ADDRESSES_TRIED_MAX: usize = 6;

/// How long an address may keep silent before the next one is tried beside it: what RFC 8305, section 8,
/// recommends.
pub const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// DNS, TCP, TLS and WebSocket handshake of one relay, each.
pub const DIAL_STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Fetching a relay's NIP-11 document, from TCP to its last byte.
pub const INFORMATION_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest NIP-11 document: real ones have a few kilobytes.
pub const INFORMATION_BYTES_MAX: usize = 64 << 10;

/// How long a relay may take to accept the little that we send.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials and fetches of NIP-11 documents under way at once, from TCP on, so that a start with thousands of
/// relays does not time out on itself: all of them together need less than a second of CPU for TLS. It is
/// not smaller because some of them only wait: of ten thousand relays, those whose packets vanish, should
/// they be a third, take their turns of 10 s for a minute.
pub const DIALS_AT_ONCE_MAX: usize = 512;

/// The shortest and longest base of the back-off between two connections to one relay.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// See [`BACKOFF_MIN`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Events this long before the last contact are asked for again, because relays pass on late ones.
pub const OVERLAP: Duration = Duration::from_secs(120);

/// How long all of draining may take before the process exits anyway.
pub const DRAIN_MAX: Duration = Duration::from_secs(9);

/// How long reads that are under way may hold up the end of the process after draining.
pub const SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// How long relays may take to hear that we close. It is part of draining.
pub const GOODBYES_MAX: Duration = Duration::from_secs(2);

/// A connection that lasted this long was worth having, even if it brought nothing new. One that ends
/// sooner, and brought only what was known, is not dialled again at once.
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(10);

/// How often a pause for lack of disk space looks again.
pub const DISK_RETRY: Duration = Duration::from_millis(500);

/// How often retention looks for what to trim.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes of a request's body. What is sent to the API is a relay's URL, of at most 1,024 bytes.
pub const BODY_BYTES_MAX: usize = 16 << 10;

/// Problems of a configuration that an answer lists. A file may have one a line; who mends so many sees the
/// rest at the next try.
pub const PROBLEMS_SHOWN_MAX: usize = 100;

/// Largest message that a `/ws` client may send: it has nothing to say yet.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Bytes that are gathered for a `/ws` client before they are written to its socket: what an idle client
/// that was busy once keeps allocated. A larger buffer saves hardly any system calls.
pub const CLIENT_FLUSH_BYTES: usize = 16 << 10;

/// Bytes that a `/ws` client's socket reads at once. Clients hardly say anything, and each keeps this much.
pub const CLIENT_READ_BYTES: usize = 4 << 10;

/// Bytes that may wait for a `/ws` client's socket, in any case. What waits is one message beyond
/// [`CLIENT_FLUSH_BYTES`] and answers to pings, so the bound is met by nothing that can be configured.
pub const CLIENT_WRITE_BYTES_MAX: usize = 128 << 20;

/// How long a `/ws` client may take to answer the close of its connection.
pub const CLIENT_CLOSE_MAX: Duration = Duration::from_secs(1);

/// How long `/ws` clients may take what is left for them when the gateway stops.
pub const CLIENT_DRAIN_MAX: Duration = Duration::from_secs(3);
