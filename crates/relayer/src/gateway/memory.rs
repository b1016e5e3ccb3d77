//! What the memory of the process is used for.
//!
//! Large parts are counted; connections and small tables are estimated from their number. What is
//! left is unaccounted: memory that the allocator holds, stacks, and buffers of connections. It may
//! be negative, because memory that was reserved but never written is not resident.

use enum_map::{Enum, EnumMap};
use strum::IntoStaticStr;

use super::parts::Parts;
use crate::limits::{CLIENT_FLUSH_BYTES, CLIENT_READ_BYTES};
use crate::telemetry::memory::ResidentMemory;

/// An idle connection to a relay: its task, statistics and socket.
const RELAY_BYTES: usize = 5 << 10;
/// TLS for it, with the session that is kept for resumption.
const RELAY_TLS_BYTES: usize = (24 << 10) + 4_300;
/// The buffers of a client of `/ws` or `/fanout`.
pub(super) const CLIENT_BYTES: usize = CLIENT_FLUSH_BYTES + CLIENT_READ_BYTES;

/// A part of the memory that can be counted or estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum MemoryPart {
    /// Pages of files: the program and its libraries.
    Program,
    RocksdbBlockCache,
    RocksdbMemtables,
    RocksdbTableReaders,
    /// The newest events for consumers.
    Tail,
    Hotset,
    Bloom,
    Lru,
    /// The ids of verified events that are not committed yet.
    InFlight,
    /// Events between sockets and commit.
    Queue,
    /// Estimated.
    RelayConnections,
    /// Estimated.
    WebsocketClients,
    /// Newest signals, follows, keys and clients; estimated, apart from the signals.
    Fanout,
}

/// The memory of the process.
#[derive(Debug)]
pub struct Memory {
    pub parts: EnumMap<MemoryPart, usize>,
    /// `None` on systems that do not tell.
    pub resident: Option<u64>,
}

impl Memory {
    /// The sum of the parts.
    pub fn accounted(&self) -> u64 {
        self.parts.values().map(|bytes| *bytes as u64).sum()
    }

    /// The rest of the resident memory.
    pub fn unaccounted(&self) -> Option<i64> {
        let (resident, accounted) = (self.resident?, self.accounted());
        i64::try_from(i128::from(resident) - i128::from(accounted)).ok()
    }
}

impl Parts {
    pub fn memory(&self) -> Memory {
        let resident = ResidentMemory::now();
        let rocksdb = |figure: &str| {
            let value =
                self.log.store().figures().find(|(name, _)| *name == figure).map_or(0, |(_, value)| value);
            usize::try_from(value).unwrap_or(usize::MAX)
        };
        let parts = EnumMap::from_fn(|part| match part {
            MemoryPart::Program => resident.map_or(0, |memory| usize::try_from(memory.of_files).unwrap_or(0)),
            MemoryPart::RocksdbBlockCache => rocksdb("block_cache_bytes"),
            MemoryPart::RocksdbMemtables => rocksdb("memtables_bytes"),
            MemoryPart::RocksdbTableReaders => rocksdb("table_readers_bytes"),
            MemoryPart::Tail => self.log.tail_figures().0,
            MemoryPart::Hotset => self.dedupe.hotset().bytes(),
            MemoryPart::Bloom => self.dedupe.bloom().figures().0,
            MemoryPart::Lru => self.dedupe.lru_bytes(),
            MemoryPart::InFlight => self.dedupe.in_flight_bytes(),
            MemoryPart::Queue => self.inboxes.waiting().1,
            MemoryPart::RelayConnections => self.relay_connection_bytes(),
            MemoryPart::WebsocketClients => self.clients.connected() * CLIENT_BYTES,
            MemoryPart::Fanout => self
                .fanout()
                .map_or(0, |fanout| fanout.state_bytes() + fanout.clients.connected() * CLIENT_BYTES),
        });
        Memory { parts, resident: resident.map(|memory| memory.total) }
    }

    fn relay_connection_bytes(&self) -> usize {
        let peers = self.pool.peers();
        let connected = peers.iter().filter(|peer| peer.state().is_connected());
        let bytes = connected.map(|peer| {
            RELAY_BYTES + if peer.url.as_str().starts_with("wss:") { RELAY_TLS_BYTES } else { 0 }
        });
        bytes.sum()
    }
}
