//! NIP-77: finds out which events of a span are missing without being sent those that are known.
//!
//! What the log has of the span is compared with what the relay has, by negentropy; the missing events are
//! then asked for by their ids. That proves even what no `REQ` can: a second with more events than the
//! relay's cap. Whatever goes wrong is no loss: the span is asked for by `REQ` then.

use std::collections::HashSet;
use std::sync::Arc;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use wire::{ClaimedId, ClientMessage, Filter};

use super::repair::{Answer, Finding, Window};
use crate::event_log::query::Known;
use crate::limits::{
    IDS_A_REQUEST_MAX, MISSING_IDS_MAX, RECONCILE_BYTES_MAX, RECONCILE_STEPS_MAX, RECONCILED_IDS_MAX,
};
use crate::relay::link::{Conversation, DisconnectReason, Then};
use crate::relay::peer::Capabilities;
use crate::relay::protocol::{Expected, Refusal, Reply, by_ids};

/// What the log lacks of a window.
enum Difference {
    /// These events.
    Missing(Vec<ClaimedId>),
    /// More is known of it, or missing, than is compared at once.
    TooMuch,
    /// It cannot be found out.
    Unknown,
}

/// Windows that wait while a part of them is compared: each halving adds one.
const HALVINGS_MAX: usize = 40;

/// Requests by ids up to which a window is divided instead. Each look at the log for a part costs
/// more the older the part is.
const ORDERED_PARTS_MAX: usize = 8;

/// What an id takes in a `REQ`: 64 hex digits, quotes and a comma.
const ID_BYTES: usize = 67;
/// What the rest of such a message takes, at most.
const MESSAGE_BYTES: usize = 200;
/// The least that negentropy can work with.
const RECONCILE_BYTES_MIN: u64 = 4_096;

impl Conversation {
    /// Reconciles a window, and asks for what is missing; `false` if that does not work out for all of it.
    pub(crate) async fn reconcile(&mut self, window: Window) -> Result<bool, DisconnectReason> {
        let mut windows = vec![window];
        while let Some(window) = windows.pop() {
            let id = self.requests.next_reconciliation();
            self.open = Some((id.clone(), closing(&id)));
            let difference = self.find_missing(window, &id).await?;
            self.end_open();
            if self.is_divided(&difference)
                && windows.len() < HALVINGS_MAX
                && let Some(halves) = window.halves(self.shared.log.clock().unix_secs())
            {
                windows.extend(halves);
                continue;
            }
            match difference {
                Difference::Missing(ids)
                    if ids.is_empty() && self.distrusts(&Answer::default()).is_some() =>
                {
                    return Ok(false);
                }
                Difference::Missing(ids) if self.fetch(window, &ids).await? => {
                    let until = window.until.unwrap_or(u64::MAX);
                    self.found(vec![Finding::Proven(window.since, until)]).await;
                }
                Difference::Missing(_) | Difference::TooMuch | Difference::Unknown => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether the window is reconciled in halves. Events of one second keep their order only
    /// within one answer, so what one request does not fetch is divided, too, unless that takes
    /// many requests.
    fn is_divided(&self, difference: &Difference) -> bool {
        match difference {
            Difference::TooMuch => true,
            Difference::Missing(ids) => {
                let parts = ids.len().div_ceil(self.ids_at_once());
                (2..=ORDERED_PARTS_MAX).contains(&parts)
            }
            Difference::Unknown => false,
        }
    }

    /// What the relay has of a window and the log has not.
    async fn find_missing(&mut self, window: Window, id: &str) -> Result<Difference, DisconnectReason> {
        let mut comparison = match self.begin_comparison(window).await {
            Ok(comparison) => comparison,
            Err(difference) => return Ok(difference),
        };
        let Ok(first) = comparison.initiate() else { return Ok(Difference::Unknown) };
        let message = ClientMessage::NegOpen {
            subscription: id.into(),
            filter: self.filter(window),
            message: hex(&first).into(),
        };
        let opening = message.to_json();
        let (mut message, mut missing) = (opening.clone(), Vec::new());
        for _ in 0..RECONCILE_STEPS_MAX {
            self.note_progress(window, "negentropy");
            let step = match self.ask(id, Expected::Step, message).await {
                Some(Reply::Step(step)) => step,
                Some(Reply::Closed(reason)) => match self.refused(&Refusal::parse(&reason)).await? {
                    // A reconciliation that was refused midway begins anew; what was found so far is right.
                    Then::Again => {
                        message = opening.clone();
                        continue;
                    }
                    Then::Later | Then::Otherwise | Then::Never => return Ok(Difference::Unknown),
                },
                Some(_) => return Ok(Difference::Unknown),
                None => {
                    self.peer.capabilities(Capabilities::note_no_reconciliation);
                    return Ok(Difference::Unknown);
                }
            };
            let next = unhex(&step)
                .and_then(|step| comparison.reconcile_with_ids(&step, &mut Vec::new(), &mut missing).ok());
            let end = match next {
                Some(Some(next)) if missing.len() <= MISSING_IDS_MAX => {
                    let subscription = id.into();
                    message = ClientMessage::NegMsg { subscription, message: hex(&next).into() }.to_json();
                    continue;
                }
                Some(Some(_)) => Difference::TooMuch,
                Some(None) => {
                    let missing: HashSet<Id> = missing.into_iter().collect();
                    let ids = missing.into_iter().map(|id| ClaimedId::from_bytes(id.to_bytes()));
                    Difference::Missing(ids.collect())
                }
                None => Difference::Unknown,
            };
            return Ok(end);
        }
        Ok(Difference::Unknown)
    }

    /// The comparison with what the log has of the window, or why there is none.
    async fn begin_comparison(
        &self,
        window: Window,
    ) -> Result<Negentropy<'static, NegentropyStorageVector>, Difference> {
        let bytes_max = self.reconcile_bytes_max();
        if bytes_max < RECONCILE_BYTES_MIN {
            return Err(Difference::Unknown);
        }
        let (log, filter) = (Arc::clone(&self.shared.log), self.filter(window));
        // Reading takes time from live events, and cannot be broken off: its permit stays with it.
        let permit = Arc::clone(&self.shared.scans).acquire_owned().await;
        let known = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            log.known(&filter, RECONCILED_IDS_MAX)
        });
        match known.await {
            Ok(Ok(Known::All(known))) => compare_with(known, bytes_max).map_err(|_| Difference::Unknown),
            Ok(Ok(Known::TooMany)) => Err(Difference::TooMuch),
            // The log itself tells the process when it cannot be read.
            Ok(Ok(Known::TooFarBack) | Err(_)) | Err(_) => Err(Difference::Unknown),
        }
    }

