//! Writes to a sink, and tracks how many bytes the socket has accepted.
//!
//! TLS buffers encrypted data, so only a flush proves that the socket has the bytes (invariant 4).
//! A sink may read and acknowledge bytes before the flush returns.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ProtocolVersion;
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};

use super::encode::Encoder;
use crate::limits::{SINK_OLD_TLS_RECORDS_MAX, SINK_RECORD_BYTES};
use crate::net::Stream;

#[derive(Debug)]
pub(super) struct Writer {
    stream: WriteHalf<Stream>,
    /// The number of bytes that the stream has accepted.
    written: u64,
    /// The number of bytes that the socket has accepted.
    flushed: u64,
    records_left: u64,
}

/// The number of TLS records that may be written to a connection. TLS 1.2 cannot renew its keys:
/// when they are used up, rustls stops sending, discards the data and reports it as written.
pub(super) fn records_max(stream: &Stream) -> u64 {
    match stream {
        Stream::Tls(tls) if tls.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) => {
            SINK_OLD_TLS_RECORDS_MAX
        }
        Stream::Tls(_) | Stream::Plain(_) => u64::MAX,
    }
}

impl Writer {
    pub(super) const fn new(stream: WriteHalf<Stream>, records_max: u64) -> Self {
        Self { stream, written: 0, flushed: 0, records_left: records_max }
    }

    /// The number of bytes of this connection that the sink may have.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// The number of bytes of this connection that the socket has.
    pub(super) const fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Flushes earlier writes if any are pending; otherwise writes encoded bytes. Cancel-safe.
    pub(super) async fn write(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx, encoder)).await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, encoder: &mut Encoder) -> Poll<io::Result<()>> {
        if self.flushed < self.written {
            return self.poll_flush(cx);
        }
        if self.records_left == 0 {
            return Poll::Ready(Err(io::Error::other("the keys of TLS 1.2 are used up")));
        }
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, encoder.bytes()))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        encoder.advance(count);
        self.written += count as u64;
        self.records_left = self.records_left.saturating_sub((count / SINK_RECORD_BYTES + 1) as u64);
        // Usually the socket has room. If not, the next call continues the flush.
        match self.poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.flushed = self.written;
        Poll::Ready(Ok(()))
    }

    /// Closes our sending side, in TLS with a `close_notify`.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::poll_immediate;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector, server};

    use super::*;
    use crate::limits::SINK_BUFFER_BYTES;

    /// Returns a writer, and the sink that it writes to.
    async fn pair(version: &'static SupportedProtocolVersion) -> (Writer, server::TlsStream<TcpStream>) {
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
        server.send_tls13_tickets = 0; // Unread, they would turn the close into a reset.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let tcp = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let name = ServerName::try_from("a.example").expect("a name");
        let (accepted, _) = listener.accept().await.expect("accepted");
        let (client, server) = (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
        let (near, far) = tokio::join!(client.connect(name, tcp), server.accept(accepted));
        let stream = Stream::Tls(Box::new(near.expect("a handshake")));
        let records_max = records_max(&stream);
        let (_, half) = tokio::io::split(stream);
        (Writer::new(half, records_max), far.expect("a handshake"))
    }

    #[tokio::test]
    async fn invariant_4_the_sink_can_read_what_was_flushed_although_the_socket_is_full() {
        for version in [&TLS12, &TLS13] {
            let (mut writer, mut sink) = pair(version).await;
            let bytes: Vec<u8> = (0..16 << 20).map(|at| (at / 1_000) as u8).collect();
            'full: for part in bytes.chunks(SINK_BUFFER_BYTES) {
                let mut encoder = Encoder::of_bytes(part);
                while !encoder.bytes().is_empty() {
                    let Some(written) = poll_immediate(writer.write(&mut encoder)).await else { break 'full };
                    written.expect("connected");
                }
            }
            let (written, flushed) = (writer.written() as usize, writer.flushed() as usize);
            assert!(0 < flushed && flushed < written && written < bytes.len(), "{flushed} of {written}");
            // Data still buffered in TLS is not sent.
            drop(writer);
            let mut read = Vec::new();
            let end = sink.read_to_end(&mut read).await.expect_err("it was cut off");
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
            assert!((flushed..written).contains(&read.len()), "{flushed}, {}, {written}", read.len());
            assert!(bytes.starts_with(&read));
        }
    }

    #[tokio::test]
    async fn the_keys_of_old_tls_are_not_used_up() {
        let (writer, _sink) = pair(&TLS13).await;
        assert_eq!(writer.records_left, u64::MAX, "TLS 1.3 renews its keys");
        let (mut writer, mut sink) = pair(&TLS12).await;
        assert_eq!(writer.records_left, SINK_OLD_TLS_RECORDS_MAX);
        writer.records_left = 2;
        for bytes in [b"one", b"two"] {
            writer.write(&mut Encoder::of_bytes(bytes)).await.expect("keys");
        }
        let end = writer.write(&mut Encoder::of_bytes(b"three")).await.expect_err("no keys");
        assert_eq!(end.to_string(), "the keys of TLS 1.2 are used up");
        let mut read = [0; 6];
        sink.read_exact(&mut read).await.expect("what was flushed");
        assert_eq!(&read, b"onetwo");
    }
}
