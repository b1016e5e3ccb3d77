//! One WebSocket: moves bytes between the socket and the [`Session`].

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::codec::{self, ClientFrame, opcode};
use crate::garbage::AfterWrite;
use crate::relay::{Behaviour, Control, Relay};
use crate::session::Session;
use crate::socket::Socket;
use crate::stats::Count;

/// The largest buffer of an idle connection.
const IDLE_BUFFER_BYTES: usize = 1 << 10;

/// A WebSocket that a relay serves.
pub(crate) struct Connection<'a, S> {
    pub relay: &'a Relay,
    pub socket: S,
    pub session: Session,
    /// Bytes that were read but not decoded.
    pub inbox: Vec<u8>,
    /// Writes one byte at a time, with this pause after each.
    pub drip: Option<Duration>,
    pub control: watch::Receiver<Control>,
    /// How much of the session's buffer the socket has accepted.
    pub written: usize,
    /// The action after the buffer is written.
    pub then: AfterWrite,
}

impl<S: Socket> Connection<'_, S> {
    /// Runs the connection. `drops` is the relay's drop count when the connection began.
    pub async fn run(mut self, drops: u64) -> io::Result<()> {
        let mut silent_until = None;
        // The client may have sent data before it received the response to its upgrade.
        self.understand()?;
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
                || self.then == AfterWrite::FallsSilent && self.is_written()
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
                    AfterWrite::Drops => return Ok(()),
                    AfterWrite::Stalls(time) => {
                        silent_until = Some(Instant::now() + time);
                        self.then = AfterWrite::Goes;
                        continue;
                    }
                    AfterWrite::FallsSilent => continue,
                    AfterWrite::Goes => self.then = self.session.fill(),
                }
                if self.is_written() && self.then != AfterWrite::Goes {
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
        self.session.out.is_empty() && !self.socket.owes()
    }

    /// Waits until the socket is ready, a message is due or a test intervenes, and reads the
    /// client's messages.
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
            ready = self.socket.tcp().ready(interest) => {
                if ready?.is_readable() {
                    self.read()?;
                }
            }
            changed = self.control.changed() => changed.map_err(io::Error::other)?,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        Ok(())
    }

    /// Writes what the socket accepts, or one byte if a fault makes the connection slow.
    fn write(&mut self) -> io::Result<()> {
        self.socket.pay()?;
        loop {
            let left = self.session.out.get(self.written..).unwrap_or_default();
            let left = if self.drip.is_some() { left.get(..1).unwrap_or_default() } else { left };
            if left.is_empty() {
                break;
            }
            match self.socket.write(left) {
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
        self.socket.read(&mut self.inbox)?;
        self.understand()
    }

    /// Processes complete frames.
    fn understand(&mut self) -> io::Result<()> {
        loop {
            let frame = codec::take_frame(&mut self.inbox);
            let Ok(frame) = frame else {
                self.relay.counters.add(Count::BadMessages, 1);
                return Err(io::ErrorKind::InvalidData.into());
            };
            let Some(ClientFrame { opcode, payload }) = frame else { break };
            match opcode {
                opcode::TEXT | opcode::BINARY => self.session.receive(&payload),
                opcode::PING => self.session.pong(&payload),
                opcode::CLOSE => {
                    self.session.control(opcode::CLOSE, &payload);
                    self.then = AfterWrite::Drops;
                }
                _ => {}
            }
        }
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        Ok(())
    }

    /// Sends a close frame ("going away") if the socket accepts it at once.
    fn say_goodbye(&mut self) {
        if self.then == AfterWrite::Goes && self.written == 0 {
            self.session.control(opcode::CLOSE, &1001_u16.to_be_bytes());
            self.session.out.drain(..self.session.out.len().saturating_sub(4));
            _ = self.write();
            self.socket.finish();
        }
    }
}
