//! NIP-77: finds the missing events of a window without receiving the events that the log has.
//!
//! Negentropy compares the ids in the log with the relay's; the missing events are then requested
//! by id. In this way, even a second with more events than the relay's cap can be proven. If
//! anything fails, the window is requested by `REQ`.

use std::collections::HashSet;
use std::sync::Arc;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use wire::{ClaimedId, ClientMessage, Filter};

use super::gaps::{note_progress, record};
use super::repair::Finding;
use crate::event_log::query::Known;
use crate::limits::{
    IDS_A_REQUEST_MAX, MISSING_IDS_MAX, RECONCILE_BYTES_MAX, RECONCILE_STEPS_MAX, RECONCILED_IDS_MAX,
};
use crate::relay::peer::{Capabilities, Form, RepairProgress};
use crate::relay::protocol::{
    AfterRefusal, Answer, Exchange, ExchangeError, Expected, Refusal, Reply, Window, by_ids,
};

/// The events of a window that the relay has and the log lacks.
enum Difference {
    Missing(Vec<ClaimedId>),
    /// The log has, or lacks, more events than one comparison allows.
    TooMuch,
    /// The comparison failed.
    Unknown,
}

/// How many windows may wait while another is compared. Each halving adds a window.
const HALVINGS_MAX: usize = 40;

/// If the missing events of a window take more than one and up to this many requests, the window is
/// divided to keep the order of events. More parts would cost too much: scanning the log for a part
/// takes longer the older the part is.
const ORDERED_PARTS_MAX: usize = 8;

/// The size of an id in a `REQ`: 64 hex digits, quotes and a comma.
const ID_BYTES: usize = 67;
/// The maximum size of the rest of a `REQ` by ids.
const MESSAGE_BYTES: usize = 200;
/// The smallest message limit that the negentropy library accepts.
const RECONCILE_BYTES_MIN: u64 = 4_096;

/// A reconciliation of windows with one relay.
pub(super) struct Reconciliation<'a> {
    exchange: &'a mut Exchange,
    progress: &'a mut RepairProgress,
}

impl<'a> Reconciliation<'a> {
    pub const fn new(exchange: &'a mut Exchange, progress: &'a mut RepairProgress) -> Self {
        Self { exchange, progress }
    }

    /// Reconciles a window and fetches the missing events; `false` if a part of the window failed.
    pub async fn run(&mut self, window: Window) -> Result<bool, ExchangeError> {
        let mut windows = vec![window];
        while let Some(window) = windows.pop() {
            let id = self.exchange.open_reconciliation();
            let difference = self.find_missing(window, &id).await?;
            self.exchange.close_open();
            if self.is_divided(&difference)
                && windows.len() < HALVINGS_MAX
                && let Some(halves) = window.halves(self.exchange.shared.log.clock().unix_secs())
            {
                windows.extend(halves);
                continue;
            }
            match difference {
                Difference::Missing(ids)
                    if ids.is_empty() && self.exchange.distrust(&Answer::default()).is_some() =>
                {
                    return Ok(false);
                }
                Difference::Missing(ids) if self.fetch(window, &ids).await? => {
                    let until = window.until.unwrap_or(u64::MAX);
                    record(self.exchange, vec![Finding::Proven(window.since, until)]).await;
                }
                Difference::Missing(_) | Difference::TooMuch | Difference::Unknown => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether to reconcile the window in halves: if it exceeds one comparison, or if its missing
    /// events need a few requests. Events of one second keep their order only within one answer.
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

    /// Finds the events of a window that the relay has and the log lacks.
    async fn find_missing(&mut self, window: Window, id: &str) -> Result<Difference, ExchangeError> {
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
            note_progress(self.exchange, self.progress, window, "negentropy");
            let step = match self.exchange.ask(id, Expected::Step, message).await {
                Some(Reply::Step(step)) => step,
                Some(Reply::Closed(reason)) => {
                    match self.exchange.after_refusal(&Refusal::parse(&reason)).await? {
                        // The reconciliation starts again. The ids found so far stay valid.
                        AfterRefusal::Retry => {
                            message = opening.clone();
                            continue;
                        }
                        AfterRefusal::RetryFew | AfterRefusal::Simplify | AfterRefusal::GiveUp => {
                            return Ok(Difference::Unknown);
                        }
                    }
                }
                Some(_) => return Ok(Difference::Unknown),
                None => {
                    self.exchange.peer.capabilities(Capabilities::note_no_reconciliation);
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

    /// Prepares the comparison with the log's events of the window.
    async fn begin_comparison(
        &self,
        window: Window,
    ) -> Result<Negentropy<'static, NegentropyStorageVector>, Difference> {
        let bytes_max = self.reconcile_bytes_max();
        if bytes_max < RECONCILE_BYTES_MIN {
            return Err(Difference::Unknown);
        }
        let (log, filter) = (Arc::clone(&self.exchange.shared.log), self.filter(window));
        // A scan competes with live events and cannot be cancelled, so it owns its permit.
        let permit = Arc::clone(&self.exchange.shared.scans).acquire_owned().await;
        let known = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            log.known(&filter, RECONCILED_IDS_MAX)
        });
        match known.await {
            Ok(Ok(Known::All(known))) => compare_with(known, bytes_max).map_err(|_| Difference::Unknown),
            Ok(Ok(Known::TooMany)) => Err(Difference::TooMuch),
            // The log reports its own read errors.
            Ok(Ok(Known::TooFarBack) | Err(_)) | Err(_) => Err(Difference::Unknown),
        }
    }

    /// Requests events by id; `false` if some do not arrive.
    async fn fetch(&mut self, window: Window, missing: &[ClaimedId]) -> Result<bool, ExchangeError> {
        let at_once = self.ids_at_once();
        let mut parts = missing.chunks(at_once);
        let mut part = parts.next();
        while let Some(ids) = part {
            note_progress(self.exchange, self.progress, window, "negentropy");
            let expected = Expected::ByIds(ids.iter().copied().collect());
            let reply = self.exchange.ask_backfill(expected, by_ids(ids.iter().copied())).await;
            self.exchange.pass_on_held().await;
            match reply {
                Some(Reply::ByIds(not_sent)) if not_sent.is_empty() => {
                    self.progress.events += ids.len() as u64;
                    part = parts.next();
                }
                Some(Reply::Closed(reason)) => {
                    match self.exchange.after_refusal(&Refusal::parse(&reason)).await? {
                        AfterRefusal::Retry => {}
                        AfterRefusal::RetryFew | AfterRefusal::Simplify | AfterRefusal::GiveUp => {
                            return Ok(false);
                        }
                    }
                }
                Some(_) | None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// NIP-77 allows one filter.
    fn filter(&self, window: Window) -> Filter {
        let form = Form { filters_max: 1, with_kinds: true };
        self.exchange.subscription.window(window, None, form).pop().unwrap_or_default()
    }

    fn message_bytes_max(&self) -> Option<usize> {
        let stated = self.exchange.peer.capabilities(|capabilities| {
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
            .exchange
            .peer
            .capabilities(|capabilities| capabilities.caps.limit())
            .map_or(usize::MAX, |limit| limit as usize);
        let room = self.message_bytes_max().map_or(usize::MAX, |bytes| bytes / ID_BYTES);
        cap.min(room).clamp(1, IDS_A_REQUEST_MAX)
    }
}

/// Prepares a comparison with the `known` events, in messages of at most `bytes_max` bytes.
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

fn hex(bytes: &[u8]) -> String {
    faster_hex::hex_string(bytes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode(text.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}
