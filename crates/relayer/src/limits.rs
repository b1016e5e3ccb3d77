//! Every limit that is not configured, in one place, each with its reason.
//!
//! What holds memory or waits is bounded by something here or in the configuration; what happens at the
//! bound is said beside it.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Bytes of candidate frames between the sockets and the commit. When they are used up, connections stop
/// reading, so that back-pressure reaches the relays. 32 MiB are about 50,000 ordinary events.
pub const INGEST_BYTES_MAX: usize = 32 << 20;

/// Candidates that may wait in one shard's inbox. The byte limit is met first unless frames are tiny.
pub const INBOX_CANDIDATES_MAX: usize = 8_192;

/// How long marks wait for events to be committed with, or for other marks: ten thousand relays make
/// hundreds of them a second, which are a few commits then. Nobody waits for a mark.
pub const MARKS_GATHER: Duration = Duration::from_millis(200);

/// Bursts of verified events that may wait for the sequencer; a shard that finds it full waits.
pub const SEQUENCER_BURSTS_MAX: usize = 64;

/// What a frame may be longer than the largest admitted event: escapes and white space can double it.
pub const fn frame_bytes_max(event_bytes_max: usize) -> usize {
    2 * event_bytes_max + 4_096
}

/// A frame of a relay that is longer than [`frame_bytes_max`] is read and discarded up to this
/// size, so that one event that is too large does not cut off all that is stored behind it. Relays
/// take events of up to 64 KiB by default, and a few take some MiB. A longer frame is no event that
/// a relay has stored: the connection ends.
pub const SKIPPED_FRAME_BYTES_MAX: u64 = 32 << 20;

/// Frames of any kind that one read of a relay's socket handles: more than 64 KiB of events hold,
/// and a hundredth of the empty frames in as many bytes. Tokio lets a task do 128 reads before
/// other tasks of its thread get their turn, so this bounds what a flood can hold up: to a few
/// milliseconds.
pub const FRAMES_A_READ_MAX: u32 = 256;

/// Pings of a relay are answered at most so often. RFC 6455, section 5.5.3, lets us answer only the
/// latest of several.
pub const PONG_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Text frames of up to this size that begin no JSON array are counted as messages that we do not
/// know, and not as broken ones: some servers send `ping`, or nothing, to keep a connection open.
pub const HEARTBEAT_BYTES_MAX: usize = 32;

/// For so many events that a relay sends, one offence more is let pass: among a million events that
/// it passes on, a few hundred that somebody forged do not show that it forges.
pub const EVENTS_AN_OFFENCE: u64 = 1_000;

/// Events that a reader takes from RocksDB at once, and their bytes: what one lagging consumer holds.
pub const READ_EVENTS_MAX: usize = 512;
/// See [`READ_EVENTS_MAX`].
pub const READ_BYTES_MAX: usize = 1 << 20;

/// Bytes of the file that describes a backup: 100,000 file names.
pub const BACKUP_DESCRIPTION_BYTES_MAX: u64 = 4 << 20;

/// How long the gateway may take for a checkpoint before `moltrade-relayer backup` gives up: it
/// writes what is only in memory, about 200 MB.
pub const BACKUP_TIMEOUT: Duration = Duration::from_secs(600);

/// Threads that wait for the disk, on behalf of lagging consumers and queries.
pub const BLOCKING_THREADS_MAX: usize = 64;

/// Events that one page of `/api/events` returns at most.
pub const PAGE_EVENTS_MAX: usize = 1_000;

/// About how many bytes of events one page of `/api/events` returns: a page is held in memory until its
/// client has taken it. One event always fits.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

/// Events that one page of `/api/events` looks at to find those that match.
pub const PAGE_SCAN_MAX: usize = 20_000;

/// Kinds in one filter, if the relay takes several filters: relays refuse filters that are too large.
pub const KINDS_A_FILTER_MAX: usize = 100;

/// The least time between two requests to one relay that has not complained: ten a second are more than a
/// person's client sends, and fewer than relays limit.
pub const REQUEST_GAP_MIN: Duration = Duration::from_millis(100);
/// The same for a relay that said it is too much; each time that it says so again it is doubled, up to
/// [`REQUEST_GAP_MAX`].
pub const REQUEST_GAP_LIMITED: Duration = Duration::from_secs(1);
/// See [`REQUEST_GAP_LIMITED`].
pub const REQUEST_GAP_MAX: Duration = Duration::from_secs(64);
/// How long a relay must not have complained for the gap to be halved.
pub const RATE_LIMIT_MEMORY: Duration = Duration::from_secs(600);

