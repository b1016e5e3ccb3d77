//! The bytes of a connection to a sink, plain or in TLS.
//!
//! Nothing here waits but for readiness, and both sorts are ready when their socket is. What counts as taken
//! is what the socket took: bytes that TLS has encrypted and the socket has not got are the sink's no more
//! than those that were never written.

use std::io::{self, Read, Write};
use std::mem::take;

use rustls::{ClientConnection, ProtocolVersion};
use tokio::net::TcpStream;

use crate::limits::{SINK_OLD_TLS_RECORDS_MAX, SINK_RECORD_BYTES};
use crate::net;

/// Plain or TLS.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<Tls>),
}

impl From<net::Stream> for Stream {
    fn from(stream: net::Stream) -> Self {
        let stream = match stream {
            net::Stream::Plain(tcp) => return Self::Plain(tcp),
            net::Stream::Tls(stream) => stream,
        };
        let (tcp, session) = stream.into_inner();
        let is_old = session.protocol_version() != Some(ProtocolVersion::TLSv1_3);
        let records_left = if is_old { SINK_OLD_TLS_RECORDS_MAX } else { u64::MAX };
        Self::Tls(Box::new(Tls { tcp, session, sealed: 0, records_left }))
    }
}

impl Stream {
    /// Whether everything is encrypted.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Waits until [`try_write`](Self::try_write) may get further.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Waits until [`try_read`](Self::try_read) may get further.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            // Something is decrypted already, or nothing more will come: the socket need not say so again.
            Self::Tls(tls) if !tls.session.wants_read() => Ok(()),
            Self::Plain(_) | Self::Tls(_) => self.tcp().readable().await,
        }
    }

    /// Writes what the socket takes, and gives how many of the bytes that is. The next call must begin with
    /// the bytes after those.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none of them, and when the socket fails.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Reads what is there. Zero: nothing more will come.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, and when the socket fails or what came is no TLS.
    pub fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(bytes),
            Self::Tls(tls) => tls.try_read(bytes),
        }
    }

    /// Ends what we send. In TLS the sink is told that it ends here, and was not cut off.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            while let Err(error) = tls.flush() {
                not_ready(error)?;
                tls.tcp.writable().await?;
            }
        }
        tokio::io::AsyncWriteExt::shutdown(self.tcp_mut()).await
    }

    const fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.tcp,
        }
    }

    const fn tcp_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.tcp,
        }
    }
}

/// Passes on what is an error.
pub fn not_ready(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

/// A socket, and what stands between it and us.
#[derive(Debug)]
pub struct Tls {
    tcp: TcpStream,
    session: ClientConnection,
    /// Bytes in the record that the socket has not wholly taken. Nobody can read any of them before it has.
    sealed: usize,
    /// How many more may be made.
    records_left: u64,
}

impl Tls {
    /// One record after the other: the next is made when the socket has all of the one before.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => return Ok(taken),
                flushed => flushed?,
            }
            taken += take(&mut self.sealed);
            let rest = bytes.get(taken..).unwrap_or_default();
            let record = rest.get(..SINK_RECORD_BYTES).unwrap_or(rest);
            if record.is_empty() {
                return Ok(taken);
            }
            self.sealed = self.seal(record)?;
        }
    }

    /// Encrypts what fits into a record.
    fn seal(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.records_left.checked_sub(1);
        self.records_left = left.ok_or_else(|| io::Error::other("the keys of TLS 1.2 are used up"))?;
        match self.session.writer().write(bytes)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(count),
        }
    }

    fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.session.wants_read() {
            self.session.read_tls(&mut Socket(&self.tcp))?;
            self.session.process_new_packets().map_err(|error| {
                // The sink is told why, if the socket takes it at once.
                let _ = self.session.write_tls(&mut Socket(&self.tcp));
                io::Error::new(io::ErrorKind::InvalidData, error)
            })?;
        }
        match self.session.reader().read(bytes) {
            // It went without a word, as a program does that is killed. It has nothing to say that could be cut.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            outcome => outcome,
        }
    }

    /// Gives the socket what is encrypted.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut Socket(&self.tcp))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// A socket as the TLS library takes it.
