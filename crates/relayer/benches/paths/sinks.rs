//! Delivers a log from disk to one sink and to eight, by each transport. Measures events per
//! second, and the CPU per event compared with a bare loop that sends the same bytes from memory to
//! the same receivers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moltrade_relayer::config::{Config, Output};
use moltrade_relayer::event_log::{Cursor, Entry, EventLog};
use moltrade_relayer::sink::{Command, Sink};

use crate::figures::Figure;
use crate::gateway::{Gateway, until};
use crate::receiver::{Behaviour, Receiver};
use crate::{Fallible, Outcome, cpu, gateway, stock};

const EVENTS: usize = 100_000;
/// The number of events if each has its own request: fewer than [`EVENTS`], because many requests
/// take longer.
const EVENTS_ONE_A_REQUEST: usize = 20_000;
/// The number of sinks of each transport. A measurement uses one sink or all of them.
const SINKS: usize = 8;
/// Events per request.
const BATCH: usize = 100;
/// The number of measurements. The minimum is reported, because the speed of a shared machine
/// varies by half from one second to the next.
const ROUNDS: usize = 3;
/// Bytes per write of the bare loop, as many as the gateway writes at once.
const PIECE_BYTES: usize = 64 << 10;

struct Way {
    name: &'static str,
    table: &'static str,
    options: &'static str,
    behaviour: Behaviour,
    events: usize,
    /// Encodes an entry as the bare loop sends it.
    form: fn(&Entry) -> Vec<u8>,
    /// The CPU target, as a multiple of the bare loop's CPU.
    at_most: f64,
}

const WAYS: [Way; 4] = [
    Way {
        name: "TCP, length",
        table: "tcp",
        options: "framing = 'length'",
        behaviour: Behaviour::Read,
        events: EVENTS,
        form: |entry| {
            let json = entry.event.json();
            [&u32::try_from(json.len()).unwrap_or_default().to_be_bytes(), json.as_ref()].concat()
        },
        at_most: 25.0,
    },
    Way {
        name: "TCP, ndjson, acks",
        table: "tcp",
        options: "framing = 'ndjson'\nack = true",
        behaviour: Behaviour::Acknowledge,
        events: EVENTS,
        form: |entry| [entry.envelope(), b"\n".as_slice()].concat(),
        at_most: 25.0,
    },
    Way {
        name: "HTTP, one a request",
        table: "rest",
        options: "",
        behaviour: Behaviour::Answer,
        events: EVENTS_ONE_A_REQUEST,
        form: |entry| entry.event.json().to_vec(),
        at_most: 5.0,
    },
    Way {
        name: "HTTP, 100 a request",
        table: "rest",
        // Without the wait, each chunk read from the log would end a batch.
        options: "batch = 100\nbatch_wait_ms = 100",
        behaviour: Behaviour::Answer,
        events: EVENTS,
        form: |entry| entry.envelope().to_vec(),
        at_most: 25.0,
    },
];

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut receivers: Vec<_> =
            WAYS.iter().map(|way| Receiver::start(way.behaviour)).collect::<Fallible<_>>()?;
        let (mut config, folder) = gateway::config([])?;
        stock::fill(&config, EVENTS)?;
        let tables = WAYS.iter().zip(&receivers).map(|(way, receiver)| way.tables(&receiver.address));
        config.output = output(&tables.collect::<String>())?;
        let gateway = Gateway::start((config, folder)).await?;
        let (log, mut figures) = (&gateway.log, Vec::new());
        let stored = stored(log).await?;
        let reading = Taken::by(read(log)).await?;
        println!(
            "reading the log              {:>6.2} us of CPU an event",
            cpu::micros_each(reading.cpu, EVENTS as u64)
        );
        let sinks = gateway.sinks.list();
        let sinks = sinks.chunks(SINKS);
        for ((way, receiver), sinks) in WAYS.iter().zip(&mut receivers).zip(sinks) {
            for count in [1, SINKS] {
                figures.push(way.measure(sinks.get(..count).unwrap_or_default(), &stored, receiver).await?);
            }
        }
        gateway.stop().await?;
        Ok(figures)
    })
}

/// Parses the configuration in these tables.
pub fn output(tables: &str) -> Fallible<Output> {
    let loaded = Config::parse(Some((std::path::Path::new("config.toml"), tables)), []);
    Ok(loaded?.config.output)
}

/// Reads the log like a sink and discards the events. Every transport's cost includes this work.
async fn read(log: &Arc<EventLog>) -> Fallible<()> {
    let mut reader = log.reader(Cursor::START);
    while reader.cursor() < log.head() {
        reader.next().await?;
    }
    Ok(())
}

/// Returns all entries of the log.
async fn stored(log: &Arc<EventLog>) -> Fallible<Vec<Entry>> {
    let mut reader = log.reader(Cursor::START);
    let mut entries = Vec::new();
    while reader.cursor() < log.head() {
        let chunk = reader.next().await?.ok_or("the log ends early")?;
        entries.extend(chunk.entries().iter().map(Entry::copied));
    }
    Ok(entries)
}

/// Delivers the events between two cursors to all sinks, and waits until the sinks have all of
/// them.
pub async fn deliver(sinks: &[Arc<Sink>], after: Cursor, up_to: Cursor) -> Fallible<()> {
    for sink in sinks {
        sink.command(Command::Seek(after)).await.map_err(|_| "the gateway stops")?;
    }
    until(|| sinks.iter().all(|sink| sink.cursor() >= up_to)).await;
    Ok(())
}

