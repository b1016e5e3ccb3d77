//! The limits that are not configured, with their reasons, grouped by what they protect.
//!
//! Everything that holds memory or waits is bounded here or in the configuration; each comment says
//! what happens at the limit. Limits of a format, such as the length of a URL, are defined next to
//! the format's parser.

use std::num::NonZeroUsize;
use std::time::Duration;

// Ingest: from the sockets to the commit.

/// Bytes of candidate frames between the sockets and the commit. At the limit, connections stop
/// reading, so that back-pressure reaches the relays. 32 MiB are about 50,000 ordinary events.
pub const INGEST_BYTES_MAX: usize = 32 << 20;
/// Candidates that wait in the inbox of one shard. Unless frames are tiny, the byte limit is
/// reached first.
pub(crate) const INBOX_CANDIDATES_MAX: usize = 8_192;
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

// Sinks.

/// The minimum base of the back-off between two connections to one sink. The base is short,
/// because an operator who restarts a sink waits for the connection.
pub(crate) const SINK_BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The maximum base of the back-off between two connections to one sink.
pub(crate) const SINK_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Bytes that are gathered for one write to a sink's socket: about a hundred events. The last event
/// may exceed the limit.
pub(crate) const SINK_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that are encrypted at once for a sink: one TLS record. At most one record waits for the
/// socket, and the sink cannot decrypt any part of a record before the socket has accepted the
/// whole record. Including a record from the sink, TLS holds about 50 KiB per connection.
pub(crate) const SINK_RECORD_BYTES: usize = 16 << 10;
/// Records on one TLS 1.2 connection before the gateway reconnects: TLS 1.2 cannot change its keys,
/// and at twice this number the library stops sending but reports success. TLS 1.3 changes its keys
/// itself.
pub(crate) const SINK_OLD_TLS_RECORDS_MAX: u64 = 1 << 23;
/// Bytes in one read from a sink.
pub(crate) const SINK_READ_BYTES: usize = 4 << 10;
/// Bytes that a sink without acknowledgements may send before its connection is closed: some
/// servers send a greeting.
pub(crate) const SINK_CHATTER_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a line with an acknowledgement: `{"ack":18446744073709551615}` and some white space.
pub(crate) const ACK_LINE_BYTES_MAX: usize = 64;
/// How often the cursor of a sink or consumer is written. After a crash, a receiver gets the events
/// since the last write again, besides the unacknowledged events.
pub(crate) const CURSOR_INTERVAL: Duration = Duration::from_millis(100);
/// A sink's cursor is also written after this many events, see [`CURSOR_INTERVAL`].
pub(crate) const CURSOR_EVENTS_MAX: u64 = 10_000;
/// The lag above which a live sink is shown as catching up.
pub(crate) const LIVE_LAG_MAX: u64 = 1_000;
/// TCP keep-alive of a sink's connection: how long the connection is idle before the first probe. A
/// host that vanished is detected within a minute.
pub(crate) const SINK_KEEPALIVE: Duration = Duration::from_secs(30);
/// See [`SINK_KEEPALIVE`].
pub(crate) const SINK_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`SINK_KEEPALIVE`].
pub(crate) const SINK_KEEPALIVE_PROBES: u32 = 3;
/// The number of remembered ranges of sequences that retention trimmed before the sink got them.
pub(crate) const LOST_RANGES_KEPT: usize = 16;
/// The maximum `Retry-After` that is respected: a date next year is a mistake.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of a sink's response that are read: only the status matters. A longer response ends the
/// connection.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Characters of a sink's response that are shown as the reason.
pub(crate) const ANSWER_SHOWN_MAX: usize = 200;
/// Events that are examined for a request to a sink before the task yields: a few milliseconds.
pub(crate) const GATHER_READS_MAX: usize = 10_000;
/// A sink is parked after this many refused requests in a row. One event may be refused for its
/// content; a hundred refusals in a row point to a wrong key or address, and the refused events
/// would push each other out of the dead letters.
pub(crate) const REFUSED_IN_A_ROW_MAX: u32 = 100;
/// A sink is also parked when the requests refused in a row have more events than this: a tenth of
/// [`DEAD_LETTERS_MAX`].
pub(crate) const REFUSED_EVENTS_IN_A_ROW_MAX: usize = 1_000;
/// The limit in bytes of these events, see [`REFUSED_EVENTS_IN_A_ROW_MAX`].
pub(crate) const REFUSED_BYTES_IN_A_ROW_MAX: usize = 8 << 20;
/// How often the same refusal is logged: a sink's refusal of events, or ours of a web page.
pub(crate) const REFUSAL_LOGGED_EVERY: Duration = Duration::from_secs(60);
/// While a request is unanswered, at most this number times `concurrency` later requests may start.
/// After a crash, all of these requests are sent again.
pub(crate) const POSTS_AHEAD_MAX: u64 = 16;
/// More unprocessed requests in a row than this number times `concurrency` count as a failure. A
/// request on a connection that is just closing is unprocessed.
pub(crate) const UNPROCESSED_ROUNDS_MAX: usize = 8;
/// Only parts of a header or query of at least this length count as secrets in a response.
pub(crate) const SECRET_BYTES_MIN: usize = 6;
/// Layers of escapes that are removed from a response when it is searched for secrets.
pub(crate) const ESCAPES_MAX: usize = 4;
/// The maximum size of a request body that is built outside of the blocking pool.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 256 << 10;
/// The maximum number of dead letters of one sink. At the limit, the oldest are deleted.
pub(crate) const DEAD_LETTERS_MAX: usize = 10_000;
/// The maximum size of the dead letters of one sink, see [`DEAD_LETTERS_MAX`].
pub(crate) const DEAD_LETTERS_BYTES_MAX: usize = 64 << 20;

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
/// Connections to the port that serves only `/metrics`; the limit per address is the API's.
pub(crate) const METRICS_CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

