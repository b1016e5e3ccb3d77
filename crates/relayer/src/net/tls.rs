//! TLS client configurations, trusted certificate authorities, and the store of resumable sessions.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::unsync::Cache;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore};

#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file of certificate authorities cannot be used.
    #[error("{key} = \"{path}\": the file {fault}", path = .path.display())]
    CaFile {
        /// The configuration key, as in `[relay] extra_ca_file`.
        key: Box<str>,
        path: Box<Path>,
        fault: CaFileFault,
    },
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// What is wrong with a file of certificate authorities.
#[derive(Debug, thiserror::Error)]
pub enum CaFileFault {
    /// The file does not exist or is not readable.
    #[error("cannot be read ({0}); name a file that the gateway may read, or remove the key")]
    Unreadable(#[from] io::Error),
    #[error("is not PEM ({0}); convert it, for instance with `openssl x509 -in FILE -out FILE.pem`")]
    NotPem(rustls::pki_types::pem::Error),
    #[error(
        "contains no certificate; add those of your authorities, each from \
         \"-----BEGIN CERTIFICATE-----\" to \"-----END CERTIFICATE-----\""
    )]
    Empty,
    /// A certificate in the file is invalid.
    #[error("contains an invalid certificate, number {number} ({fault}); remove or replace it")]
    Certificate {
        /// The certificate's number, from 1.
        number: usize,
        fault: rustls::Error,
    },
}

/// The configuration for relays. It trusts the authorities of the system and of `extra_ca_file`,
/// and keeps resumable sessions of up to `sessions_max` servers.
///
/// # Errors
/// When `extra_ca_file` cannot be used. A system without authorities only causes a warning, because
/// `ws://` still works.
pub fn client_config(
    extra_ca_file: Option<&Path>,
    sessions_max: usize,
) -> Result<ClientConfig, TlsSetupError> {
    let roots = trusted(system_authorities(), "[relay] extra_ca_file", extra_ca_file)?;
    if roots.is_empty() {
        tracing::warn!(
            name: "no_certificate_authorities",
            "no certificate authorities found, so no wss:// relay can be reached; install ca-certificates"
        );
    }
    let mut config = config_of(roots)?;
    config.resumption = match sessions_max {
        0 => Resumption::disabled(),
        max => Resumption::store(Arc::new(Sessions::new(max))),
    };
    Ok(config)
}

/// A configuration with the session store of rustls.
///
/// # Errors
/// When rustls does not accept its own defaults.
pub(crate) fn config_of(roots: impl Into<Arc<RootCertStore>>) -> Result<ClientConfig, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The system's certificate authorities. Slow: it reads more than a hundred certificates.
pub(crate) fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Adds the authorities of a file; `key` is the file's configuration key, for the error.
///
/// # Errors
/// When the file cannot be used.
pub fn trusted(
    mut roots: RootCertStore,
    key: &str,
    file: Option<&Path>,
) -> Result<RootCertStore, TlsSetupError> {
    if let Some(path) = file {
        let added = add_authorities(&mut roots, path);
        added.map_err(|fault| TlsSetupError::CaFile { key: key.into(), path: path.into(), fault })?;
    }
    Ok(roots)
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), CaFileFault> {
    let pem = std::fs::read(path)?;
    let mut number = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        number += 1;
        let certificate = certificate.map_err(CaFileFault::NotPem)?;
        roots.add(certificate).map_err(|fault| CaFileFault::Certificate { number, fault })?;
    }
    if number == 0 { Err(CaFileFault::Empty) } else { Ok(()) }
}

/// Resumable sessions: the newest session of each of the most recently used servers.
///
/// The store of rustls keeps up to eight sessions for each server, and each session contains the
/// server's certificates. With chains of 3.7 KB, that store used 30 KB for each server after six
/// connections; this store uses 4.3 KB, or 43 MB for ten thousand servers. One session is enough,
/// because a relay has one connection. If several relays on one server are dialled at once, one of
/// them resumes.
struct Sessions(Mutex<Cache<ServerName<'static>, Server>>);

#[derive(Default)]
struct Server {
    /// The key exchange that the server chose. Offering it first saves a round trip.
    group: Option<NamedGroup>,
    session: Option<TlsSession>,
}

/// If the server changes its TLS version, its old session is useless.
enum TlsSession {
    /// TLS 1.2: reusable.
    Tls12(Tls12ClientSessionValue),
    /// TLS 1.3: for a single use (RFC 8446, appendix C.4).
    Tls13(Tls13ClientSessionValue),
}

impl Sessions {
    fn new(servers_max: usize) -> Self {
        Self(Mutex::new(Cache::new(servers_max)))
    }

    fn edit(&self, name: ServerName<'static>, edit: impl FnOnce(&mut Server)) {
        let mut servers = self.0.lock();
        let mut server = servers.remove(&name).map(|(_, server)| server).unwrap_or_default();
        edit(&mut server);
        // Reinserted, so that the most recently used server stays longest.
        servers.insert(name, server);
    }

    fn read<T>(&self, name: &ServerName<'_>, read: impl FnOnce(&Server) -> Option<T>) -> Option<T> {
        self.0.lock().get(&name.to_owned()).and_then(read)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.read(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.edit(name, |server| server.session = Some(TlsSession::Tls12(value)));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.read(name, |server| match &server.session {
            Some(TlsSession::Tls12(value)) => Some(value.clone()),
            Some(TlsSession::Tls13(_)) | None => None,
        })
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(mut server) = self.0.lock().get_mut(name) {
            server.session.take_if(|session| matches!(session, TlsSession::Tls12(_)));
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.edit(name, |server| server.session = Some(TlsSession::Tls13(value)));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut servers = self.0.lock();
        let mut server = servers.get_mut(name)?;
        match server.session.take_if(|session| matches!(session, TlsSession::Tls13(_))) {
            Some(TlsSession::Tls13(value)) => Some(value),
            Some(TlsSession::Tls12(_)) | None => None,
        }
    }
}

/// Sessions are secrets, so only their number is shown.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.0.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: usize) -> ServerName<'static> {
        format!("relay-{number}.example").try_into().expect("a name")
    }

    #[test]
    fn servers_are_bounded_and_the_newest_stay() {
        let sessions = Sessions::new(100);
        for number in 0..1_000 {
            sessions.set_kx_hint(server(number), NamedGroup::secp256r1);
            assert_eq!(sessions.kx_hint(&server(number)), Some(NamedGroup::secp256r1));
        }
        assert!((50..=100).contains(&sessions.0.lock().len()), "{sessions:?}");
        assert_eq!(sessions.kx_hint(&server(0)), None);
    }
}
