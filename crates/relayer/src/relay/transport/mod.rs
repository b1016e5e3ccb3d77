//! Opens a WebSocket to a relay and reads and writes its frames, or fetches its NIP-11 document.

mod dial;
mod instance;
mod socket;
mod upgrade;

pub use dial::{DialError, DialOptions, DialSetupError, Dialer, Reach};
pub use instance::InstanceId;
pub(crate) use socket::{Socket, SocketError};
