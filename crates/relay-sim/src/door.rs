//! The entry point for a relay's clients: how TCP and TLS behave before HTTP begins.

/// A defect of a relay's certificate. A client that checks certificates ends the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Expired in 2020.
    Expired,
    /// Issued for `another-host.invalid`.
    WrongHost,
    /// Self-signed, not signed by the authority.
    SelfSigned,
}

/// An entry point. Each kind that is in use has its own port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    /// The default. With TLS it has a valid certificate.
    #[default]
    Open,
    /// Never reads from clients.
    Deaf,
    /// Has a defective certificate.
    Bad(Certificate),
}
