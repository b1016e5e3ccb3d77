//! What the memory of the process is used for.
//!
//! Large parts are counted; connections and small tables are estimated from their number. What is
//! left is unaccounted: memory that the allocator holds, stacks, and buffers of connections. It may
//! be negative, because memory that was reserved but never written is not resident.

use std::collections::BTreeMap;

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
const CLIENT_BYTES: usize = CLIENT_FLUSH_BYTES + CLIENT_READ_BYTES;

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
    /// The figures of RocksDB, some of which are parts.
    pub rocksdb: BTreeMap<&'static str, u64>,
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
        let rocksdb: BTreeMap<_, _> = self.log.store().figures().collect();
        let figure = |name| rocksdb.get(name).and_then(|bytes| usize::try_from(*bytes).ok()).unwrap_or(0);
        let parts = EnumMap::from_fn(|part| match part {
            MemoryPart::Program => resident.map_or(0, |memory| usize::try_from(memory.of_files).unwrap_or(0)),
            MemoryPart::RocksdbBlockCache => figure("block_cache_bytes"),
            MemoryPart::RocksdbMemtables => figure("memtables_bytes"),
            MemoryPart::RocksdbTableReaders => figure("table_readers_bytes"),
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
        Memory { parts, rocksdb, resident: resident.map(|memory| memory.total) }
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
