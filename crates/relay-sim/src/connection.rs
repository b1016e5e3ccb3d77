//! One TCP connection: the upgrade, then moving bytes between the socket and the [`Session`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::codec::{self, ClientFrame, opcode};
use crate::faults::{Dice, Fault};
use crate::garbage::Then;
use crate::relay::{Behaviour, Control, Relay};
use crate::session::Session;
use crate::stats::Count;
use crate::world::World;

/// How long a client may take for its upgrade request.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// How much is read in one system call. Clients of relays say little.
const READ_BYTES: usize = 4 << 10;
/// An idle connection keeps no greater buffer than this.
const IDLE_BUFFER_BYTES: usize = 1 << 10;

/// Serves a connection until it ends. Errors of the socket end it, as a client that goes away does.
pub(crate) async fn serve(world: Arc<World>, stream: TcpStream) {
    _ = stream.set_nodelay(true);
    let mut inbox = Vec::new();
    let request = timeout(REQUEST_TIME_MAX, read_request(&stream, &mut inbox)).await;
    let Ok(Ok(request)) = request else { return };
    let number = request.path.strip_prefix("/r/").and_then(|number| number.parse::<usize>().ok());
    let Some(relay) = number.and_then(|number| world.relays.get(number)) else {
        return answer(&stream, &codec::http_response("404 Not Found", "text/plain", "no such relay\n"))
            .await;
    };
    let Some(key) = request.key else {
        let information = information(&world, relay);
        return answer(&stream, &codec::http_response("200 OK", "application/nostr+json", &information))
            .await;
    };
    let connection = relay.connections.fetch_add(1, Ordering::Relaxed);
    relay.counters.add(Count::Connections, 1);
    let mut dice = Dice::new(world.seed, relay.number, connection, &relay.faults);
    let faults = dice.connection_faults(&relay.faults);
    let control = relay.control.subscribe();
    let told = *control.borrow();
    if told.stopped || told.behaviour == Behaviour::Refusing || faults.contains(&Fault::Refuse) {
        return relay.counters.add(Count::Refused, 1);
    }
    if faults.contains(&Fault::RefuseUpgrade) {
        relay.counters.add(Count::Refused, 1);
        let response = codec::http_response("503 Service Unavailable", "text/plain", "come back later\n");
        return answer(&stream, &response).await;
    }
    relay.counters.add(Count::Upgrades, 1);
    let mut session = Session::new(Arc::clone(&world), relay.number, dice);
    session.out.extend_from_slice(codec::upgrade_response(&key).as_bytes());
    let drip = faults.iter().find_map(|fault| match fault {
        Fault::Drip(pause) => Some(*pause),
        _ => None,
    });
    relay.counters.add(Count::Drips, drip.is_some().into());
    if faults.contains(&Fault::Auth) || faults.contains(&Fault::AuthRequired) {
        session.challenge(faults.contains(&Fault::AuthRequired));
    }
    relay.open.fetch_add(1, Ordering::Relaxed);
    let connection =
        Connection { relay, stream: &stream, session, inbox, written: 0, then: Then::Goes, drip, control };
    _ = connection.run(told.drops).await;
    relay.open.fetch_sub(1, Ordering::Relaxed);
}

