//! Writes to a sink, and tracks how many bytes the socket has accepted.
//!
//! TLS buffers encrypted data, so only a flush proves that the socket has the bytes (invariant 4).
//! At most one record waits for a flush, and a sink cannot decrypt any part of an incomplete
//! record.

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
    records: Records,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Written,
    /// Everything is written and flushed.
    Done,
}

/// How much may be written to a connection: bytes at once, and records in total.
#[derive(Debug)]
pub(super) struct Records {
    bytes_max: usize,
    /// The records that may still be written. TLS 1.2 cannot renew its keys: when the keys are used
    /// up, rustls stops sending, discards the data and reports the data as written.
    left: u64,
}

impl Records {
    pub(super) fn of(stream: &Stream) -> Self {
        match stream {
            Stream::Plain(_) => Self { bytes_max: usize::MAX, left: u64::MAX },
            Stream::Tls(tls) if tls.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3) => {
                Self { bytes_max: SINK_RECORD_BYTES, left: u64::MAX }
            }
            Stream::Tls(_) => Self { bytes_max: SINK_RECORD_BYTES, left: SINK_OLD_TLS_RECORDS_MAX },
        }
    }
}

impl Writer {
    pub(super) const fn new(stream: WriteHalf<Stream>, records: Records) -> Self {
        Self { stream, written: 0, flushed: 0, records }
    }

    /// The number of bytes of this connection that the socket has.
    pub(super) const fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Whether written bytes still wait for the socket.
    pub(super) const fn is_flushing(&self) -> bool {
        self.flushed < self.written
    }

    /// Writes encoded bytes until the socket accepts no more. Cancel-safe.
    pub(super) async fn write(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx, encoder)).await
    }

    /// Ready once the socket has accepted something.
    fn poll_write(&mut self, cx: &mut Context<'_>, encoder: &mut Encoder) -> Poll<io::Result<()>> {
        let before = self.flushed;
        loop {
            if let Poll::Ready(step) = self.poll_step(cx, encoder) {
                if step? == Step::Done {
                    return Poll::Ready(Ok(()));
                }
            } else if self.flushed > before {
                return Poll::Ready(Ok(()));
            } else {
                return Poll::Pending;
            }
        }
    }

    /// Writes one record after the other: the next one when the socket has all of the previous one.
    fn poll_step(&mut self, cx: &mut Context<'_>, encoder: &mut Encoder) -> Poll<io::Result<Step>> {
        if self.is_flushing() {
            ready!(self.poll_flush(cx))?;
        }
        let bytes = encoder.bytes();
        if bytes.is_empty() {
            return Poll::Ready(Ok(Step::Done));
        }
        if self.records.left == 0 {
            return Poll::Ready(Err(io::Error::other("the keys of TLS 1.2 are used up")));
        }
        let record = bytes.get(..self.records.bytes_max).unwrap_or(bytes);
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, record))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        encoder.advance(count);
        self.written += count as u64;
        self.records.left -= 1;
        Poll::Ready(Ok(Step::Written))
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
    use std::io::Write;
    use std::sync::Arc;

    use futures_util::future::poll_immediate;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt, ReadHalf};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector, server};

    use super::*;

    /// Returns a writer, and the sink that it writes to.
    async fn pair(version: &'static SupportedProtocolVersion) -> (Writer, server::TlsStream<TcpStream>) {
        let (writer, _, sink) = greeted(version, b"").await;
        (writer, sink)
    }

    /// Like [`pair`], with our read half. With TLS 1.3, the sink sends the greeting together with
    /// its part of the handshake.
    async fn greeted(
        version: &'static SupportedProtocolVersion,
        greeting: &[u8],
    ) -> (Writer, ReadHalf<Stream>, server::TlsStream<TcpStream>) {
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
        server.send_tls13_tickets = 0; // Unread tickets would turn the close into a reset.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let tcp = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let name = ServerName::try_from("a.example").expect("a name");
        let (accepted, _) = listener.accept().await.expect("accepted");
        let (client, server) = (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
        let greet = |session: &mut ServerConnection| session.writer().write_all(greeting).expect("room");
        let (near, far) = tokio::join!(client.connect(name, tcp), server.accept_with(accepted, greet));
        let stream = Stream::Tls(Box::new(near.expect("a handshake")));
        let records = Records::of(&stream);
        let (reader, half) = tokio::io::split(stream);
        (Writer::new(half, records), reader, far.expect("a handshake"))
    }

    #[tokio::test]
    async fn invariant_4_the_sink_can_read_what_was_flushed_although_the_socket_is_full() {
        for version in [&TLS12, &TLS13] {
            let (mut writer, mut sink) = pair(version).await;
            let bytes: Vec<u8> = (0..16 << 20).map(|at| (at / 1_000) as u8).collect();
            let mut encoder = Encoder::of_bytes(&bytes);
            while let Some(written) = poll_immediate(writer.write(&mut encoder)).await {
                written.expect("connected");
            }
            let flushed = writer.flushed() as usize;
            assert!(0 < flushed && flushed < bytes.len() && writer.is_flushing(), "{flushed}");
            // Data still buffered in TLS is not sent.
            drop(writer);
            let mut read = Vec::new();
            let end = sink.read_to_end(&mut read).await.expect_err("it was cut off");
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(read.len(), flushed);
            assert!(bytes.starts_with(&read));
        }
    }

    #[tokio::test]
    async fn bytes_that_come_with_the_handshake_are_read() {
        let (_writer, mut reader, _sink) = greeted(&TLS13, b"welcome").await;
        let mut read = [0; 7];
        let reading = tokio::time::timeout(std::time::Duration::from_secs(5), reader.read_exact(&mut read));
        reading.await.expect("the bytes are there").expect("connected");
        assert_eq!(&read, b"welcome");
    }

    #[tokio::test]
    async fn the_keys_of_old_tls_are_not_used_up() {
        let (writer, _sink) = pair(&TLS13).await;
        assert_eq!(writer.records.left, u64::MAX, "TLS 1.3 renews its keys");
        let (mut writer, mut sink) = pair(&TLS12).await;
        assert_eq!(writer.records.left, SINK_OLD_TLS_RECORDS_MAX);
        writer.records.left = 2;
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