/// The cost of delivery.
struct Taken {
    cpu: Duration,
    time: Duration,
}

impl Taken {
    const MOST: Self = Self { cpu: Duration::MAX, time: Duration::MAX };

    /// Returns the minimum of each value in the two costs.
    fn least(self, other: Self) -> Self {
        Self { cpu: self.cpu.min(other.cpu), time: self.time.min(other.time) }
    }

    /// Measures the cost of work in this process.
    async fn by(work: impl Future<Output = Fallible<()>>) -> Fallible<Self> {
        let (before, begin) = (cpu::used(), Instant::now());
        work.await?;
        Ok(Self { cpu: cpu::used() - before, time: begin.elapsed() })
    }
}

impl Way {
    /// Returns the sinks' configuration. Sinks start at the head of the log, and deliver earlier
    /// events on command.
    fn tables(&self, address: &str) -> String {
        let Self { name, table, options, .. } = self;
        let (name, scheme) = (name.replace([' ', ','], "-"), if *table == "rest" { "http://" } else { "" });
        let sink = |number| {
            format!(
                "[[output.{table}]]\nname = '{name}-{number}'\naddress = '{scheme}{address}'\n{options}\n"
            )
        };
        (0..SINKS).map(sink).collect()
    }

    async fn measure(
        &self,
        sinks: &[Arc<Sink>],
        stored: &[Entry],
        receiver: &mut Receiver,
    ) -> Fallible<Figure> {
        let Self { name, events, at_most, .. } = self;
        let (count, skipped) = (sinks.len(), stored.len() - events);
        let pieces = self.pieces(stored.get(skipped..).unwrap_or_default(), &receiver.address);
        let bytes = (pieces.iter().map(|(head, body)| body.len() - head).sum::<usize>() * count) as u64;
        let [after, up_to] = [skipped, stored.len()].map(|number| Cursor::from_number(number as u64));
        let (mut ours, mut least) = (Taken::MOST, Taken::MOST);
        for _ in 0..ROUNDS {
            ours = ours.least(Taken::by(deliver(sinks, after, up_to)).await?);
            receiver.has(bytes).await?;
            let address = receiver.address.clone();
            least = least.least(Taken::by(async { bare(self.behaviour, &address, &pieces, count) }).await?);
            receiver.has(bytes).await?;
        }
        let deliveries = (events * count) as u64;
        let a_second = |taken: &Taken| deliveries as f64 / taken.time.as_secs_f64();
        let [each, bare_each] = [&ours, &least].map(|taken| cpu::micros_each(taken.cpu, deliveries));
        println!(
            "{name:<20} to {count}: {:>9.0} events a second in all, {each:>6.2} us of CPU each; bare {:>9.0}, {bare_each:.2} us",
            a_second(&ours),
            a_second(&least),
        );
        Ok(Figure::ratio(format!("{name}, to {count}, an event / bare"), each, bare_each, *at_most))
    }

    /// Returns the pieces that the bare loop writes, each with the size of the request head in it.
    fn pieces(&self, entries: &[Entry], address: &str) -> Vec<(usize, Vec<u8>)> {
        if self.behaviour != Behaviour::Answer {
            let bytes: Vec<u8> = entries.iter().flat_map(self.form).collect();
            return bytes.chunks(PIECE_BYTES).map(|piece| (0, piece.to_vec())).collect();
        }
        let is_batch = !self.options.is_empty();
        let post = |entries: &[Entry]| {
            let bodies: Vec<_> = entries.iter().map(self.form).collect();
            let mut body = bodies.join(b",".as_slice());
            if is_batch {
                body = [b"[", body.as_slice(), b"]"].concat();
            }
            let head = format!(
                "POST / HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n",
                body.len(),
            );
            (head.len(), [head.as_bytes(), &body].concat())
        };
        entries.chunks(if is_batch { BATCH } else { 1 }).map(post).collect()
    }
}

/// Sends the pieces to this many connections, with one thread for each connection.
fn bare(
    behaviour: Behaviour,
    address: &str,
    pieces: &[(usize, Vec<u8>)],
    connections: usize,
) -> Fallible<()> {
    std::thread::scope(|scope| {
        let send = || send(behaviour, TcpStream::connect(address)?, pieces);
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(send)).collect();
        threads.into_iter().try_for_each(|thread| Ok(thread.join().map_err(|_| "a bare loop panicked")??))
    })
}

/// Writes the pieces to a connection, reads the responses, and closes only when the receiver has
/// everything: a close with unread responses would discard data in flight.
fn send(behaviour: Behaviour, mut stream: TcpStream, pieces: &[(usize, Vec<u8>)]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answer = [0; 4 << 10];
    for (_, piece) in pieces {
        stream.write_all(piece)?;
        match behaviour {
            Behaviour::Read => {}
            Behaviour::Acknowledge => {
                stream.set_nonblocking(true)?;
                if let Err(error) = stream.read(&mut answer)
                    && error.kind() != ErrorKind::WouldBlock
                {
                    return Err(error);
                }
                stream.set_nonblocking(false)?;
            }
            Behaviour::Answer => {
                // The response is one short line and arrives in one piece.
                let count = stream.read(&mut answer)?;
                if !answer.starts_with(b"HTTP/1.1 204") || count < b"HTTP/1.1 204".len() {
                    return Err(ErrorKind::InvalidData.into());
                }
            }
        }
    }
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut answer)? > 0 {}
    Ok(())
}
