//! Bytes to verified Nostr events, and nothing else: no I/O, no clock, no async.
//!
//! The modules stand in the order of the data's way. A [WebSocket](websocket) message is [scanned](frame) for its claimed id
//! without being parsed; what is new is parsed into an [unverified event](event); only
//! [verification](verify) or [signing](sign) makes a [`VerifiedEvent`]. [`message`] and [`filter`] are
//! the rest of NIP-01.

pub mod ids;

pub mod websocket;

pub mod frame;

pub mod event;

pub mod verify;

pub mod sign;

pub mod filter;

pub mod message;

pub use event::{Field, ParseError, UnverifiedEvent, VerifiedEvent};
pub use filter::Filter;
pub use frame::{EventHead, Scan, author, first_value, scan, scan_head};
pub use ids::{ClaimedId, EventId, PublicKey, Signature};
pub use message::{ClientMessage, Hints, RelayMessage};
pub use sign::Signer;
pub use verify::{Verifier, VerifyError};