/// Requests for the past that are under way at once, over all relays. Each may bring hundreds of events that
/// live ones must then wait behind.
pub const REPAIRS_AT_ONCE_MAX: usize = 64;
/// What share of the bytes between sockets and commit may be used up for the past to be asked for:
/// one in so many. Live events go first.
pub const REPAIR_QUEUE_SHARE: usize = 8;
/// How often a repair that waits for live events looks again.
pub const REPAIR_QUEUE_RETRY: Duration = Duration::from_millis(20);
/// Events of one second of an answer that are held until all of the second has come, so that they
/// keep the order of arrival. A second with more, which no bot's signals fill, is passed on in
/// parts.
pub const SECOND_EVENTS_MAX: usize = 1_024;
/// See [`SECOND_EVENTS_MAX`].
pub const SECOND_BYTES_MAX: usize = 256 << 10;
/// Bytes of events that all connections hold so. When they are used up, events are passed on as
/// they come.
pub const SECONDS_BYTES_MAX: usize = 8 << 20;
/// How long a relay may send nothing of an answer before the request is given up.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may take in all: a relay that never ends one must not hold a turn for ever.
pub const ANSWER_MAX: Duration = Duration::from_secs(300);
/// How long a relay has to say whether it takes our key (NIP-42). Relays that say nothing about it
/// are asked again after that.
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How many answers to NIP-42 challenges are sent on one connection: the same one again if the
/// relay could not take it, and new ones. Each costs a signature, and everything that was asked is
/// asked again.
pub const AUTHENTICATIONS_MAX: u32 = 5;
/// How often in a row the live request is refused, by a relay that has served it before, before it
/// is asked in simpler words.
pub const LIVE_REFUSALS_MAX: u8 = 3;
/// Into how many windows a repair may be divided at once. Halving a span of any length takes 64.
pub const WINDOWS_MAX: usize = 128;
/// Looks through the log on behalf of repairs at once, of [`BLOCKING_THREADS_MAX`] threads.
pub const SCANS_AT_ONCE_MAX: usize = 2;
/// How long after a `NOTICE` that reads like a refusal no answer may begin before it is taken for one. It
/// need not be about the request: some relays greet everybody so.
pub const NOTICE_DOUBT: Duration = Duration::from_secs(1);
/// How often a request that is not answered, or answered with an error, is repeated on one connection.
pub const REQUEST_TRIES_MAX: u32 = 3;
/// How long a repair that did not succeed waits before it is tried again on the same connection.
pub const REPAIR_RETRY: Duration = Duration::from_secs(300);
/// The ids that are compared at once with a relay's by NIP-77: 2 MB, for each of [`REPAIRS_AT_ONCE_MAX`]. A
/// window with more is halved.
pub const RECONCILED_IDS_MAX: usize = 50_000;
/// The ids that a comparison may find missing: 6 MB. A window with more is halved.
pub const MISSING_IDS_MAX: usize = 200_000;
/// Bytes of a NIP-77 message before it is written in hex. Relays refuse messages of more than 128 KiB.
pub const RECONCILE_BYTES_MAX: u64 = 50_000;
/// Steps of one NIP-77 reconciliation; an honest one takes a few dozen.
pub const RECONCILE_STEPS_MAX: u32 = 200;
/// Events that are asked for by their ids at once.
pub const IDS_A_REQUEST_MAX: usize = 500;

/// How long what a relay says of itself (NIP-11) counts, in milliseconds.
pub const INFORMATION_MS_MAX: u64 = 86_400_000;

/// States of a relay's connection that are remembered.
pub const STATES_KEPT: usize = 12;

/// How long a relay that uses up its budget of offences is quarantined the first time; then twice as long,
/// up to [`QUARANTINE_MAX`].
pub const QUARANTINE_MIN: Duration = Duration::from_secs(300);
/// See [`QUARANTINE_MIN`].
pub const QUARANTINE_MAX: Duration = Duration::from_secs(86_400);
/// How long after a quarantine the next one is again the first.
pub const QUARANTINE_FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// How long a relay that does not serve us is left alone.
pub const PARKED: Duration = Duration::from_secs(6 * 3_600);

