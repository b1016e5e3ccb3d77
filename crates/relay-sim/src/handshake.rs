//! Handles TCP connections until they become WebSockets. NIP-11 requests and refused connections
//! never do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::faults::{Dice, Fault};
use crate::garbage::AfterWrite;
use crate::http::{self, Request};
use crate::information::{self, Information};
use crate::relay::{Behaviour, Control, Relay};
use crate::session::{Access, Eose, Session, Voice};
use crate::socket::Socket;
use crate::stats::Count;
use crate::world::{Up, World};

/// The time limit for receiving a client's request, and for sending a response that ends the
/// connection.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Serves a connection until it ends. A socket error is treated like a disconnect of the client.
pub(crate) async fn serve<S: Socket>(world: Arc<World>, mut socket: S) {
    _ = socket.tcp().set_nodelay(true);
    let dialling = world.dialling.up();
    let mut inbox = Vec::new();
    let request = timeout(REQUEST_TIME_MAX, read_request(&mut socket, &mut inbox)).await;
    let Ok(Ok(request)) = request else { return };
    let number = request.path.strip_prefix("/r/").and_then(|number| number.parse::<usize>().ok());
    let Some(relay) = number.and_then(|number| world.relays.get(number)) else {
        return answer(&mut socket, "404 Not Found", "text/plain", "no such relay\n").await;
    };
    match &request.key {
        Some(key) => upgrade(&world, relay, socket, inbox, &request, key, dialling).await,
        None => {
            drop(dialling);
            inform(relay, &mut socket, &request).await;
        }
    }
}

