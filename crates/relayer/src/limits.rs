//! The limits that are not configured, with their reasons, grouped by what they protect.
//!
//! Everything that holds memory or waits is bounded here or in the configuration; each comment says
//! what happens at the limit. Limits of a format, such as the length of a URL, are defined next to
//! the format's parser.
//!
//! `receivers` has the limits for clients and sinks, which receive the log, and `commands` those
//! for commands that call a running gateway.

mod commands;
mod receivers;

use std::num::NonZeroUsize;
use std::time::Duration;

pub(crate) use commands::*;
pub use receivers::*;

// Ingest: from the sockets to the commit.

/// Bytes of candidate frames between the sockets and the commit. At the limit, connections stop
/// reading, so that back-pressure reaches the relays. 32 MiB are about 50,000 ordinary events.
pub const INGEST_BYTES_MAX: usize = 32 << 20;
/// Candidates that wait in the inbox of one shard. Unless frames are tiny, the byte limit is
/// reached first.
pub(crate) const INBOX_CANDIDATES_MAX: usize = 8_192;
/// Refused ids that are remembered for each drop reason, about 200 bytes each: 7,000 in all. At the
/// limit, the relay that most of them came from loses its oldest.
pub(crate) const REFUSALS_KEPT: usize = 256;
/// Relays that are remembered for one refused id, see [`REFUSALS_KEPT`].
pub(crate) const REFUSAL_RELAYS_KEPT: usize = 8;
/// Bursts of verified events that wait for the sequencer. At the limit, shards wait.
pub(crate) const SEQUENCER_BURSTS_MAX: usize = 64;
/// How long marks wait to be committed together with events or other marks: ten thousand relays
/// produce hundreds of marks a second, which then need only a few commits. Nothing waits for a
/// mark.
pub(crate) const MARKS_GATHER: Duration = Duration::from_millis(200);

// Frames of relays.

/// The maximum size of a frame with an event: escapes and white space can double the size of the
/// event.
pub const fn frame_bytes_max(event_bytes_max: usize) -> usize {
    2 * event_bytes_max + 4_096
}
/// A frame above [`frame_bytes_max`] and up to this size is read and discarded, so that one large
/// event does not block the stored events after it. A longer frame ends the connection. By default,
/// relays accept events of up to 64 KiB; a few accept some MiB.
pub(crate) const SKIPPED_FRAME_BYTES_MAX: u64 = 32 << 20;
/// Frames that are handled per read of a socket. This many events exceed the 64 KiB of a read, but
/// 64 KiB hold a hundred times as many empty frames. Tokio lets a task read 128 times before it
/// runs other tasks of the thread, so a flood delays those by a few milliseconds at most.
pub const FRAMES_A_READ_MAX: u32 = 256;
/// The minimum time between two pongs. RFC 6455, section 5.5.3, allows an endpoint to leave older
/// pings unanswered.
pub(crate) const PONG_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Text frames up to this size that do not begin a JSON array count as unknown messages, not as
/// broken ones: to keep a connection open, some servers send `ping` or an empty frame.
pub(crate) const HEARTBEAT_BYTES_MAX: usize = 32;
/// One additional offence is tolerated for this many events: a relay that forwards a million events
/// need not be the forger of a few hundred among them.
pub(crate) const EVENTS_AN_OFFENCE: u64 = 1_000;

// Reading the log.

/// Events in one read of RocksDB; [`READ_BYTES_MAX`] limits their size. A lagging consumer holds
/// this many in memory.
pub(crate) const READ_EVENTS_MAX: usize = 512;
/// Bytes in one read of RocksDB, see [`READ_EVENTS_MAX`].
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// Threads that read the disk for queries and for lagging consumers.
pub const BLOCKING_THREADS_MAX: usize = 64;
/// The maximum number of events in a page of `/api/events`.
pub(crate) const PAGE_EVENTS_MAX: usize = 1_000;
/// The approximate maximum size of the events in a page of `/api/events`, in bytes. A page is held
/// in memory until the client has read it. One event always fits.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Events that are examined for one page of `/api/events`.
pub(crate) const PAGE_SCAN_MAX: usize = 20_000;
/// A binary search finds the first event of a time. An earlier event of that time is searched for
/// among this many events before it, because batches are sorted by `created_at`, not by the time of
/// receipt. Reading them takes a few milliseconds.
pub(crate) const UNORDERED_EVENTS_MAX: u64 = 10_000;
/// Events that are examined to find the events of a time span. Reading them takes a few seconds.
pub(crate) const KNOWN_SCAN_MAX: usize = 1_000_000;