/// Relays that must deliver events for another one that delivers none to be reported as silent.
pub const DELIVERING_RELAYS_MIN: usize = 3;

/// Events of one answer about the past, known or not and whole or not, that make a connection worth having.
/// One that brings fewer and ends is not dialled again at once.
pub const USEFUL_EVENTS_MIN: u32 = 10;

/// After so many failures in a row a relay counts as dead, and is tried once in [`PROBE_MAX`] or so: twenty
/// are about an hour of trying.
pub const FAILURES_TO_DEATH: u32 = 20;
/// See [`FAILURES_TO_DEATH`].
pub const PROBE_MAX: Duration = Duration::from_secs(3_600);

/// Events that are looked at to find out what the log has of a span: a few seconds of reading.
pub const KNOWN_SCAN_MAX: usize = 1_000_000;

/// How many orders to the pool of relays, or to a sink, may wait for the one before them.
pub const ORDERS_WAITING_MAX: usize = 64;

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

/// Spans of a relay's past that are known not to be proven. More are merged, which claims less: a relay
/// with so many is not worth a longer list.
pub const GAPS_MAX: usize = 64;

/// Stored events that are asked for in one request when nothing is known of a relay's cap. It is the
/// commonest cap.
pub const PAGE_EVENTS_USUAL: u32 = 500;
/// Stored events that one request asks for at most, whatever the relay allows: what one answer may put
/// before the live events of all relays.
pub const RELAY_PAGE_EVENTS_MAX: u32 = 5_000;
/// No relay cuts answers that are shorter than this.
pub const PAGE_EVENTS_LEAST: u32 = 20;

/// The shortest and longest base of the back-off between two connections to one sink. A sink is a program
/// of the operator's, which is restarted and then waited for: it is tried soon, and never seldom.
pub const SINK_BACKOFF_MIN: Duration = Duration::from_millis(200);
/// See [`SINK_BACKOFF_MIN`].
pub const SINK_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Bytes that are gathered for a sink's socket: one write takes about a hundred events. What is gathered may
/// exceed it by one event.
pub const SINK_BUFFER_BYTES: usize = 64 << 10;

/// The bytes that one TLS record takes.
pub const SINK_RECORD_BYTES: usize = 16 << 10;

/// TLS records that are sent on one connection in TLS 1.2, which cannot renew its keys; then the
/// connection is replaced. At twice as many rustls stops sending, and reports what it discards as written.
pub const SINK_OLD_TLS_RECORDS_MAX: u64 = 1 << 23;

/// Bytes that are read at once of what a sink sends.
pub const SINK_READ_BYTES: usize = 4 << 10;

/// Bytes that a sink which has nothing to say may send on one connection before it is closed: some greet.
pub const SINK_CHATTER_BYTES_MAX: u64 = 64 << 10;

/// Bytes of one line with an acknowledgement: `{"ack":18446744073709551615}` and some white space.
pub const ACK_LINE_BYTES_MAX: usize = 64;

/// How often the cursor of a sink or consumer is written down, and of a sink after how many events at the latest:
/// what a crash of the gateway makes it get twice, beside what it has not acknowledged.
pub const CURSOR_INTERVAL: Duration = Duration::from_millis(100);
/// See [`CURSOR_INTERVAL`].
pub const CURSOR_EVENTS_MAX: u64 = 10_000;

/// How far a sink that was live may fall behind before it is shown as catching up.
pub const LIVE_LAG_MAX: u64 = 1_000;

/// After how much silence a sink's connection is probed (TCP keep-alive), and how often until it is given
/// up: a host that vanished is noticed within a minute.
pub const SINK_KEEPALIVE: Duration = Duration::from_secs(30);
/// See [`SINK_KEEPALIVE`].
pub const SINK_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`SINK_KEEPALIVE`].
pub const SINK_KEEPALIVE_PROBES: u32 = 3;

/// Ranges of sequences that retention took from a sink which are remembered.
pub const LOST_RANGES_KEPT: usize = 16;

/// The longest that a sink's `Retry-After` is heeded: a date in a year is a mistake.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Bytes that are read of a sink's answer, whose status is all that counts. A longer one costs the connection.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Characters of a sink's answer that are shown as a reason.
pub const ANSWER_SHOWN_MAX: usize = 200;

