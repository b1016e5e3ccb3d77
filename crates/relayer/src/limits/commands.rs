//! Limits of the commands that ask a running gateway.

use std::time::Duration;

/// How long `moltrade-relayer status` and `top` wait for one answer of the gateway.
pub(crate) const STATUS_CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long `moltrade-relayer status` waits for all answers. `top` waits as long for each refresh.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one answer that `moltrade-relayer status` reads: room for the metrics of thousands of
/// sinks.
pub(crate) const STATUS_ANSWER_BYTES_MAX: usize = 8 << 20;

/// How long `moltrade-relayer tail` waits for an answer. A consumer waits up to 5 s for the end of
/// the connection that it takes over.
pub(crate) const TAIL_CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a message that `moltrade-relayer tail` reads. The gateway admits smaller events.
pub(crate) const TAIL_MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Bytes of lines that wait for standard output before `tail` stops reading. The last line may
/// exceed the limit.
pub(crate) const TAIL_BUFFER_BYTES: usize = 1 << 20;
/// How often a quiet gateway sends the cursor.
pub(crate) const TAIL_HEARTBEAT: Duration = Duration::from_secs(30);
/// A connection on which nothing arrives for this long is dead: three heartbeats are missing.
pub(crate) const TAIL_SILENCE_MAX: Duration = Duration::from_secs(90);
/// How long the gateway may take to accept an acknowledgement.
pub(crate) const TAIL_SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `tail` may take, after it was stopped, to write the last lines and close the
/// connection.
pub(crate) const TAIL_CLOSE_MAX: Duration = Duration::from_secs(1);

/// Relays that `moltrade-relayer top` asks for at once: more than a screen shows, so that scrolling
/// within them needs no call.
pub(crate) const TOP_RELAYS_MAX: usize = 200;
/// Relays in a plain-text block of `top`.
pub(crate) const TOP_PLAIN_RELAYS_MAX: usize = 20;
/// Rates that `top` keeps: one for each column of a wide screen.
pub(crate) const TOP_HISTORY: usize = 512;