async fn read_request(stream: &TcpStream, inbox: &mut Vec<u8>) -> io::Result<codec::Request> {
    loop {
        stream.readable().await?;
        read(stream, inbox)?;
        match codec::take_request(inbox) {
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Reads what is there; nothing being there is no error, the end is.
fn read(stream: &TcpStream, inbox: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; READ_BYTES];
    match stream.try_read(&mut buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => {
            inbox.extend_from_slice(buffer.get(..length).unwrap_or_default());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sends a short answer; a client that does not take it goes without.
async fn answer(stream: &TcpStream, response: &str) {
    if stream.writable().await.is_ok() {
        _ = stream.try_write(response.as_bytes());
    }
}

/// NIP-11.
fn information(world: &World, relay: &Relay) -> String {
    let auth = relay.faults.iter().any(|(fault, _)| *fault == Fault::AuthRequired);
    let mut limitation = serde_json::json!({ "auth_required": auth });
    if let (Some(cap), Some(members)) = (world.cap, limitation.as_object_mut()) {
        members.insert("max_limit".to_owned(), cap.into());
    }
    let name = format!("simulated relay {}", relay.number);
    serde_json::json!({ "name": name, "software": "relay-sim", "supported_nips": [1, 11, 42],
        "limitation": limitation })
    .to_string()
}

struct Connection<'a> {
    relay: &'a Relay,
    stream: &'a TcpStream,
    session: Session,
    inbox: Vec<u8>,
    /// How much of the session's buffer the socket has taken.
    written: usize,
    /// What happens when the buffer is written.
    then: Then,
    drip: Option<Duration>,
    control: watch::Receiver<Control>,
}

impl Connection<'_> {
    /// `drops` is the number of drops that the relay was told before this connection.
    async fn run(mut self, drops: u64) -> io::Result<()> {
        let mut silent_until = None;
        loop {
            let told = *self.control.borrow_and_update();
            if told.stopped {
                self.say_goodbye();
                return Ok(());
            }
            if told.drops != drops {
                self.relay.counters.add(Count::Drops, 1);
                return Ok(());
            }
            let silent = told.behaviour == Behaviour::Stalled
                || self.then == Then::FallsSilent && self.is_written()
                || silent_until.is_some_and(|until| Instant::now() < until);
            if silent {
                tokio::select! {
                    changed = self.control.changed() => changed.map_err(io::Error::other)?,
                    () = sleep_until(silent_until.unwrap_or_else(Instant::now)), if silent_until.is_some() => {}
                }
                silent_until = silent_until.filter(|until| Instant::now() < *until);
                continue;
            }
            silent_until = None;
            self.write()?;
            if self.is_written() {
                match self.then {
                    Then::Drops => return Ok(()),
                    Then::Stalls(time) => {
                        silent_until = Some(Instant::now() + time);
                        self.then = Then::Goes;
                        continue;
                    }
                    Then::FallsSilent => continue,
                    Then::Goes => self.then = self.session.fill(),
                }
                if self.is_written() && self.then != Then::Goes {
                    continue;
                }
            } else if let Some(pause) = self.drip {
                silent_until = Some(Instant::now() + pause);
                self.read()?;
                continue;
            }
            self.wait().await?;
        }
    }

    fn is_written(&self) -> bool {
        self.session.out.is_empty()
    }

    /// Waits until the socket, the clock or a test wants something, and reads what the client says.
    async fn wait(&mut self) -> io::Result<()> {
        let interest = match self.is_written() {
            true => {
                if self.session.out.capacity() > IDLE_BUFFER_BYTES {
                    self.session.out = Vec::new();
                }
                Interest::READABLE
            }
            false => Interest::READABLE | Interest::WRITABLE,
        };
        let due = self.session.due().filter(|_| self.is_written());
        tokio::select! {
            ready = self.stream.ready(interest) => {
                if ready?.is_readable() {
                    self.read()?;
                }
            }
            changed = self.control.changed() => changed.map_err(io::Error::other)?,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        Ok(())
    }

    /// Gives the socket what it takes, or one byte if it drips.
    fn write(&mut self) -> io::Result<()> {
        loop {
            let left = self.session.out.get(self.written..).unwrap_or_default();
            let left = if self.drip.is_some() { left.get(..1).unwrap_or_default() } else { left };
            if left.is_empty() {
                break;
            }
            match self.stream.try_write(left) {
                Ok(length) => {
                    self.written += length;
                    self.relay.counters.add(Count::Bytes, length as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.drip.is_some() {
                break;
            }
        }
        if self.written == self.session.out.len() {
            self.session.out.clear();
            self.written = 0;
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        read(self.stream, &mut self.inbox)?;
        loop {
            let frame = codec::take_frame(&mut self.inbox);
            let Ok(frame) = frame else {
                self.relay.counters.add(Count::BadMessages, 1);
                return Err(io::ErrorKind::InvalidData.into());
            };
            let Some(ClientFrame { opcode, payload }) = frame else { break };
            match opcode {
                opcode::TEXT | opcode::BINARY => self.session.receive(&payload),
                opcode::PING => self.session.control(opcode::PONG, &payload),
                opcode::CLOSE => {
                    self.session.control(opcode::CLOSE, &payload);
                    self.then = Then::Drops;
                }
                _ => {}
            }
        }
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        Ok(())
    }

    /// Closes with "going away" if the socket takes it at once.
    fn say_goodbye(&mut self) {
        if self.then == Then::Goes && self.written == 0 {
            self.session.control(opcode::CLOSE, &1001_u16.to_be_bytes());
            self.session.out.drain(..self.session.out.len().saturating_sub(4));
            _ = self.write();
        }
    }
}