// The database, its disk and its backups.

/// How often a writer that waits for disk space checks again.
pub(crate) const DISK_RETRY: Duration = Duration::from_millis(500);
/// The interval of trimming by retention.
pub(crate) const RETENTION_INTERVAL: Duration = Duration::from_secs(30);
/// Files that RocksDB keeps open, besides those that it is writing.
pub(crate) const DATABASE_OPEN_FILES_MAX: i32 = 512;
/// Descriptors that are reserved for the database: its open files, its logs, and the output of a
/// compaction.
pub(crate) const DATABASE_FILES_MAX: usize = DATABASE_OPEN_FILES_MAX as usize + 64;
/// Descriptors of the process itself: standard streams, ports, event queues, signals, files of the
/// configuration, connections that are about to be refused.
pub(crate) const OWN_FILES_MAX: usize = 64;
/// Bytes of the file that describes a backup: room for 100,000 file names.
pub(crate) const BACKUP_DESCRIPTION_BYTES_MAX: u64 = 4 << 20;
/// How long the gateway may take for a checkpoint before `moltrade-relayer backup` fails. A
/// checkpoint flushes about 200 MB of memory.
pub(crate) const BACKUP_TIMEOUT: Duration = Duration::from_secs(600);

// Requests to relays, and the backfill.

