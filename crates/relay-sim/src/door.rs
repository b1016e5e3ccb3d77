//! The entry point for a relay's clients: how TCP and TLS behave before HTTP begins.

/// A defect of a relay's certificate. A client that checks certificates ends the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// It expired in 2020.
    Expired,
    /// It is for `another-host.invalid`.
    WrongHost,
    /// It is self-signed, not signed by the authority.
    SelfSigned,
}

/// An entry point. Each kind that is in use has its own port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    /// The default. With TLS it has a valid certificate.
    #[default]
    Open,
    /// It never reads from clients.
    Deaf,
    /// It has a defective certificate.
    Bad(Certificate),
}
