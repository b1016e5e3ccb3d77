//! Limits of delivery: sinks, clients, followers, and the registry of follows.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::REQUEST_HEAD_BYTES_MAX;

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
/// Heartbeats that a sink may still acknowledge, 16 bytes each: those of more than an hour.
pub(crate) const HEARTBEATS_ACKNOWLEDGED_MAX: usize = 1_024;
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

// Receivers of the log, and clients of `/ws`, `/api/events/stream` and `/fanout`.

/// The intervals of heartbeats that a receiver may ask for, in seconds. A shorter one would cost
/// thousands of quiet clients more than their events do.
pub(crate) const HEARTBEAT_SECS: RangeInclusive<u64> = 5..=3_600;

/// How long a consumer of `/ws` waits for its previous connection to end. The previous connection
/// stops at once and writes one row, so only a stalled disk takes longer.
pub(crate) const CONSUMER_LEASE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The maximum size of a message from a `/ws` client. An acknowledgement is tiny; other messages
/// are ignored.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes that are gathered for one write to a `/ws` client. Even an idle client has such a buffer,
/// and a larger buffer saves hardly any system calls.
pub(crate) const CLIENT_FLUSH_BYTES: usize = 16 << 10;
/// Bytes of an event stream that are passed to the HTTP server at once. If they filled the server's
/// buffer, of [`REQUEST_HEAD_BYTES_MAX`], it would not run the client's task, which notices slow
/// clients.
pub(crate) const EVENT_STREAM_PIECE_BYTES: usize = REQUEST_HEAD_BYTES_MAX / 2;
/// How long a browser waits before it reconnects to an event stream that ended.
pub(crate) const EVENT_STREAM_RETRY: Duration = Duration::from_secs(1);
/// How long it waits if the gateway stops. A response other than 200, such as the 503 of a stopping
/// gateway, would keep the browser from trying again.
pub(crate) const EVENT_STREAM_STOP_RETRY: Duration = Duration::from_secs(10);
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

// Readers, and their tickets.

/// How long a ticket is valid: a page asks for it just before it connects.
pub(crate) const TICKET_LIFETIME: Duration = Duration::from_secs(30);
/// Unused tickets of one reader, about 100 bytes each.
pub(crate) const TICKETS_PER_READER_MAX: usize = 100;
/// How often refused reads are logged, by reason.
pub(crate) const READS_REFUSED_LOGGED_EVERY: Duration = Duration::from_secs(60);

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