/// Kinds in one filter, if the relay accepts several filters: relays refuse filters that are too
/// large.
pub(crate) const KINDS_A_FILTER_MAX: usize = 100;
/// The minimum time between two requests to a relay that has not complained. Ten requests a second
/// are more than a person's client sends and fewer than relays allow.
pub(crate) const REQUEST_GAP_MIN: Duration = Duration::from_millis(100);
/// The minimum time between two requests after a relay's first complaint. Each further complaint
/// doubles the time, up to [`REQUEST_GAP_MAX`].
pub(crate) const REQUEST_GAP_LIMITED: Duration = Duration::from_secs(1);
/// See [`REQUEST_GAP_LIMITED`].
pub(crate) const REQUEST_GAP_MAX: Duration = Duration::from_secs(64);
/// After this time without a complaint, the time between two requests is halved.
pub(crate) const RATE_LIMIT_MEMORY: Duration = Duration::from_secs(600);
/// Concurrent requests for past events, over all relays. Each answer may have hundreds of events,
/// which delay live events.
pub(crate) const REPAIRS_AT_ONCE_MAX: usize = 64;
/// Past events are requested only while candidates use less than [`INGEST_BYTES_MAX`] divided by
/// this number: live events have priority.
pub(crate) const REPAIR_QUEUE_SHARE: usize = 8;
/// How often a repair that waits for live events checks again.
pub(crate) const REPAIR_QUEUE_RETRY: Duration = Duration::from_millis(20);
/// How many events of one second are held until an answer has completed the second, so that the
/// order of arrival can be restored. A second with more events is passed on in parts; no bot sends
/// that many signals.
pub(crate) const SECOND_EVENTS_MAX: usize = 1_024;
/// Bytes of these events, see [`SECOND_EVENTS_MAX`].
pub(crate) const SECOND_BYTES_MAX: usize = 256 << 10;
/// Bytes of events held as in [`SECOND_EVENTS_MAX`], over all connections. At the limit, events are
/// passed on as they arrive.
pub(crate) const SECONDS_BYTES_MAX: usize = 8 << 20;
/// How long a relay may pause within an answer before the request is given up.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum duration of an answer: a relay that never ends an answer must not hold a slot
/// forever.
pub const ANSWER_MAX: Duration = Duration::from_secs(300);
/// How long a relay may take to accept our key (NIP-42). If the relay has not answered by then, the
/// requests are sent again.
pub(crate) const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers to NIP-42 challenges on one connection, repeated or new. For each, we sign an event and
/// send all requests again.
pub(crate) const AUTHENTICATIONS_MAX: u32 = 5;
/// If a relay that has served the live request refuses the request this many times in a row, we
/// send a simpler one.
pub(crate) const LIVE_REFUSALS_MAX: u8 = 3;
/// The maximum number of windows that a repair is divided into. Halving a span of any length takes
/// 64.
pub(crate) const WINDOWS_MAX: usize = 128;
/// Concurrent searches of the log for repairs, each on one of [`BLOCKING_THREADS_MAX`] threads.
pub(crate) const SCANS_AT_ONCE_MAX: usize = 2;
/// If no answer begins within this time after a `NOTICE` that reads like a refusal, the notice
/// counts as a refusal. Some relays greet every client with such a notice.
pub(crate) const NOTICE_DOUBT: Duration = Duration::from_secs(1);
/// How often a request is sent on one connection if the relay does not answer or answers with an
/// error.
pub(crate) const REQUEST_TRIES_MAX: u32 = 3;
/// The pause before a failed repair is tried again on the same connection.
pub(crate) const REPAIR_RETRY: Duration = Duration::from_secs(300);
/// Ids in one comparison by NIP-77, 2 MB for each repair. A window with more ids is halved.
pub(crate) const RECONCILED_IDS_MAX: usize = 50_000;
/// Ids that a comparison may find missing: 6 MB. A window with more ids is halved.
pub(crate) const MISSING_IDS_MAX: usize = 200_000;
/// Bytes of a NIP-77 message before it is encoded in hex. Relays refuse messages above 128 KiB.
pub(crate) const RECONCILE_BYTES_MAX: u64 = 50_000;
/// Steps of one NIP-77 reconciliation; an honest one takes a few dozen.
pub(crate) const RECONCILE_STEPS_MAX: u32 = 200;
/// Ids in one request for events.
pub(crate) const IDS_A_REQUEST_MAX: usize = 500;
/// Unproven spans of a relay's past. At the limit, spans are merged, so less time counts as proven;
/// a relay at the limit is not worth a longer list.
pub(crate) const GAPS_MAX: usize = 64;
/// Stored events in one request if the relay's cap is unknown: the most common cap.
pub(crate) const PAGE_EVENTS_USUAL: u32 = 500;
/// The maximum number of stored events in one request, even if the relay allows more: a large
/// answer delays the live events of all relays.
pub(crate) const RELAY_PAGE_EVENTS_MAX: u32 = 5_000;
/// Answers with fewer events always count as complete.
pub(crate) const PAGE_EVENTS_LEAST: u32 = 20;

// Connections to relays.