async fn read_request<S: Socket>(socket: &mut S, inbox: &mut Vec<u8>) -> io::Result<Request> {
    loop {
        ready(socket, Interest::READABLE).await?;
        socket.read(inbox)?;
        match http::take_request(inbox) {
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Waits for the TCP connection, and flushes the socket.
async fn ready<S: Socket>(socket: &mut S, interest: Interest) -> io::Result<()> {
    let interest = if socket.owes() { interest | Interest::WRITABLE } else { interest };
    socket.tcp().ready(interest).await?;
    socket.pay()
}

async fn write_all<S: Socket>(socket: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() || socket.owes() {
        ready(socket, Interest::WRITABLE).await?;
        match socket.write(bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends a response that ends the connection, as far as the client accepts it.
async fn answer<S: Socket>(socket: &mut S, status: &str, content_type: &str, body: &str) {
    let response = http::response(status, content_type, body);
    _ = timeout(REQUEST_TIME_MAX, write_all(socket, response.as_bytes())).await;
    socket.finish();
}

/// Keeps a silent connection until the client or a test ends it.
async fn hold<S: Socket>(socket: &mut S, mut control: watch::Receiver<Control>) {
    let drops = control.borrow_and_update().drops;
    let mut ignored = Vec::new();
    loop {
        tokio::select! {
            ready = ready(socket, Interest::READABLE) => {
                ignored.clear();
                if ready.is_err() || socket.read(&mut ignored).is_err() {
                    return;
                }
            }
            changed = control.changed() => {
                let told = *control.borrow_and_update();
                if changed.is_err() || told.stopped || told.drops != drops {
                    return;
                }
            }
        }
    }
}

/// Answers a request that is not a WebSocket upgrade, with the NIP-11 document or a page for
/// humans.
async fn inform<S: Socket>(relay: &Relay, socket: &mut S, request: &Request) {
    const JSON: &str = "application/nostr+json";
    if !request.accept.contains(JSON) {
        return answer(socket, "200 OK", "text/plain", "a simulated relay, for Nostr clients\n").await;
    }
    relay.counters.add(Count::Information, 1);
    relay.note_user_agent(request.user_agent.clone());
    match &relay.policy.information {
        Information::True | Information::Altered(_) => {
            let document = information::document(relay.number, &relay.policy, &relay.faults);
            answer(socket, "200 OK", JSON, &document).await;
        }
        Information::NotFound => answer(socket, "404 Not Found", "text/plain", "no such page\n").await,
        Information::Garbage => answer(socket, "200 OK", JSON, information::GARBAGE).await,
        Information::Endless => {
            let mut sent = write_all(socket, information::ENDLESS_START.as_bytes()).await;
            while sent.is_ok() {
                sent = write_all(socket, information::ENDLESS).await;
            }
        }
        Information::Hanging => hold(socket, relay.control.subscribe()).await,
    }
}

/// Upgrades the connection to a WebSocket and serves it, unless a fault prevents the upgrade.
async fn upgrade<S: Socket>(
    world: &Arc<World>,
    relay: &Relay,
    mut socket: S,
    inbox: Vec<u8>,
    request: &Request,
    key: &str,
    dialling: Up<'_>,
) {
    relay.note_user_agent(request.user_agent.clone());
    let connection = relay.connections.fetch_add(1, Ordering::Relaxed);
    relay.counters.add(Count::Connections, 1);
    if let Some(resumed) = socket.resumed() {
        relay.counters.add(if resumed { Count::TlsResumed } else { Count::TlsFull }, 1);
    }
    let mut dice = Dice::new(world.seed, relay.number, connection, &relay.faults);
    let faults = dice.connection_faults(&relay.faults);
    let control = relay.control.subscribe();
    let told = *control.borrow();
    if told.stopped || told.behaviour == Behaviour::Refusing || faults.contains(&Fault::Refuse) {
        return relay.counters.add(Count::Refused, 1);
    }
    if faults.contains(&Fault::RefuseUpgrade) {
        relay.counters.add(Count::Refused, 1);
        let body = "come back later\n";
        return answer(&mut socket, "503 Service Unavailable", "text/plain", body).await;
    }
    if faults.contains(&Fault::NeverUpgrade) {
        relay.counters.add(Count::Refused, 1);
        return hold(&mut socket, control).await;
    }
    for fault in &faults {
        if let Fault::SlowUpgrade(time) = fault {
            sleep(*time).await;
        }
    }
    drop(dialling);
    relay.counters.add(Count::Upgrades, 1);
    let mut session = Session::new(Arc::clone(world), relay.number, voice(&faults), dice);
    session.out.extend_from_slice(http::upgrade_response(key).as_bytes());
    if let Some(access) = access(&faults) {
        session.expect(access, &format!("{}{}", request.host, request.path));
        if !faults.contains(&Fault::AuthLate) && !faults.contains(&Fault::AuthHeld) {
            session.challenge();
        }
    }
    session.flood = faults.iter().find_map(|fault| match fault {
        Fault::Flood(flood) => Some(*flood),
        _ => None,
    });
    session.delay_eose(eose(&faults));
    let drip = faults.iter().find_map(|fault| match fault {
        Fault::Drip(pause) => Some(*pause),
        _ => None,
    });
    relay.counters.add(Count::Drips, drip.is_some().into());
    relay.open.fetch_add(1, Ordering::Relaxed);
    let connection =
        Connection { relay, socket, session, inbox, drip, control, written: 0, then: AfterWrite::Goes };
    _ = connection.run(told.drops).await;
    relay.open.fetch_sub(1, Ordering::Relaxed);
}

/// The messages that a relay with these faults sends.
fn voice(faults: &[Fault]) -> Voice {
    let voices =
        [(Fault::Mute, Voice::Nothing), (Fault::Silent, Voice::NoEvents), (Fault::NoPongs, Voice::NoPongs)];
    let found = voices.into_iter().find(|(fault, _)| faults.contains(fault));
    found.map_or(Voice::All, |(_, voice)| voice)
}

/// When a relay with these faults sends EOSE.
fn eose(faults: &[Fault]) -> Eose {
    let mut delays = faults.iter().filter_map(|fault| match fault {
        Fault::NoEose => Some(Eose::Never),
        Fault::LateEose(time) => Some(Eose::After(*time)),
        _ => None,
    });
    delays.next_back().unwrap_or_default()
}

/// What a client may do before and after proving a key; `None` if the relay requests no key.
fn access(faults: &[Fault]) -> Option<Access> {
    if faults.contains(&Fault::AuthRestricted) {
        Some(Access::Restricted { proved: false })
    } else if faults.contains(&Fault::AuthHeld) {
        Some(Access::Held)
    } else if faults.contains(&Fault::AuthEmpty) {
        Some(Access::Empty)
    } else if faults.contains(&Fault::AuthUnconfirmed) {
        Some(Access::Unconfirmed)
    } else if faults.contains(&Fault::AuthRequired) || faults.contains(&Fault::AuthLate) {
        Some(Access::Required)
    } else {
        faults.contains(&Fault::Auth).then_some(Access::Open)
    }
}
