//! Produces a relay's messages on one connection: stored events, live events, injections, and
//! faults in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use wire::{RelayMessage, Signer};

use super::{Eose, Session, Subscription, Voice};
use crate::codec::{opcode, write_frame, write_header};
use crate::corpus::{Item, Origin, Poison, oversized, poison};
use crate::endings::EndingPlace;
use crate::faults::Fault;
use crate::flood::write_flood;
use crate::garbage::{AfterWrite, write_garbage};
use crate::limits::Refused;
use crate::relay::{Held, Injected, Relay};
use crate::stats::Count;
use crate::world::{World, now_us};

/// The buffer size at which no more messages are added: about a hundred typical frames, for one
/// system call.
const BUFFER_BYTES: usize = 64 << 10;

/// The author of events made by faults.
const POISONER: u64 = 0x0BAD;

impl Session {
    /// When the next message is due, if nothing can be sent now; `None` if no message is scheduled.
    pub fn due(&self) -> Option<Instant> {
        let eose = self.subscriptions.iter().filter_map(|open| open.eose_at).min();
        let waits = !self.subscriptions.is_empty() && self.has_events();
        let relay = self.world.relays.get(self.relay).filter(|_| waits);
        let live = relay.and_then(|relay| relay.due(&self.world, self.planned_at));
        eose.into_iter().chain(live).min()
    }

    /// Appends pending messages until the buffer is full, and returns how the connection continues.
    pub fn fill(&mut self) -> AfterWrite {
        let world = Arc::clone(&self.world);
        let Some(relay) = world.relays.get(self.relay) else { return AfterWrite::Drops };
        let now = now_us();
        let mut then = match self.voice {
            Voice::Nothing => AfterWrite::Goes,
            _ => self.fill_backlogs(&world, now),
        };
        if then == AfterWrite::Goes && self.out.len() < BUFFER_BYTES {
            then = self.fill_injected(relay, now);
        }
        if then == AfterWrite::Goes && !self.subscriptions.is_empty() && self.has_events() {
            then = self.fill_live(&world, relay, now);
        }
        if let Some(flood) = self.flood.filter(|_| then == AfterWrite::Goes && !self.subscriptions.is_empty())
        {
            while self.out.len() < BUFFER_BYTES {
                let frames = write_flood(&mut self.out, flood);
                self.figures.add(Count::Flood, frames);
                self.figures.add(Count::Frames, frames);
            }
        }
        relay.counters.take(&mut self.figures);
        then
    }

    /// Sends EOSE, and CLOSED if the subscription ends at EOSE.
    fn end_stored(&mut self, place: usize) {
        let Some(open) = self.subscriptions.get_mut(place) else { return };
        open.eose_at = None;
        let (id, hints) = (open.id.clone(), open.hints);
        let ends = open.ending.take_if(|(ending, _)| *ending != EndingPlace::AtFirstEvent);
        let eose = RelayMessage::Eose { subscription: id.clone().into(), hints };
        let Some((ending, reason)) = ends else { return self.say(&eose, Count::Eose) };
        self.subscriptions.remove(place);
        let closed = RelayMessage::Closed { subscription: id.into(), reason: reason.into() };
        if ending == EndingPlace::BehindEose {
            self.say(&eose, Count::Eose);
        }
        self.say(&closed, Count::Closed);
        if ending == EndingPlace::BeforeEose {
            self.say(&eose, Count::Eose);
        }
    }

    /// Sends the delayed EOSEs that are due.
    fn fill_late_eose(&mut self) {
        let is_due = |open: &Subscription| open.eose_at.is_some_and(|at| at <= Instant::now());
        while let Some(place) = self.subscriptions.iter().position(is_due) {
            self.end_stored(place);
        }
    }

