//! The event log: numbers, order, restarts, reading behind a cursor, trimming, a full disk.

mod bench;
mod committed;
mod damage;
mod disk;
mod readers;
mod retention;
mod sequence;