/// Events that are looked at for a post before others get the thread: a few milliseconds.
pub const GATHER_LOOKS_MAX: usize = 10_000;

/// Requests that a sink refuses in a row until it is parked. An event may be refused for what it is; a hundred
/// in a row are refused for a wrong key or address, and would push each other out of the dead letters.
pub const REFUSED_IN_A_ROW_MAX: u32 = 100;
/// The same for the events in them, and their bytes: a tenth of what is kept of a sink, or little more.
pub const REFUSED_EVENTS_IN_A_ROW_MAX: usize = 1_000;
/// See [`REFUSED_EVENTS_IN_A_ROW_MAX`].
pub const REFUSED_BYTES_IN_A_ROW_MAX: usize = 8 << 20;

/// How often a sink's refusals are logged as long as they have the same reason, and refused web
/// pages.
pub const REFUSAL_LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Posts, for each that may be under way at once, that may be begun after one that is not answered: they would
/// all be sent again after a crash of the gateway.
pub const POSTS_AHEAD_MAX: u64 = 16;

/// How many times as many requests as may be under way a sink may leave unprocessed in a row before
/// that counts as a failure. A request that meets a connection just as it closes is one of them.
pub const UNPROCESSED_ROUNDS_MAX: usize = 8;

/// The shortest part of a header or a query that counts as a secret when an answer repeats it.
pub const SECRET_BYTES_MIN: usize = 6;
/// How many layers of escapes are taken off a sink's words to look for secrets in them.
pub const ESCAPES_MAX: usize = 4;

/// The size from which on a body is put together on a thread for work, and not between others' events.
pub const SMALL_BODY_BYTES_MAX: usize = 256 << 10;

/// Dead letters that are kept of one sink. When there are more, the oldest are dropped.
pub const LETTERS_MAX: usize = 10_000;
/// See [`LETTERS_MAX`].
pub const LETTERS_BYTES_MAX: usize = 64 << 20;

/// How long sinks may take what is left for them when the gateway stops, beside `/ws` clients.
pub const SINK_DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long a sink may take to close its side of the connection after that.
pub const SINK_CLOSE_MAX: Duration = Duration::from_secs(1);

/// How long all of draining may take before the process exits anyway.
pub const DRAIN_MAX: Duration = Duration::from_secs(9);

/// How long reads that are under way may hold up the end of the process after draining.
pub const SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// How long the process may take to end once it must, with what follows draining. Then it is
/// aborted.
pub const END_MAX: Duration = Duration::from_secs(20);
/// How long noting a panic may take until the process is aborted.
pub const PANIC_NOTED_MAX: Duration = Duration::from_secs(5);

/// Bytes of log lines that wait for standard error to take them: a few thousand lines. More are
/// lost. Twice as many are allocated.
pub const LOG_BUFFER_BYTES: usize = 512 << 10;
/// How long the last log lines may take to be written before the process exits.
pub const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

/// How long relays may take to hear that we close. It is part of draining.
pub const GOODBYES_MAX: Duration = Duration::from_secs(2);

/// How often a pause for lack of disk space looks again.
pub const DISK_RETRY: Duration = Duration::from_millis(500);

/// How often retention looks for what to trim.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes of a request's body. The longest that is sent to the API is a relay's URL, of at most 1,024 bytes.
pub const BODY_BYTES_MAX: usize = 16 << 10;

/// Problems of a configuration that an answer lists. A file may have one a line; who mends so many sees the
/// rest at the next try.
pub const PROBLEMS_SHOWN_MAX: usize = 100;

/// How long a consumer of `/ws` that connects waits for its connection before to end. That one stops at once and
/// writes one row, so only a disk that stalls takes longer.
pub const CONSUMER_LEASE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Largest message that a `/ws` client may send. An acknowledgement is tiny; what others say is passed over.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Bytes that are gathered for a `/ws` client before they are written to its socket: what an idle client
/// that was busy once keeps allocated. A larger buffer saves hardly any system calls.
pub const CLIENT_FLUSH_BYTES: usize = 16 << 10;

/// Bytes that a `/ws` client's socket reads at once. Clients hardly say anything, and each keeps this much.
pub const CLIENT_READ_BYTES: usize = 4 << 10;

