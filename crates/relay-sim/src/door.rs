//! How a relay's port treats clients before HTTP begins: TCP and TLS.

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

/// How a port treats clients. Each variant in use has its own port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    /// The default: accepts clients, under TLS with a valid certificate.
    #[default]
    Open,
    /// Never reads from clients.
    Deaf,
    /// Has a defective certificate.
    Bad(Certificate),
}