// Clients of `/ws` and `/fanout`.

/// How long a consumer of `/ws` waits for its previous connection to end. The previous connection
/// stops at once and writes one row, so only a stalled disk takes longer.
pub(crate) const CONSUMER_LEASE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The maximum size of a message from a `/ws` client. An acknowledgement is tiny; other messages
/// are ignored.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes that are gathered for one write to a `/ws` client. Even an idle client has such a buffer,
/// and a larger buffer saves hardly any system calls.
pub(crate) const CLIENT_FLUSH_BYTES: usize = 16 << 10;
/// The size of the read buffer that each `/ws` client has, in bytes. Clients send little.
pub(crate) const CLIENT_READ_BYTES: usize = 4 << 10;
/// Bytes that wait for the socket of a `/ws` client. At most one message and pongs wait beyond
/// [`CLIENT_FLUSH_BYTES`], so no configuration reaches the limit.
pub(crate) const CLIENT_WRITE_BYTES_MAX: usize = 128 << 20;
/// Bytes in the system's send buffer for a client; Linux doubles the size for its overhead. The
/// default of up to 4 MiB is too much for ten thousand stalled clients. With that default, a slow
/// reader would also appear to read nothing for minutes: the system reports room only when a third
/// of the buffer is free. A client 100 ms away still gets some MB a second.
pub(crate) const CLIENT_SEND_BUFFER_BYTES: u32 = 256 << 10;
/// How long a slow `/ws` client may take to read the reason of its close, and then to answer. Such
/// a client must first read the contents of its socket, so it gets more time than other clients.
pub(crate) const CLIENT_LAST_WORDS_MAX: Duration = Duration::from_secs(10);
/// How long a `/ws` client may take to answer the close of its connection.
pub(crate) const CLIENT_CLOSE_MAX: Duration = Duration::from_secs(1);
/// How long `/ws` clients may take to read the remaining events at a stop.
pub const CLIENT_DRAIN_MAX: Duration = Duration::from_secs(3);

// The fan-out.