/// Bytes that may wait for a `/ws` client's socket, in any case. What waits is one message beyond
/// [`CLIENT_FLUSH_BYTES`] and answers to pings, so the bound is met by nothing that can be configured.
pub const CLIENT_WRITE_BYTES_MAX: usize = 128 << 20;

/// Bytes that the system keeps for a client until its side has taken them; Linux counts twice as many, with
/// its own overhead. The system's own choice, up to 4 MiB, is too much for ten thousand clients that stall; and
/// since it reports room only when a third is free, one that reads slowly would seem to read nothing for
/// minutes. A client that is 100 ms away still gets some MB a second.
pub const CLIENT_SEND_BUFFER_BYTES: u32 = 256 << 10;

/// Connections that may wait to be accepted: what the library takes, too.
pub const CONNECTIONS_WAITING_MAX: u32 = 1_024;

/// How long a connection may take until the head of a request is there, and how long it may be idle
/// between two requests.
pub const REQUEST_HEAD_MAX: Duration = Duration::from_secs(30);
/// Bytes of a request's head: the longest URL has 65,534.
pub const REQUEST_HEAD_BYTES_MAX: usize = 128 << 10;
/// How long the body of a request may take to come.
pub const REQUEST_BODY_MAX: Duration = Duration::from_secs(10);
/// After how long a connection is closed that takes nothing of a response that waits; at most twice
/// as long. Since the system reports room only when a third of the buffer is free, a client that
/// reads some KB a second is safe.
pub const RESPONSE_STALL_MAX: Duration = Duration::from_secs(30);
/// How long to wait after an error of `accept`: the reason, no descriptor for one, may last.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How often it is logged that connections are refused.
pub const CONNECTIONS_REFUSED_LOGGED_EVERY: Duration = Duration::from_secs(60);
/// Connections to the port that serves `/metrics` alone; from one address as to the other port.
pub const METRICS_CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// Files that RocksDB keeps open at most, beside some that it writes.
pub const DATABASE_OPEN_FILES_MAX: i32 = 512;
/// Descriptors that are left to the database: those, its logs, and what a compaction writes.
pub const DATABASE_FILES_MAX: usize = DATABASE_OPEN_FILES_MAX as usize + 64;
/// Descriptors of the process itself: standard streams, ports, event queues, signals, files of the
/// configuration, connections that are about to be refused.
pub const OWN_FILES_MAX: usize = 64;

/// How long a `/ws` client that is closed for being slow may take to read why, and then to answer. What its
/// socket holds comes first, so it gets more time than others.
pub const CLIENT_LAST_WORDS_MAX: Duration = Duration::from_secs(10);

/// How long a `/ws` client may take to answer the close of its connection.
pub const CLIENT_CLOSE_MAX: Duration = Duration::from_secs(1);

/// How long `/ws` clients may take what is left for them when the gateway stops.
pub const CLIENT_DRAIN_MAX: Duration = Duration::from_secs(3);

/// Bytes of the secret that a follower and a gateway may share. Fewer than 16 can be guessed.
pub const SHARED_SECRET_BYTES_MIN: usize = 16;
/// See [`SHARED_SECRET_BYTES_MIN`].
pub const SHARED_SECRET_BYTES_MAX: usize = 256;

/// How long the registry's database may take for one statement, and how long a whole write may
/// take, from the wait for its turn to the answer to its COMMIT. Callers are people and their
/// requests, whose patience ends about there.
pub const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of [`REGISTRY_TIMEOUT`] a write keeps for its COMMIT. As much is left between the
/// server's own limit for locks and ours, so that the server can say what it waited for.
pub const REGISTRY_MARGIN: Duration = Duration::from_millis(500);
/// How long it may be until there is a connection to it. It leaves time to ask for the reason within
/// [`REGISTRY_TIMEOUT`].
pub const REGISTRY_CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long asking for the reason may take.
pub const REGISTRY_REASON_MAX: Duration = Duration::from_secs(1);
/// How long it may take from one row to the next where all of them are read: a sort of millions comes before the first.
pub const REGISTRY_ROWS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the registry's database may wait for a lock on our behalf: less than we wait for it, so that it says why.
pub const REGISTRY_LOCK_MAX: Duration = Duration::from_secs(4);
/// After how much silence the connection on which changes are told must show that it lives. A peer that is gone
/// without a word is noticed so late.
pub const REGISTRY_SILENCE_MAX: Duration = Duration::from_secs(15);
/// Changes of the registry that are told at once. What is beyond waits in the socket.
pub const REGISTRY_CHANGES_MAX: usize = 1_000;
/// Rows of the registry that one statement writes, or one chunk holds: some 500 KiB.
pub const REGISTRY_BATCH_ROWS: usize = 2_000;
/// How often a registry whose database is gone is tried again.
pub const REGISTRY_RETRY: Duration = Duration::from_secs(1);
/// How often one is tried again that somebody must mend.
pub const REGISTRY_RETRY_SELDOM: Duration = Duration::from_secs(10);
/// How long reading the registry may hold up the start. 100,000 follows take less than a second.
pub const REGISTRY_START_MAX: Duration = Duration::from_secs(15);