    fn fill_backlogs(&mut self, world: &World, now: u64) -> AfterWrite {
        self.fill_late_eose();
        let mut place = 0;
        while let Some(subscription) = self.subscriptions.get_mut(place) {
            let Some(backlog) = &mut subscription.backlog else {
                place += 1;
                continue;
            };
            match backlog.pop() {
                None if self.eose == Eose::Never => subscription.backlog = None,
                None if self.eose != Eose::Next => {
                    subscription.eose_at = match self.eose {
                        Eose::After(time) => Some(Instant::now() + time),
                        Eose::Next | Eose::Never => None,
                    };
                    subscription.backlog = None;
                }
                None => {
                    subscription.backlog = None;
                    self.end_stored(place);
                }
                Some(held) => {
                    let then = match &held {
                        Held::Planned(number) => match world.item(*number as usize) {
                            Some(item) => self.send(place, item, Some(*number), now),
                            None => AfterWrite::Goes,
                        },
                        Held::Injected(item) => self.send(place, item, None, now),
                    };
                    if then != AfterWrite::Goes || self.out.len() >= BUFFER_BYTES {
                        return then;
                    }
                }
            }
        }
        AfterWrite::Goes
    }

    fn fill_injected(&mut self, relay: &Relay, now: u64) -> AfterWrite {
        while self.out.len() < BUFFER_BYTES
            && let Some(injected) = relay.injection(self.injected_at)
        {
            let this = self.injected_at;
            self.injected_at += 1;
            match injected {
                Injected::Raw(bytes) => {
                    self.out.extend_from_slice(&bytes);
                    self.count(Count::Raw);
                }
                Injected::Closed(reason) => self.close_all(&reason),
                Injected::Replaced => {}
                Injected::Event(_) if !self.has_events() => {}
                Injected::Event(item) => {
                    let then = self.send_to_all(&item, None, now, |open| this >= open.live_from.injected);
                    if then != AfterWrite::Goes {
                        return then;
                    }
                }
            }
        }
        AfterWrite::Goes
    }

    fn fill_live(&mut self, world: &World, relay: &Relay, now: u64) -> AfterWrite {
        let mut then = AfterWrite::Goes;
        let sendable = relay.sendable(world);
        while then == AfterWrite::Goes && self.out.len() < BUFFER_BYTES && self.planned_at < sendable {
            let this = self.planned_at;
            self.planned_at += 1;
            let Some(number) = relay.entry(this).map(|entry| entry.item) else { break };
            let Some(item) = world.item(number as usize) else { continue };
            then = self.send_to_all(item, Some(number), now, |open| this >= open.live_from.planned);
        }
        relay.sent.fetch_max(self.planned_at, Ordering::AcqRel);
        then
    }

    fn send_to_all(
        &mut self,
        item: &Item,
        number: Option<u32>,
        now: u64,
        is_live: impl Fn(&Subscription) -> bool,
    ) -> AfterWrite {
        let mut place = 0;
        while let Some(subscription) = self.subscriptions.get(place) {
            let open = self.subscriptions.len();
            if is_live(subscription) && subscription.wants(item) {
                if let Some((_, reason)) = &subscription.ending {
                    let (reason, id) = (reason.clone(), subscription.id.clone());
                    self.subscriptions.remove(place);
                    self.refuse(id, Refused::closed(reason));
                    continue;
                }
                let then = self.send(place, item, number, now);
                if then != AfterWrite::Goes {
                    return then;
                }
            }
            // If a fault has closed the subscription, the next one has taken its index.
            place += usize::from(self.subscriptions.len() == open);
        }
        AfterWrite::Goes
    }

