//! The way to a relay: [`dial`] opens a connection, [`upgrade`] turns the connection into a
//! WebSocket, and [`socket`] reads and writes frames. [`nip11`] fetches the relay's document over
//! HTTP. [`instance`] lets a gateway recognise itself behind a relay's URL.

mod dial;
mod instance;
mod nip11;
mod socket;
mod upgrade;

pub use dial::{DialError, DialOptions, DialSetupError, Dialer, Reach};
pub use instance::InstanceId;
pub use nip11::InformationError;
pub(crate) use socket::{Socket, SocketError};
