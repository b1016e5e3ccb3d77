//! TLS with a private authority that lives as long as the simulation: valid and defective
//! certificates, and a [`Socket`] over TLS.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use crate::door::Certificate;
use crate::socket::Socket;

/// The names of simulated relays.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why TLS is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate cannot be created.
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The authority that signs the relays' certificates.
#[derive(Debug)]
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// An authority with a new key.
    pub fn new() -> Result<Self, TlsError> {
        let mut params = named("relay-sim authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// The authority's certificate, for clients that should trust the authority.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The configuration of a server whose certificate is valid or has the defect `bad`.
    pub fn server(&self, bad: Option<Certificate>) -> Result<Arc<ServerConfig>, TlsError> {
        let hosts = match bad {
            Some(Certificate::WrongHost) => &["another-host.invalid"],
            _ => &HOSTS[..],
        };
        let mut params = named("a simulated relay", hosts)?;
        if bad == Some(Certificate::Expired) {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = match bad {
            Some(Certificate::SelfSigned) => params.self_signed(&key)?,
            _ => params.signed_by(&key, &self.0)?,
        };
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())?;
        // With tickets, thousands of clients can resume sessions, and the server keeps no state.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// TLS over TCP.
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    tls: ServerConnection,
}

impl TlsSocket {
    /// The server's side of a new connection.
    pub fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self { tcp, tls: ServerConnection::new(config)? })
    }
}

impl Socket for TlsSocket {
    fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn read(&mut self, inbox: &mut Vec<u8>) -> io::Result<()> {
        match self.tls.read_tls(&mut Tcp(&self.tcp)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let state = self.tls.process_new_packets().map_err(io::Error::other);
        // Sends the handshake's responses, or the alert for an error.
        self.pay()?;
        let (state, start) = (state?, inbox.len());
        // Reads everything: the readiness of the TCP socket does not cover data in the TLS layer.
        inbox.resize(start + state.plaintext_bytes_to_read(), 0);
        let plain = inbox.get_mut(start..).unwrap_or_default();
        match plain.is_empty() {
            true if state.peer_has_closed() => Err(io::ErrorKind::UnexpectedEof.into()),
            true => Ok(()),
            false => self.tls.reader().read_exact(plain),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pay()?;
        if self.owes() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.tls.writer().write(bytes)?;
        self.pay()?;
        Ok(length)
    }

    fn owes(&self) -> bool {
        self.tls.wants_write()
    }

    fn pay(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Tcp(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.tls.send_close_notify();
        _ = self.pay();
    }

    fn resumed(&self) -> Option<bool> {
        self.tls.handshake_kind().map(|kind| kind == HandshakeKind::Resumed)
    }
}

/// The adapter that rustls reads from and writes to.
struct Tcp<'a>(&'a TcpStream);

impl Read for Tcp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
