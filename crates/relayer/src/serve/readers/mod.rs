//! Readers: which clients may read, how much, and which events.
//!
//! Without configured readers, anyone may read. Otherwise a request needs the token of a
//! [`reader`], the operator's token, or a [ticket](tickets) of one of them. A [`Grant`] identifies
//! the caller of a request, and a [`Session`] is an admitted connection. Replacing the readers ends
//! the sessions of changed and removed readers.

mod metrics;
mod reader;
mod tickets;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use wire::VerifiedEvent;

pub use metrics::{ReadRefusal, ReaderMetrics};
pub(crate) use reader::Session;

use crate::config::ReaderConfig;
use crate::limits::{READS_REFUSED_LOGGED_EVERY, TICKETS_PER_READER_MAX};
use crate::receiver::Selection;
use reader::Reader;
use tickets::{Ticket, Tickets};

/// The configured readers. A reload replaces them.
#[derive(Debug)]
pub struct Readers {
    table: ArcSwap<Table>,
    tickets: Tickets,
    /// The tickets that the operator may have.
    admin_tickets: Arc<Semaphore>,
    /// Becomes true when the operator's token changes.
    admin_ended: Mutex<watch::Sender<bool>>,
    metrics: Arc<ReaderMetrics>,
    refusals: metrics::Refusals,
}

#[derive(Debug)]
struct Table {
    readers: Vec<Arc<Reader>>,
    /// Becomes true when anonymous reading ends, because there are readers now.
    anonymous_ended: Arc<watch::Sender<bool>>,
}

/// The numbers of readers that a replacement added, changed and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct ReadersReplaced {
    pub added: usize,
    /// Readers whose options changed. Their sessions ended, like those of removed readers.
    pub changed: usize,
    pub removed: usize,
}

/// The credential that a request presents.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    Nothing,
    Token(&'a [u8]),
    /// The operator's token.
    Admin,
    Ticket(&'a str),
}

/// Without the secret.
impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Token(_) => "Token(***)",
            Self::Admin => "Admin",
            Self::Ticket(_) => "Ticket(***)",
        })
    }
}

/// The caller of a request that may read.
#[derive(Debug, Clone)]
pub(crate) struct Grant(Holder);

#[derive(Debug, Clone)]
enum Holder {
    /// There are no readers, so anyone may read. The channel signals that the first reader was
    /// added.
    Anyone(watch::Receiver<bool>),
    /// The operator. The channel signals that the admin token has changed.
    Admin(watch::Receiver<bool>),
    Reader(Arc<Reader>),
}

/// Why a request may not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub reason: ReadRefusal,
    /// When the request may be repeated.
    pub retry_after: Option<Duration>,
}

impl From<ReadRefusal> for Refused {
    fn from(reason: ReadRefusal) -> Self {
        Self { reason, retry_after: None }
    }
}

impl Readers {
    pub(crate) fn new(configs: &[ReaderConfig], metrics: &Arc<ReaderMetrics>) -> Self {
        let readers = configs.iter().map(|config| Arc::new(Reader::new(config, metrics))).collect();
        Self {
            table: ArcSwap::from_pointee(Table { readers, anonymous_ended: ended() }),
            tickets: Tickets::default(),
            admin_tickets: Arc::new(Semaphore::new(TICKETS_PER_READER_MAX)),
            admin_ended: Mutex::default(),
            metrics: Arc::clone(metrics),
            refusals: metrics::Refusals::default(),
        }
    }

    /// Replaces the readers. Unchanged readers keep their sessions. Sessions of changed and removed
    /// readers end, and so do anonymous sessions if there is a reader now. Calls must not overlap.
    pub fn replace(&self, configs: &[ReaderConfig]) -> ReadersReplaced {
        let old = self.table.load_full();
        let mut replaced = ReadersReplaced::default();
        let readers = configs.iter().map(|config| {
            match old.readers.iter().find(|reader| reader.config.name == config.name) {
                Some(reader) if reader.config == *config => return Arc::clone(reader),
                Some(_) => replaced.changed += 1,
                None => replaced.added += 1,
            }
            Arc::new(Reader::new(config, &self.metrics))
        });
        let readers: Vec<_> = readers.collect();
        let is_kept = |reader: &Arc<Reader>| readers.iter().any(|kept| Arc::ptr_eq(kept, reader));
        let gone: Vec<_> = old.readers.iter().filter(|reader| !is_kept(reader)).cloned().collect();
        let (was_open, is_open) = (old.readers.is_empty(), readers.is_empty());
        let anonymous_ended = if was_open && is_open { Arc::clone(&old.anonymous_ended) } else { ended() };
        // Stored before sessions end, so that a client that reconnects meets the new readers.
        self.table.store(Arc::new(Table { readers, anonymous_ended }));
        for reader in gone {
            reader.revoke();
            if !configs.iter().any(|config| config.name == reader.config.name) {
                replaced.removed += 1;
                self.metrics.forget(&reader.config.name);
            }
        }
        if !is_open {
            old.anonymous_ended.send_replace(true);
        }
        replaced
    }

