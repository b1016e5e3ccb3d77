//! Why a TLS handshake fails, in words.

use std::io;

use rustls::{CertificateError, Error, InvalidMessage};

/// Why there is no TLS connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The server's certificate is not to be trusted, or is another server's.
    #[error("invalid peer certificate: {}", words(.0))]
    Certificate(CertificateError),
    /// What the server says is no TLS.
    #[error("what it answers is not TLS")]
    NotTls,
    /// The server goes away.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// Something else.
    #[error(transparent)]
    Failed(io::Error),
}

impl HandshakeError {
    /// Whether the certificate may be in order, for whoever trusts its authority.
    pub const fn is_unknown_authority(&self) -> bool {
        matches!(self, Self::Certificate(CertificateError::UnknownIssuer))
    }
}

impl From<io::Error> for HandshakeError {
    /// Tells apart what tokio hands out in the same wrapping.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(fault)) => Self::Certificate(fault.clone()),
            // The head of a record cannot be that of one.
            Some(Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::InvalidEmptyPayload
                | InvalidMessage::MessageTooLarge,
            )) => Self::NotTls,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// The library's words where they are words. Those about dates count seconds, so that they would be new at
/// every try.
fn words(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate expired, by the clock of this machine".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not valid yet, by the clock of this machine".to_owned()
        }
        CertificateError::UnknownIssuer => "UnknownIssuer (no trusted authority vouches for it)".to_owned(),
        fault => fault.to_string(),
    }
}
