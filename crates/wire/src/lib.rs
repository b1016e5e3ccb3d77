//! Turns bytes into verified Nostr events, without I/O, clock or async.
//!
//! The modules follow the path of the data. A [WebSocket](websocket) message is [scanned](frame)
//! for its claimed id without being parsed. A new event is parsed into an [unverified
//! event](event). Only [verification](verify) and [signing](sign) create a [`VerifiedEvent`].
//! [`message`] and [`filter`] are the rest of NIP-01.

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
