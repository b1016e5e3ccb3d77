//! Tickets: web pages present them in place of tokens, because `EventSource` and the WebSockets of
//! browsers cannot send headers.
//!
//! URLs are stored by proxies, logs and browsers. A ticket is therefore valid once and for a short
//! time, so that a stored ticket is useless.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::metrics::ReadRefusal;
use super::{Grant, Refused};
use crate::limits::TICKET_LIFETIME;

/// 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u128);

const DIGITS: usize = 32;

impl Ticket {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// The form that is sent.
    pub(crate) fn reveal(self) -> String {
        format!("{:0DIGITS$x}", self.0)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(***)")
    }
}

/// Tickets that were issued and not used.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Issued>);

#[derive(Debug, Default)]
struct Issued {
    tickets: HashMap<Ticket, Entry>,
    /// Expired tickets are removed when there are more tickets than this.
    sweep_above: usize,
}

#[derive(Debug)]
struct Entry {
    grant: Grant,
    expires: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Issued {
    /// Removes expired tickets. The next sweep comes when the number of tickets has doubled, so a
    /// ticket costs constant time on average.
    fn sweep(&mut self, now: Instant) {
        self.tickets.retain(|_, entry| entry.expires > now);
        self.sweep_above = 2 * self.tickets.len();
    }
}

impl Tickets {
    /// Issues a ticket, if `room` has a permit for it.
    pub(super) fn issue(&self, grant: Grant, room: &Arc<Semaphore>, now: Instant) -> Result<Ticket, Refused> {
        let mut issued = self.0.lock();
        if issued.tickets.len() >= issued.sweep_above || room.available_permits() == 0 {
            issued.sweep(now);
        }
        let permit = Arc::clone(room).try_acquire_owned();
        let permit = permit.map_err(|_| Refused {
            reason: ReadRefusal::TooManyTickets,
            retry_after: Some(TICKET_LIFETIME),
        })?;
        let ticket = Ticket::random();
        issued.tickets.insert(ticket, Entry { grant, expires: now + TICKET_LIFETIME, _permit: permit });
        Ok(ticket)
    }

    /// Uses up a ticket, and returns the caller to which it was issued. `None` if the ticket is
    /// unknown, used or expired, or the caller has lost its right to read.
    pub(super) fn redeem(&self, text: &str, now: Instant) -> Option<Grant> {
        let ticket = Ticket::parse(text)?;
        let entry = self.0.lock().tickets.remove(&ticket)?;
        (entry.expires > now && !entry.grant.is_revoked()).then_some(entry.grant)
    }
}