struct Socket<'s>(&'s TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector, server};

    use super::*;

    /// Both sides of a connection.
    async fn pair(version: &'static SupportedProtocolVersion) -> (Box<Tls>, server::TlsStream<TcpStream>) {
        greeted(version, b"").await
    }

    /// Likewise; if the version allows it, the other side greets together with its part of the handshake.
    async fn greeted(
        version: &'static SupportedProtocolVersion,
        greeting: &[u8],
    ) -> (Box<Tls>, server::TlsStream<TcpStream>) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they belong together");
        server.send_half_rtt_data = true;
        server.send_tls13_tickets = 0; // They would show that there is something to read.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let tcp = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let name = ServerName::try_from("a.example").expect("a name");
        let (accepted, _) = listener.accept().await.expect("accepted");
        let (client, server) = (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
        let greet = |session: &mut ServerConnection| {
            session.writer().write_all(greeting).expect("room");
        };
        let (near, far) = tokio::join!(client.connect(name, tcp), server.accept_with(accepted, greet));
        match Stream::from(net::Stream::Tls(Box::new(near.expect("a handshake")))) {
            Stream::Tls(tls) => (tls, far.expect("a handshake")),
            Stream::Plain(_) => panic!("it is in TLS"),
        }
    }

    #[tokio::test]
    async fn invariant_4_what_counts_as_taken_can_be_read_and_nothing_else() {
        for version in [&TLS12, &TLS13] {
            let (mut tls, mut far) = pair(version).await;
            let bytes: Vec<u8> = (0..16 << 20).map(|at| (at / 1_000) as u8).collect();
            let mut taken = 0;
            // What one write takes in part counts with the next; in the end the socket takes nothing.
            while let Ok(count) = tls.try_write(&bytes[taken..]) {
                taken += count;
            }
            assert!(0 < taken && taken < bytes.len() && tls.sealed > 0, "{taken}");
            // So much has got out, and no more will.
            tokio::io::AsyncWriteExt::shutdown(&mut tls.tcp).await.expect("open");
            let mut read = Vec::new();
            let end = far.read_to_end(&mut read).await.expect_err("it was cut off");
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(read.len(), taken);
            assert!(bytes.starts_with(&read));
        }
    }

    #[tokio::test]
    async fn what_came_with_the_handshake_is_read() {
        let (tls, _far) = greeted(&TLS13, b"welcome").await;
        assert!(!tls.session.wants_read(), "it came later");
        let (mut stream, mut bytes) = (Stream::Tls(tls), [0; 4]);
        for said in [&b"welc"[..], b"ome"] {
            let ready = tokio::time::timeout(std::time::Duration::from_secs(5), stream.readable()).await;
            ready.expect("it is there").expect("open");
            let count = stream.try_read(&mut bytes).expect("it is there");
            assert_eq!(&bytes[..count], said);
        }
        let nothing = stream.try_read(&mut bytes).expect_err("nothing more");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn old_keys_are_not_used_for_ever() {
        let (tls, _far) = pair(&TLS13).await;
        assert_eq!(tls.records_left, u64::MAX, "it changes its keys");
        let (mut tls, mut far) = pair(&TLS12).await;
        assert_eq!(tls.records_left, SINK_OLD_TLS_RECORDS_MAX);
        tls.records_left = 2;
        assert_eq!(tls.try_write(b"one").expect("room"), 3);
        assert_eq!(tls.try_write(b"two").expect("room"), 3);
        let end = tls.try_write(b"three").expect_err("no keys");
        assert_eq!(end.to_string(), "the keys of TLS 1.2 are used up");
        let mut read = [0; 6];
        far.read_exact(&mut read).await.expect("what counted");
        assert_eq!(&read, b"onetwo");
    }
}
