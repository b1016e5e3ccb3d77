//! From simulated relays to the log, through real sockets.

mod backpressure;
mod gateway;
mod hostile;
mod once;
mod reconnect;
