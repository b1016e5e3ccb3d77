//! Opens a WebSocket to a relay and reads and writes its frames, or fetches its NIP-11 document.

mod dial;
mod fetch;
mod instance;
mod socket;
mod upgrade;

pub use dial::{DialError, DialOptions, DialSetupError, Dialer, Reach};
pub use fetch::InformationError;
pub use instance::InstanceId;
pub(crate) use socket::{Socket, SocketError};
