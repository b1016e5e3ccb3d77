//! Where a relay's clients come in: what of TCP and TLS they meet before anybody speaks HTTP.

/// What is wrong with a relay's certificate. A client that checks it ends the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// It was valid until 2020.
    Expired,
    /// It is for `another-host.invalid`.
    WrongHost,
    /// It is signed by its own key, not by the authority.
    SelfSigned,
}

/// A relay's way in. Each kind that is in use has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    /// The one of all relays that have no other. With TLS it has a good certificate.
    #[default]
    Open,
    /// One where nobody reads what clients say.
    Deaf,
    /// One with a bad certificate.
    Bad(Certificate),
}
