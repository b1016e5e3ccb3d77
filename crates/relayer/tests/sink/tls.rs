//! Delivery over TLS: which certificates are trusted, how others are reported, and that no event is
//! lost.

use std::path::PathBuf;
use std::time::Duration;

use moltrade_relayer::config::{Config, Framing, Output};
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::sink::SinkMetrics;
use moltrade_relayer::sink::Workers;
use relay_sim::wait::settled;
use rustls::ServerConfig;
use tempfile::{NamedTempFile, TempDir};
use tokio::io::AsyncWriteExt;

use crate::authority::{Authority, file};
use crate::bench::sized_event;
use crate::delivery::killed_again_and_again;
use crate::gateway::{Gateway, framing_option, sink, until, within};
use crate::receiver::{Connection, Receiver};

/// An authority, and its certificate file.
fn authority() -> (Authority, NamedTempFile) {
    let authority = Authority::new("ours");
    let file = authority.file();
    (authority, file)
}

fn trusting(file: &NamedTempFile) -> String {
    format!("tls = true\nca_file = '{}'\n", file.path().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acks_a_slow_reader_gets_every_event_in_order() {
    let (ours, ca_file) = authority();
    for (framing, config) in
        [(Framing::Length, ours.server("127.0.0.1")), (Framing::Ndjson, ours.old_server("127.0.0.1"))]
    {
        let folder = TempDir::new().unwrap();
        let receiver = Receiver::start().await.secure(config);
        let options = framing_option(framing) + &trusting(&ca_file);
        let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
        let mut session = receiver.accept(framing).await;
        gateway.append(1..=3_000);
        for expected in 1..=3_000 {
            assert_eq!(session.dates(1).await, [expected], "{framing:?}");
            if expected % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        gateway.until_delivered(0, 3_000).await;
        assert_eq!((gateway.sink(0).delivered.get(), gateway.sink(0).reconnects.get()), (3_000, 0));
        gateway.stop().await;
        assert!(session.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_acks_a_slow_reader_gets_every_event_in_order() {
    let (ours, ca_file) = authority();
    for (framing, config) in
        [(Framing::Length, ours.old_server("127.0.0.1")), (Framing::Ndjson, ours.server("127.0.0.1"))]
    {
        let folder = TempDir::new().unwrap();
        let receiver = Receiver::start().await.secure(config);
        let options = framing_option(framing) + &trusting(&ca_file) + "ack = true\nmax_unacked = 500";
        let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
        let mut session = receiver.accept(framing).await;
        gateway.append(1..=3_000);
        for expected in 1..=3_000 {
            assert_eq!(within("an event", session.next_seq()).await, Some(expected), "{framing:?}");
            assert!(gateway.sink(0).cursor().get() < expected);
            session.ack(expected).await;
            if expected % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        gateway.until_delivered(0, 3_000).await;
        assert_eq!((gateway.sink(0).ack_errors.get(), gateway.sink(0).reconnects.get()), (0, 0));
        gateway.stop().await;
        assert!(session.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_acknowledged_while_later_ones_wait_for_the_socket() {
    let (ours, ca_file) = authority();
    let folder = TempDir::new().unwrap();
    let receiver = Receiver::start().await.secure(ours.server("127.0.0.1"));
    let options = trusting(&ca_file) + "ack = true\nmax_unacked = 100000";
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
    let mut session = receiver.accept(Framing::Length).await;
    // More events than all sockets hold. Each event is acknowledged while later events wait for a
    // flush.
    for first in (1..=600).step_by(20) {
        gateway.running.append((first..first + 20).map(|date| sized_event(date, 60_000)).collect());
    }
    for expected in 1..=600 {
        assert_eq!(within("an event", session.next_seq()).await, Some(expected));
        session.ack(expected).await;
    }
    gateway.until_delivered(0, 600).await;
    assert_eq!((gateway.sink(0).ack_errors.get(), gateway.sink(0).reconnects.get()), (0, 0));
    gateway.stop_with(session).await;
}

/// Asserts that a sink that starts to read only after the gateway has crashed still gets every
/// event up to the stored cursor.
async fn frozen(options: &str, receiver: Receiver) {
    const EVENTS: u64 = 20_000;
    let folder = TempDir::new().unwrap();
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, options)]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=EVENTS);
    until("something is sent", || gateway.sink(0).cursor().get() > 0).await;
    let sent = async || gateway.sink(0).cursor().get();
    let cursor = settled("the socket is full", Duration::from_millis(300), sent).await;
    assert!(cursor < EVENTS, "everything fits into a socket");
    gateway.crash().await;
    let mut had = 0;
    while let Some(event) = within("what is left", session.next()).await {
        had += 1;
        assert_eq!(event["created_at"], had);
    }
    assert!(had >= cursor, "it has {had}, but its cursor is {cursor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_without_acks_the_cursor_is_behind_what_the_socket_accepted() {
    let (ours, ca_file) = authority();
    frozen("", Receiver::start().await).await;
    for config in [ours.server("127.0.0.1"), ours.old_server("127.0.0.1")] {
        frozen(&trusting(&ca_file), Receiver::start().await.secure(config)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_again_and_again_misses_nothing() {
    let (ours, ca_file) = authority();
    let config = ours.server("127.0.0.1");
    killed_again_and_again(&trusting(&ca_file), |receiver| receiver.secure(config.clone())).await;
}

/// Waits for two failed connections, and checks the reason that the gateway reports.
async fn refused(gateway: &Gateway, receiver: &Receiver, reason: &str) {
    for _ in 0..2 {
        if let Ok(mut session) = receiver.try_accept(Framing::Length).await {
            // In TLS 1.3, a server learns only after the handshake that the client refuses the
            // server.
            session.until_closed().await;
        }
    }
    let found = gateway.until_away(0).await;
    assert!(found.starts_with("TLS: ") && found.contains(reason), "{found}");
    assert_eq!((gateway.sink(0).cursor().get(), gateway.sink(0).delivered.get()), (0, 0));
}

/// Asserts that the gateway refuses a sink until the sink has the right certificate.
async fn mended(wrong: Option<ServerConfig>, right: ServerConfig, options: &str, reason: &str) {
    let folder = TempDir::new().unwrap();
    let receiver = Receiver::start().await;
    let address = receiver.address;
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, options)]);
    gateway.append(1..=10);
    let receiver = match wrong {
        Some(config) => receiver.secure(config),
        None => receiver,
    };
    refused(&gateway, &receiver, reason).await;
    drop(receiver);
    let receiver = Receiver::on(address).secure(right);
    let mut session = receiver.accept(Framing::Length).await;
    assert_eq!(session.dates(10).await, (1..=10).collect::<Vec<_>>(), "after {reason}");
    gateway.until_delivered(0, 10).await;
    gateway.stop_with(session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_refused_with_a_reason_until_it_is_right() {
    let (ours, ca_file) = authority();
    let right = || ours.server("127.0.0.1");
    for (wrong, reason) in [
        (Authority::new("other").server("127.0.0.1"), "name that in `ca_file`"),
        (ours.server("127.0.0.2"), "not valid for name \"127.0.0.1\""),
        (ours.server("localhost"), "not valid for name \"127.0.0.1\""),
        (ours.expired_server("127.0.0.1"), "certificate expired, by the clock of this machine"),
    ] {
        mended(Some(wrong), right(), &trusting(&ca_file), reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ca_file_only_the_system_is_trusted() {
    let (ours, _) = authority();
    let folder = TempDir::new().unwrap();
    let receiver = Receiver::start().await.secure(ours.server("127.0.0.1"));
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, "tls = true")]);
    gateway.append(1..=3);
    refused(&gateway, &receiver, "UnknownIssuer").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_must_be_for_the_name_of_the_address() {
    let (ours, ca_file) = authority();
    let folder = TempDir::new().unwrap();
    for (host, is_right) in [("sink.example", true), ("else.example", false)] {
        let receiver = Receiver::start().await.secure(ours.server(host));
        let text = format!(
            "[[output.tcp]]\nname = 'a'\naddress = 'Sink.example:{}'\nstart = 'oldest'\n{}",
            receiver.address.port(),
            trusting(&ca_file)
        );
        let resolver = Resolver::from_fn(|_| Ok(vec![[127, 0, 0, 1].into()]));
        let gateway = Gateway::start_at(&folder, &parse(&text), resolver);
        if is_right {
            gateway.append(1..=3);
            assert_eq!(receiver.accept(Framing::Length).await.dates(3).await, [1, 2, 3]);
        } else {
            let _ = receiver.try_accept(Framing::Length).await;
            let found = gateway.until_away(0).await;
            assert!(found.contains("not valid for name \"sink.example\""), "{found}");
            assert!(found.contains("only valid for DnsName(\"else.example\")"), "{found}");
        }
        gateway.crash().await;
    }
}

fn parse(text: &str) -> Output {
    let loaded = Config::parse(Some((std::path::Path::new("config.toml"), text)), []);
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_until_it_speaks_tls() {
    let (ours, ca_file) = authority();
    for (said, reason) in [
        (&b"220 welcome\r\n"[..], "the answer is not TLS"),
        (b"{\"ack\":1}\n", "the answer is not TLS"),
        (b"\0\0\0\0\0\0\0\x01", "the answer is not TLS"),
        (b"", "the server closed the connection during the handshake"),
    ] {
        let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
        let address = receiver.address;
        let gateway = Gateway::start(&folder, &[sink("a", &receiver, &trusting(&ca_file))]);
        gateway.append(1..=10);
        for _ in 0..2 {
            let mut stream = receiver.accept_tcp().await;
            // If bytes were unread, the close would become a reset and discard the reply.
            let mut hello = [0; 4_096];
            assert!(tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await.unwrap() > 0);
            stream.write_all(said).await.unwrap();
            stream.shutdown().await.unwrap();
            while matches!(tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await, Ok(1..)) {}
        }
        assert_eq!(gateway.until_away(0).await, format!("TLS: {reason}"), "{said:?}");
        drop(receiver);
        let receiver = Receiver::on(address).secure(ours.server("127.0.0.1"));
        let mut session = receiver.accept(Framing::Length).await;
        assert_eq!(session.dates(10).await, (1..=10).collect::<Vec<_>>());
        gateway.stop_with(session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_without_tls_reports_that_the_server_speaks_tls() {
    let (ours, _) = authority();
    for framing in [Framing::Length, Framing::Ndjson] {
        let folder = TempDir::new().unwrap();
        let receiver = Receiver::start().await.secure(ours.server("127.0.0.1"));
        let options = framing_option(framing) + "ack = true";
        let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
        gateway.append([1]);
        for _ in 0..2 {
            assert!(receiver.try_accept(framing).await.is_err());
        }
        assert_eq!(gateway.until_away(0).await, "it speaks TLS; set `tls = true`");
        assert_eq!((gateway.sink(0).cursor().get(), gateway.sink(0).ack_errors.get()), (0, 0));
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_handshake_delays_nothing() {
    let (_ours, ca_file) = authority();
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &trusting(&ca_file))]);
    let _silent = receiver.accept_tcp().await;
    gateway.append(1..=10);
    let began = std::time::Instant::now();
    within("the end", gateway.stop()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "it waited for the handshake");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_record_delays_nothing() {
    let (ours, ca_file) = authority();
    let folder = TempDir::new().unwrap();
    let receiver = Receiver::start().await;
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &(trusting(&ca_file) + "ack = true"))]);
    let tls = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(ours.server("127.0.0.1")));
    let mut stream = tls.accept(receiver.accept_tcp().await).await.unwrap();
    // The header of a 64-byte record, without the record's bytes.
    stream.get_mut().0.write_all(&[0x17, 3, 3, 0, 64]).await.unwrap();
    gateway.append(1..=10);
    let mut session = Connection::new(Box::new(stream), Framing::Length);
    assert_eq!(session.seqs(10).await, (1..=10).collect::<Vec<_>>());
    within("the end", gateway.stop_within(Duration::from_millis(50))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_ca_file_stops_the_start() {
    let empty = file("nothing");
    for (path, reason) in [
        (PathBuf::from("/nowhere/ca.pem"), "the file cannot be read ("),
        (empty.path().to_owned(), "the file contains no certificate; add those of your authorities"),
    ] {
        let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
        let options = format!("tls = true\nca_file = '{}'", path.display());
        let sinks = vec![sink("archive", &receiver, &options)];
        let gateway = Gateway::start(&folder, &[]);
        let output = Output { tcp: sinks, ..Output::default() };
        let started = Workers::start(
            &output,
            &gateway.running.log,
            Resolver::system(),
            &std::sync::Arc::<SinkMetrics>::default(),
        );
        let error = started.expect_err(reason).to_string();
        let begin = format!("ca_file of the sink archive = \"{}\": {reason}", path.display());
        assert!(error.starts_with(&begin), "{error}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_notify_is_sent_and_received() {
    let (ours, ca_file) = authority();
    let folder = TempDir::new().unwrap();
    let receiver = Receiver::start().await;
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &trusting(&ca_file))]);
    let tls = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(ours.server("127.0.0.1")));
    let mut stream = tls.accept(receiver.accept_tcp().await).await.unwrap();
    // The receiver sends close_notify and keeps its socket open.
    stream.get_mut().1.send_close_notify();
    stream.flush().await.unwrap();
    assert_eq!(gateway.until_away(0).await, "it closed the connection");
    let mut stream = tls.accept(receiver.accept_tcp().await).await.unwrap();
    until("a connection", || gateway.sink(0).reconnects.get() >= 1).await;
    let read = tokio::spawn(async move {
        // Without the gateway's close_notify, this read would fail.
        tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 10]).await.unwrap()
    });
    gateway.stop().await;
    assert_eq!(read.await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn decrypted_bytes_are_read_although_the_socket_has_no_more() {
    let (ours, ca_file) = authority();
    let folder = TempDir::new().unwrap();
    let receiver = Receiver::start().await.secure(ours.server("127.0.0.1"));
    let options = trusting(&ca_file) + "ack = true\nmax_unacked = 1500\nack_timeout_secs = 60";
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=1_500);
    session.seqs(1_500).await;
    // One record that is larger than one read.
    let acks: Vec<u8> = (1..=1_500_u64).flat_map(u64::to_be_bytes).collect();
    session.say(&acks).await;
    gateway.until_delivered(0, 1_500).await;
    // Closes without close_notify, like a killed program.
    drop(session);
    assert_eq!(gateway.until_away(0).await, "it closed the connection");
    gateway.stop().await;
}
