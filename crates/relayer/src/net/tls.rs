//! TLS for all connections to relays: one configuration, the authorities that are trusted, and the
//! sessions that a reconnect resumes.

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

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file of authorities is of no use.
    #[error("{key} = \"{path}\": the file {fault}", path = .path.display())]
    CaFile {
        /// Who names it, as in `[relay] extra_ca_file`.
        key: Box<str>,
        /// The file.
        path: Box<Path>,
        /// What is wrong with it.
        fault: CaFileFault,
    },
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// What is wrong with a file of certificate authorities.
#[derive(Debug, thiserror::Error)]
pub enum CaFileFault {
    /// It does not exist, or is not for us.
    #[error("cannot be read ({0}); name one that the gateway may read, or leave the key out")]
    Unreadable(#[from] io::Error),
    /// It is not what PEM looks like.
    #[error("is not PEM ({0}); convert it, for instance with `openssl x509 -in FILE -out FILE.pem`")]
    NotPem(rustls::pki_types::pem::Error),
    /// It holds no certificate.
    #[error(
        "holds no certificate; put those of your authorities into it, each from \
         \"-----BEGIN CERTIFICATE-----\" to \"-----END CERTIFICATE-----\""
    )]
    Empty,
    /// One of its certificates is none.
    #[error("holds a certificate that cannot be used, its number {number} ({fault}); take it out or mend it")]
    Certificate {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        fault: rustls::Error,
    },
}

/// The configuration for all connections to relays: it trusts the system's authorities and those of
/// `extra_ca_file`, and resumes the sessions of up to `sessions_max` servers.
///
/// # Errors
/// When `extra_ca_file` is of no use. A system without authorities is no error, but a warning: `ws://` works.
pub fn client_config(
    extra_ca_file: Option<&Path>,
    sessions_max: usize,
) -> Result<ClientConfig, TlsSetupError> {
    let roots = trusted(system_authorities(), "[relay] extra_ca_file", extra_ca_file)?;
    if roots.is_empty() {
        tracing::warn!(
            "no certificate authorities found, so wss:// relays cannot be trusted; install ca-certificates"
        );
    }
    let mut config = config_of(roots)?;
    config.resumption = match sessions_max {
        0 => Resumption::disabled(),
        max => Resumption::store(Arc::new(Sessions::new(max))),
    };
    Ok(config)
}

/// A configuration for one server that is connected to now and then.
///
/// # Errors
/// When the library refuses.
pub fn config_of(roots: impl Into<Arc<RootCertStore>>) -> Result<ClientConfig, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The authorities that the system trusts. Reads some hundred certificates.
pub fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// These authorities, and those of a file that the configuration names under a key.
///
/// # Errors
/// When the file is of no use.
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

/// The sessions that can be resumed: one for each server, its newest, and of the servers those that were
/// connected to last.
///
/// The store that rustls brings keeps up to eight for each server, and each holds a copy of the server's
/// certificates. Measured with chains of 3.7 KB, it had 30 KB a server after six connections; this one has
/// 4.3 KB, however many there were: 43 MB for ten thousand servers. One is enough, because a relay has
/// one connection; of several relays on one server that are dialled at once, one resumes.
struct Sessions(Mutex<Cache<ServerName<'static>, Server>>);

/// What is known of a server.
#[derive(Default)]
struct Server {
    /// The key exchange that it chose, which saves it from asking for another one.
    group: Option<NamedGroup>,
    session: Option<Session>,
}

/// A server speaks one version of TLS. If it changes, its old session is worth nothing.
enum Session {
    /// TLS 1.2: may be used again and again.
    Tls12(Tls12ClientSessionValue),
    /// TLS 1.3: may be used once (RFC 8446, appendix C.4).
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
        // What was put in last stays longest.
        servers.insert(name, server);
    }

    fn look<T>(&self, name: &ServerName<'_>, look: impl FnOnce(&Server) -> Option<T>) -> Option<T> {
        self.0.lock().get(&name.to_owned()).and_then(look)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.look(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.edit(name, |server| server.session = Some(Session::Tls12(value)));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.look(name, |server| match &server.session {
            Some(Session::Tls12(value)) => Some(value.clone()),
            Some(Session::Tls13(_)) | None => None,
        })
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(mut server) = self.0.lock().get_mut(name) {
            server.session.take_if(|session| matches!(session, Session::Tls12(_)));
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.edit(name, |server| server.session = Some(Session::Tls13(value)));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut servers = self.0.lock();
        let mut server = servers.get_mut(name)?;
        match server.session.take_if(|session| matches!(session, Session::Tls13(_))) {
            Some(Session::Tls13(value)) => Some(value),
            Some(Session::Tls12(_)) | None => None,
        }
    }
}

/// Sessions are secrets: what is shown is their number.
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