/// How long a NIP-11 document is valid, in milliseconds.
pub(crate) const INFORMATION_MS_MAX: u64 = 86_400_000;
/// How long fetching a NIP-11 document may take, from the TCP connect to the last byte.
pub(crate) const INFORMATION_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum size of a NIP-11 document; real ones have a few kilobytes.
pub const INFORMATION_BYTES_MAX: usize = 64 << 10;
/// Bytes of the head of a relay's HTTP response, including interim responses.
pub(crate) const RELAY_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header lines of a relay's HTTP response.
pub(crate) const RELAY_HEADERS_MAX: usize = 64;
/// The number of past states that are remembered for a relay's connection.
pub(crate) const STATES_KEPT: usize = 12;
/// The first quarantine of a relay that exceeds its budget of offences lasts this long. Each
/// further quarantine lasts twice as long, up to [`QUARANTINE_MAX`].
pub(crate) const QUARANTINE_MIN: Duration = Duration::from_secs(300);
/// See [`QUARANTINE_MIN`].
pub(crate) const QUARANTINE_MAX: Duration = Duration::from_secs(86_400);
/// If this time has passed since a quarantine, the next quarantine counts as the first.
pub(crate) const QUARANTINE_FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// How long a relay that refuses to serve us is not dialled.
pub(crate) const PARKED: Duration = Duration::from_secs(6 * 3_600);
/// This many relays must deliver events before a relay without events is reported as silent.
pub(crate) const DELIVERING_RELAYS_MIN: usize = 3;
/// A connection was useful if an answer on it had this many past events, known or new. After any
/// other connection, the relay is not redialled at once.
pub(crate) const USEFUL_EVENTS_MIN: u32 = 10;
/// After this many failures in a row a relay counts as dead, and is tried about once per
/// [`PROBE_MAX`]. Twenty failures take about an hour.
pub(crate) const FAILURES_TO_DEATH: u32 = 20;
/// See [`FAILURES_TO_DEATH`].
pub(crate) const PROBE_MAX: Duration = Duration::from_secs(3_600);
/// Commands in the queue of the relay pool or of a sink.
pub(crate) const COMMANDS_WAITING_MAX: usize = 64;
/// Concurrent look-ups of names, each on a thread that mostly sleeps. Looking up ten thousand names
/// at 100 ms each takes 16 seconds; a name without an answer takes as long as the system's resolver
/// tries.
pub(crate) const LOOKUPS_AT_ONCE_MAX: usize = 64;
/// The number of addresses that are tried per relay, all within [`DIAL_STEP_TIMEOUT`]. The limit
/// keeps a name with hundreds of addresses from exhausting sockets.
pub(crate) const ADDRESSES_TRIED_MAX: usize = 6;
/// How long an address may take to answer before the next one is tried in parallel, as RFC 8305,
/// section 8, recommends.
pub(crate) const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// How long each of DNS, TCP, TLS and the WebSocket handshake may take.
pub(crate) const DIAL_STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a relay may take to accept the little that we send.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of concurrent dials and fetches of NIP-11 documents, not counting those that
/// still resolve a name. The limit prevents time-outs when a start dials thousands of relays: 512
/// dials need less than a second of CPU for TLS. A lower limit would be slow, because some dials
/// only wait: if a third of ten thousand relays does not respond, waiting 10 s for each adds up to
/// a minute.
pub(crate) const DIALS_AT_ONCE_MAX: usize = 512;
/// The minimum base of the back-off between two connections to one relay.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The maximum base of the back-off between two connections to one relay.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(300);

// The end of the process.

/// How long sinks may take at a stop to accept the remaining events. `/ws` clients read theirs at
/// the same time.
pub(crate) const SINK_DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long a drained sink may take to close its side of the connection.
pub(crate) const SINK_CLOSE_MAX: Duration = Duration::from_secs(1);
/// How long relays may take to receive our close frame, as a part of draining.
pub(crate) const GOODBYES_MAX: Duration = Duration::from_secs(2);
/// How long draining may take in total, not counting the shutdown of the runtimes.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(9);
/// How long pending reads may delay the end of the process after draining.
pub const SHUTDOWN_MAX: Duration = Duration::from_millis(500);
/// How long the process may take to end, including draining, before the watchdog aborts the
/// process.
pub(crate) const END_MAX: Duration = Duration::from_secs(20);
/// How long `moltrade-relayer health` waits for the connection, and for the answer.
pub(crate) const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the service manager may delay one notification, which is then lost.
pub(crate) const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the service manager gets the status if it has no watchdog.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(15);
/// The checks for stages that are stuck in one interval of the service manager's watchdog. A stage
/// that hangs is noticed by the second check.
pub(crate) const WATCHDOG_CHECKS: u32 = 4;
/// How long logging a panic may take before the watchdog aborts the process.
pub(crate) const PANIC_NOTED_MAX: Duration = Duration::from_secs(5);
/// Bytes of log lines that wait for standard error: a few thousand lines. Further lines are lost.
/// Twice this size is allocated.
pub(crate) const LOG_BUFFER_BYTES: usize = 512 << 10;
/// How long writing the last log lines may take before the process exits.
pub(crate) const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

// The API, and connections of clients.

