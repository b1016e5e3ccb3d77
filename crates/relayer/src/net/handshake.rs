//! Why a TLS handshake fails.

use std::io;

use rustls::{CertificateError, Error, InvalidMessage};

#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The certificate is not trusted, or is for another host.
    #[error("invalid peer certificate: {}", words(.0))]
    Certificate(CertificateError),
    /// The server does not speak TLS.
    #[error("the answer is not TLS")]
    NotTls,
    #[error("the server closed the connection during the handshake")]
    Closed,
    #[error(transparent)]
    Failed(io::Error),
}

impl HandshakeError {
    /// Whether only the certificate authority is unknown.
    pub(crate) const fn is_unknown_authority(&self) -> bool {
        matches!(self, Self::Certificate(CertificateError::UnknownIssuer))
    }
}

impl From<io::Error> for HandshakeError {
    /// Unwraps the TLS error that tokio wraps into an I/O error.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(fault)) => Self::Certificate(fault.clone()),
            // The server's bytes are not the header of a TLS record.
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

/// The library's message, except for date faults: the message of a date fault contains the current
/// time, so each attempt would have a new reason.
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