/// How far back the log is looked through for signals at the start, in sequences: so far back a follower need not look
/// for itself. It takes a second or two.
pub const SIGNALS_LOOK_BACK: u64 = 1_000_000;

/// Bots that one follower may follow: each of their signals is encrypted for it.
pub const FOLLOWS_MAX: usize = 1_000;
/// Connections to `/fanout` that one follower may have: each of them gets everything.
pub const FOLLOWER_CONNECTIONS_MAX: usize = 16;
/// Cursors that are kept of one follower.
pub const FOLLOWER_CONSUMERS_MAX: usize = 16;

/// Followers whose conversation keys are remembered, about 200 bytes each. Deriving one takes about 50 us.
pub const CONVERSATION_KEYS_MAX: usize = 100_000;

/// Bytes of the newest signals that are kept in memory for followers, about 2 KB each. Who is further behind reads
/// the log, where other events lie between.
pub const SIGNALS_BYTES_MAX: usize = 32 << 20;
/// Followers that read the log at once, because they are behind those.
pub const FOLLOWERS_BEHIND_MAX: usize = 4;
/// Threads that wait for the disk on behalf of followers.
pub const FANOUT_BLOCKING_THREADS_MAX: usize = 16;

/// How long a client of `/fanout` may take to prove its key after it has connected.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of what proves a key: an event with a few tags.
pub const PROOF_BYTES_MAX: usize = 8 << 10;
/// Seconds that a NIP-98 token may differ from our clock.
pub const TOKEN_SECS_MAX: u64 = 60;
/// Seconds that a NIP-42 answer may differ from our clock. The challenge is what makes it fresh.
pub const ANSWER_SECS_MAX: u64 = 600;
/// NIP-98 tokens that are remembered, about 50 bytes each, so that none is used twice. They expire after two minutes, so
/// that is 8,000 a second; more are refused.
pub const TOKENS_MAX: usize = 1_000_000;

/// Keys and addresses whose calls are counted at once, about 100 bytes each. When there are more, those that have all
/// their calls back are forgotten; if that is not enough, all are counted anew.
pub const CALLERS_MAX: usize = 100_000;

/// Followers that one answer lists at most.
pub const FOLLOWERS_LISTED_MAX: usize = 10_000;

/// A change of the wall clock against the time since boot that is a step. Adjusting a clock
/// gradually changes both.
pub const CLOCK_STEP_MIN: Duration = Duration::from_secs(5);
/// How often a step is looked for, beside every use of the clock that decides something.
pub const CLOCK_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How far a live event's date may be from our clock to agree with it: authors' clocks and slow
/// relays.
pub const CLOCK_AGREES_WITHIN: Duration = Duration::from_secs(60);
/// How long the dates of live events say something of our clock.
pub const CLOCK_VOTES_LAST: Duration = Duration::from_secs(20 * 60);
/// Relays whose events are counted for that, a few dozen bytes each; those beyond have no vote.
pub const CLOCK_VOTERS_MAX: usize = 256;
/// A start later than this after the newest event of the log does not delete by age at once: the
/// clock may be ahead.
pub const CLOCK_START_GAP_MAX: Duration = Duration::from_secs(3_600);
/// How long nothing is deleted for its age after that, or after a step, at least.
pub const CLOCK_DOUBT_MIN: Duration = Duration::from_secs(3_600);