/// Bytes of a request body. The longest useful body is a relay URL of 1,024 bytes.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 10;
/// Problems of a configuration in one response. A file may have a problem in each line; after
/// corrections, the next try shows the rest.
pub(crate) const PROBLEMS_SHOWN_MAX: usize = 100;
/// How often the overview is computed for its listeners.
pub(crate) const OVERVIEW_EVERY: Duration = Duration::from_secs(2);
/// How long a computed overview is reused for other requests. Less than [`OVERVIEW_EVERY`], so that
/// the overview is computed once each time the listeners are served. Rates cover at least this
/// time.
pub(crate) const OVERVIEW_FRESH: Duration = Duration::from_secs(1);
/// The time that a point of the history covers.
pub(crate) const OVERVIEW_POINT_EVERY: Duration = Duration::from_secs(10);
/// Points of the history: an hour, about 50 KB.
pub(crate) const OVERVIEW_POINTS_MAX: usize = 360;
/// Listeners of the overview: pages of operators.
pub(crate) const OVERVIEW_LISTENERS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
/// Warnings in the overview.
pub(crate) const WARNINGS_MAX: usize = 50;
/// Sinks that are named for the same reason; the rest are counted.
pub(crate) const WARNINGS_OF_SINKS_MAX: usize = 5;
/// Characters of text from outside in a warning.
pub(crate) const WARNING_TEXT_MAX: usize = 200;
/// How long a browser may remember that a page may make a request. Browsers cap it at two hours.
pub(crate) const PREFLIGHT_CACHED: Duration = Duration::from_secs(3_600);
/// Connections that wait to be accepted; the default of the library is the same.
pub(crate) const CONNECTIONS_WAITING_MAX: u32 = 1_024;
/// How long the head of a request may take, and how long a connection may be idle between two
/// requests.
pub(crate) const REQUEST_HEAD_MAX: Duration = Duration::from_secs(30);
/// Bytes of the head of a request: the longest URL has 65,534 bytes.
pub(crate) const REQUEST_HEAD_BYTES_MAX: usize = 128 << 10;
/// How long the body of a request may take.
pub(crate) const REQUEST_BODY_MAX: Duration = Duration::from_secs(10);
/// If a client reads nothing of a pending response for this time (in the worst case, for twice this
/// time), its connection is closed. The system reports room only when a third of the buffer is
/// free; still, a client that reads some KB a second is safe.
pub(crate) const RESPONSE_STALL_MAX: Duration = Duration::from_secs(30);
/// The pause after an error of `accept`: the reason, such as a lack of descriptors, may persist.
pub(crate) const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How often refused connections are logged.
pub(crate) const CONNECTIONS_REFUSED_LOGGED_EVERY: Duration = Duration::from_secs(60);
/// How long a proxy may take to send its header of the PROXY protocol. The specification asks for
/// at least three seconds, so that a lost packet can be repeated.
pub(crate) const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of that header after its first 16: two addresses, and the fields that load balancers add.
pub(crate) const PROXY_HEADER_BYTES_MAX: usize = 2 << 10;
/// Addresses of X-Forwarded-For that are examined. A chain of proxies is short.
pub(crate) const FORWARDED_HOPS_MAX: usize = 32;
/// Connections to the port that serves only `/metrics`; the limit per address is the API's.
pub(crate) const METRICS_CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

// The clock.

/// A change of the wall clock relative to the time since boot counts as a step from this size on.
/// Gradual adjustment changes both clocks.
pub(crate) const CLOCK_STEP_MIN: Duration = Duration::from_secs(5);
/// How often the clock is checked for a step, besides the check before each decision that depends
/// on the clock.
pub(crate) const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A live event agrees with our clock if its date differs from the clock by at most this.
pub(crate) const CLOCK_AGREES_WITHIN: Duration = Duration::from_secs(60);
/// How long the date of a live event counts as a vote on our clock.
pub(crate) const CLOCK_VOTES_LAST: Duration = Duration::from_secs(20 * 60);
/// Relays whose votes count, a few dozen bytes each; the votes of further relays are ignored.
pub(crate) const CLOCK_VOTERS_MAX: usize = 256;
/// If the newest event of the log is older than this at startup, nothing is deleted by age at
/// first, because the clock may be ahead.
pub(crate) const CLOCK_START_GAP_MAX: Duration = Duration::from_secs(3_600);
/// The minimum time without deletion by age after a step, or after a start as in
/// [`CLOCK_START_GAP_MAX`].
pub(crate) const CLOCK_DOUBT_MIN: Duration = Duration::from_secs(3_600);