/// Bytes of the secret that a follower and a gateway share. A shorter secret can be guessed.
pub(crate) const SHARED_SECRET_BYTES_MIN: usize = 16;
pub(crate) const SHARED_SECRET_BYTES_MAX: usize = 256;
/// How many sequences of the log are searched for signals at startup, so that followers need not
/// search the log themselves. The search takes a second or two.
pub(crate) const SIGNALS_LOOK_BACK: u64 = 1_000_000;
/// Bots that one follower may follow. Each of their signals is encrypted for the follower.
pub(crate) const FOLLOWS_MAX: usize = 1_000;
/// Connections of one follower to `/fanout`. Each connection gets all of the follower's signals.
pub(crate) const FOLLOWER_CONNECTIONS_MAX: usize = 16;
/// Stored cursors of one follower.
pub(crate) const FOLLOWER_CONSUMERS_MAX: usize = 16;
/// Cached conversation keys of followers, about 200 bytes each. Deriving one takes about 50 us.
pub(crate) const CONVERSATION_KEYS_MAX: usize = 100_000;
/// Bytes of the newest signals in memory, about 2 KB each. Followers that are further behind read
/// the log and skip its other events.
pub(crate) const SIGNALS_BYTES_MAX: usize = 32 << 20;
/// Followers that read the log concurrently.
pub(crate) const FOLLOWERS_BEHIND_MAX: usize = 4;
/// Threads that read the disk for followers.
pub(crate) const FANOUT_BLOCKING_THREADS_MAX: usize = 16;
/// How long a client of `/fanout` may take to prove its key after connecting.
pub(crate) const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a proof: an event with a few tags.
pub(crate) const PROOF_BYTES_MAX: usize = 8 << 10;
/// The maximum difference in seconds between the date of a NIP-98 token and our clock.
pub(crate) const TOKEN_SECS_MAX: u64 = 60;
/// The maximum difference in seconds between the date of a NIP-42 answer and our clock. The
/// challenge proves that the answer is fresh.
pub(crate) const ANSWER_SECS_MAX: u64 = 600;
/// NIP-98 tokens that are remembered so that none is used twice, about 50 bytes each. Tokens expire
/// after two minutes, so there may be 8,000 a second; more are refused.
pub(crate) const TOKENS_MAX: usize = 1_000_000;
/// Keys and addresses whose calls are counted, about 100 bytes each. At the limit, keys and
/// addresses without recent calls are dropped; if that is not enough, all counts are reset.
pub(crate) const CALLERS_MAX: usize = 100_000;
/// Followers in one response.
pub(crate) const FOLLOWERS_LISTED_MAX: usize = 10_000;

// The registry in PostgreSQL.

/// How long one statement may take, and how long a whole write may take, from the wait for the lock
/// to the reply to COMMIT. Users and HTTP requests do not wait much longer.
pub const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of [`REGISTRY_TIMEOUT`] that a write reserves for its COMMIT. The server gives up on a
/// lock this much earlier than we do, so that the server can report the lock.
pub(crate) const REGISTRY_MARGIN: Duration = Duration::from_millis(500);
/// How long connecting may take: short enough to find the reason of a failure within
/// [`REGISTRY_TIMEOUT`].
pub(crate) const REGISTRY_CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long finding the reason of a failed connection may take.
pub(crate) const REGISTRY_REASON_MAX: Duration = Duration::from_secs(1);
/// How long each row may take in a full read: the server may sort millions of rows first.
pub(crate) const REGISTRY_ROWS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server may wait for a lock: less than we wait for the server, so that the server
/// can report the lock.
pub(crate) const REGISTRY_LOCK_MAX: Duration = Duration::from_secs(4);
/// How long the connection for notifications may be silent before it must prove that it is alive.
pub(crate) const REGISTRY_SILENCE_MAX: Duration = Duration::from_secs(15);
/// Changes of the registry that are handled at once. Further changes wait in the socket.
pub(crate) const REGISTRY_CHANGES_MAX: usize = 1_000;
/// Rows in one statement or chunk: about 500 KiB.
pub(crate) const REGISTRY_BATCH_ROWS: usize = 2_000;
/// How often an unreachable database is tried again.
pub(crate) const REGISTRY_RETRY: Duration = Duration::from_secs(1);
/// How often a database that an operator must repair is tried again.
pub(crate) const REGISTRY_RETRY_SELDOM: Duration = Duration::from_secs(10);
/// How long reading the registry may delay the start. 100,000 follows take less than a second.
pub(crate) const REGISTRY_START_MAX: Duration = Duration::from_secs(15);

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