    /// Asks for events by their ids; `false` if some do not come.
    async fn fetch(&mut self, window: Window, missing: &[ClaimedId]) -> Result<bool, DisconnectReason> {
        let at_once = self.ids_at_once();
        let mut parts = missing.chunks(at_once);
        let mut part = parts.next();
        while let Some(ids) = part {
            self.note_progress(window, "negentropy");
            let expected = Expected::ByIds(ids.iter().copied().collect());
            let reply = self.ask_past(expected, by_ids(ids.iter().copied())).await;
            self.pass_on_held().await;
            match reply {
                Some(Reply::ByIds(not_sent)) if not_sent.is_empty() => {
                    self.progress.events += ids.len() as u64;
                    part = parts.next();
                }
                Some(Reply::Closed(reason)) => match self.refused(&Refusal::parse(&reason)).await? {
                    Then::Again => {}
                    Then::Later | Then::Otherwise | Then::Never => return Ok(false),
                },
                Some(_) | None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// NIP-77 takes one filter.
    fn filter(&self, window: Window) -> Filter {
        let form = crate::relay::protocol::Form { filters_max: 1, with_kinds: true };
        self.subscription.window(window, None, form).pop().unwrap_or_default()
    }

    fn message_bytes_max(&self) -> Option<usize> {
        let stated = self.peer.capabilities(|capabilities| {
            capabilities.information().and_then(|information| information.max_message_length)
        });
        stated.map(|bytes| (bytes.get() as usize).saturating_sub(MESSAGE_BYTES))
    }

    fn reconcile_bytes_max(&self) -> u64 {
        let stated = self.message_bytes_max().map_or(u64::MAX, |bytes| bytes as u64 / 2);
        stated.min(RECONCILE_BYTES_MAX)
    }

    fn ids_at_once(&self) -> usize {
        let cap = self
            .peer
            .capabilities(|capabilities| capabilities.caps.limit())
            .map_or(usize::MAX, |limit| limit as usize);
        let room = self.message_bytes_max().map_or(usize::MAX, |bytes| bytes / ID_BYTES);
        cap.min(room).clamp(1, IDS_A_REQUEST_MAX)
    }
}

/// A comparison with these events, whose messages have at most so many bytes.
fn compare_with(
    known: Vec<(u64, ClaimedId)>,
    bytes_max: u64,
) -> Result<Negentropy<'static, NegentropyStorageVector>, negentropy::Error> {
    let mut storage = NegentropyStorageVector::with_capacity(known.len());
    for (created_at, id) in known {
        storage.insert(created_at, Id::from_byte_array(*id.as_bytes()))?;
    }
    storage.seal()?;
    Negentropy::owned(storage, bytes_max)
}

/// What ends a reconciliation.
fn closing(id: &str) -> String {
    ClientMessage::NegClose { subscription: id.into() }.to_json()
}

fn hex(bytes: &[u8]) -> String {
    faster_hex::hex_string(bytes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode(text.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}