    /// Ends the sessions of the operator, whose token has changed.
    pub fn revoke_admin(&self) {
        let ended = std::mem::take(&mut *self.admin_ended.lock());
        ended.send_replace(true);
    }

    /// Decides whether a request with this credential may read, and counts the request.
    ///
    /// # Errors
    /// When the credential is missing or wrong, or the reader makes too many requests.
    pub(crate) fn admit(&self, credential: Credential<'_>) -> Result<Grant, Refused> {
        let table = self.table.load();
        if table.readers.is_empty() {
            return Ok(Grant(Holder::Anyone(table.anonymous_ended.subscribe())));
        }
        let holder = match credential {
            Credential::Nothing => return Err(ReadRefusal::NoToken.into()),
            Credential::Admin => Holder::Admin(self.admin_ended.lock().subscribe()),
            Credential::Token(token) => match reader_with(&table.readers, token) {
                Some(reader) => Holder::Reader(reader),
                None => return Err(ReadRefusal::WrongToken.into()),
            },
            Credential::Ticket(text) => match self.tickets.redeem(text, Instant::now()) {
                Some(grant) => grant.0,
                None => return Err(ReadRefusal::WrongTicket.into()),
            },
        };
        if let Holder::Reader(reader) = &holder {
            reader.count_request().map_err(|retry_after| Refused {
                reason: ReadRefusal::TooManyRequests,
                retry_after: Some(retry_after),
            })?;
        }
        Ok(Grant(holder))
    }

    /// Issues a ticket. One request may use it to read as this caller.
    ///
    /// # Errors
    /// When too many tickets of this caller are unused.
    pub(crate) fn issue_ticket(&self, grant: &Grant) -> Result<Ticket, Refused> {
        let room = match &grant.0 {
            // Without readers no ticket is needed, so none is stored.
            Holder::Anyone(_) => return Ok(Ticket::random()),
            Holder::Admin(_) => &self.admin_tickets,
            Holder::Reader(reader) => &reader.tickets,
        };
        self.tickets.issue(grant.clone(), room, Instant::now())
    }

    /// Counts a refusal, and logs it if its reason was not logged lately. `path` is the route's.
    pub(crate) fn refused(&self, reason: ReadRefusal, address: IpAddr, path: &str) {
        self.metrics.refused[reason].inc();
        if self.refusals.may_log(reason, READS_REFUSED_LOGGED_EVERY) {
            tracing::warn!(
                name: "read_refused",
                reason = <&str>::from(reason),
                %address,
                path,
                "a request was refused (reads_refused_total counts further ones)"
            );
        }
    }
}

fn ended() -> Arc<watch::Sender<bool>> {
    Arc::new(watch::Sender::new(false))
}

/// Compares a token with those of all readers, so that the duration does not reveal which one
/// matches.
fn reader_with(readers: &[Arc<Reader>], token: &[u8]) -> Option<Arc<Reader>> {
    readers
        .iter()
        .fold(None, |found, reader| if reader.has_token(token) { Some(reader) } else { found })
        .cloned()
}

impl Grant {
    fn reader(&self) -> Option<&Reader> {
        match &self.0 {
            Holder::Reader(reader) => Some(reader),
            Holder::Anyone(_) | Holder::Admin(_) => None,
        }
    }

    /// The reader's name; `None` for the operator and without readers.
    pub(crate) fn reader_name(&self) -> Option<&str> {
        self.reader().map(|reader| reader.config.name.as_str())
    }

    /// Whether the caller may read the state of the gateway. A reader with a selection may not: the
    /// state tells about all events.
    pub(crate) fn may_read_state(&self) -> bool {
        self.reader().is_none_or(|reader| reader.filter.is_none())
    }

    /// Whether the caller may see this event.
    pub(crate) fn wants(&self, event: &VerifiedEvent) -> bool {
        self.reader().and_then(|reader| reader.filter.as_ref()).is_none_or(|filter| filter.matches(event))
    }

    /// Reduces a client's selection to what the caller may see.
    pub(crate) fn narrow(&self, selection: Selection) -> Selection {
        match self.reader().and_then(|reader| reader.filter.as_ref()) {
            Some(filter) => selection.and(filter.clone()),
            None => selection,
        }
    }

    /// The maximum number of consumers of the caller; `None` if only the limit on all applies.
    pub(crate) fn consumers_max(&self) -> Option<usize> {
        self.reader().map(|reader| reader.config.options.max_consumers.get())
    }

    /// Begins a connection. It counts towards the reader's limit until the session is dropped.
    ///
    /// # Errors
    /// When the reader has too many connections.
    pub(crate) fn connect(&self) -> Result<Session, Refused> {
        match &self.0 {
            Holder::Anyone(ended) | Holder::Admin(ended) => Ok(Session::until(ended.clone())),
            Holder::Reader(reader) => reader.connect(),
        }
    }

    /// Whether the caller has lost its right to read.
    fn is_revoked(&self) -> bool {
        match &self.0 {
            Holder::Anyone(ended) | Holder::Admin(ended) => *ended.borrow(),
            Holder::Reader(reader) => reader.is_revoked(),
        }
    }
}

#[cfg(test)]
mod tests;