    /// Sends an event to a subscription, unless a fault intervenes. The event is stored in any
    /// case, and the client's next request returns it.
    fn send(&mut self, place: usize, item: &Item, number: Option<u32>, now: u64) -> AfterWrite {
        let mut then = AfterWrite::Goes;
        match self.dice.before_frame() {
            None => {}
            Some(Fault::Garbage(garbage)) => {
                let then = write_garbage(&mut self.out, garbage, &item.text, self.dice.rng());
                self.count(Count::Frames);
                self.count(garbage.into());
                if then == AfterWrite::Drops {
                    self.count(Count::Drops);
                }
                if then != AfterWrite::Goes {
                    return then;
                }
            }
            Some(Fault::Notice) => {
                self.say(&RelayMessage::Notice("rate-limited: slow down".into()), Count::Notices);
            }
            Some(Fault::Ping) => self.control(opcode::PING, b"are you there?"),
            Some(Fault::Closed) => {
                let subscription = self.subscriptions.remove(place).id.into();
                let reason = "error: shutting down idle subscription".into();
                self.say(&RelayMessage::Closed { subscription, reason }, Count::Closed);
                return AfterWrite::Goes;
            }
            Some(Fault::Repeat) => {
                self.count(Count::Repeated);
                self.write_event(place, item, number, now, false);
            }
            Some(Fault::Fragment) => {
                self.count(Count::Fragmented);
                self.write_event(place, item, number, now, true);
                return AfterWrite::Goes;
            }
            Some(Fault::Stall(time)) => {
                self.count(Count::Stalls);
                then = AfterWrite::Stalls(time);
            }
            Some(Fault::Close(code)) => {
                let payload = [&code.to_be_bytes()[..], b"simulated: that was enough"].concat();
                self.control(opcode::CLOSE, &payload);
                return AfterWrite::Drops;
            }
            Some(Fault::Poison) => self.write_poison(place, item.claims.created_at()),
            Some(Fault::Oversized) => self.write_oversized(place, item.claims.created_at()),
            Some(Fault::HalfOpen) => {
                self.count(Count::HalfOpen);
                return AfterWrite::FallsSilent;
            }
            Some(_) => {
                self.count(Count::Drops);
                return AfterWrite::Drops;
            }
        }
        self.write_event(place, item, number, now, false);
        then
    }

    fn write_poison(&mut self, place: usize, created_at: u64) {
        self.made += 1;
        let sort = self.dice.rng().pick(&Poison::ALL).copied().unwrap_or(Poison::Kind);
        let text = poison(&Signer::from_seed(POISONER), sort, created_at, self.made);
        self.write_made(place, &text, Count::Poison);
    }

    fn write_oversized(&mut self, place: usize, created_at: u64) {
        self.made += 1;
        let bytes = self.dice.rng().between(300_000, 1_000_000);
        let text = oversized(&Signer::from_seed(POISONER), created_at, bytes, self.made.is_multiple_of(2));
        self.write_made(place, &text, Count::Oversized);
    }

    /// Writes an event made by a fault.
    fn write_made(&mut self, place: usize, text: &[u8], count: Count) {
        let Some(subscription) = self.subscriptions.get(place) else { return };
        let frame = [&subscription.prefix[..], text, b"]"].concat();
        write_frame(&mut self.out, opcode::TEXT, &frame);
        self.count(Count::Frames);
        self.count(count);
    }

    fn write_event(&mut self, place: usize, item: &Item, number: Option<u32>, now: u64, fragmented: bool) {
        let Some(subscription) = self.subscriptions.get(place) else { return };
        let (prefix, out) = (&subscription.prefix, &mut self.out);
        let length = prefix.len() + item.text.len() + 1;
        if fragmented {
            write_header(out, opcode::TEXT, false, prefix.len());
            out.extend_from_slice(prefix);
            write_header(out, opcode::CONTINUATION, true, length - prefix.len());
        } else {
            write_header(out, opcode::TEXT, true, length);
            out.extend_from_slice(prefix);
        }
        out.extend_from_slice(&item.text);
        out.push(b']');
        self.figures.add(Count::Frames, 1);
        match item.origin {
            Origin::Genuine => {
                self.figures.add(Count::Genuine, 1);
                if number.is_some_and(|number| self.world.note_sent(number as usize, now)) {
                    self.figures.add(Count::First, 1);
                }
            }
            Origin::Forged(_) => self.figures.add(Count::Forged, 1),
            Origin::Invalid => self.figures.add(Count::Invalid, 1),
        }
    }
}
