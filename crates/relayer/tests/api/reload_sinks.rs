//! Sinks across reloads, with receivers on real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use relay_sim::wait::{until, within};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::gateway::{Gateway, Response, next_seqs};
use crate::reload::reload;

/// A receiver that acknowledges events, one a line.
struct Receiver {
    name: &'static str,
    listener: TcpListener,
}

impl Receiver {
    async fn start(name: &'static str) -> Self {
        Self { name, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// The sink's table, with these options.
    fn table(&self, options: &str) -> String {
        let address = self.listener.local_addr().unwrap();
        format!(
            "[[output.tcp]]\nname = '{}'\naddress = '{address}'\nframing = 'ndjson'\nack = true\nstart = 'oldest'\n{options}\n",
            self.name
        )
    }

    async fn accept(&self) -> Connection {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        let (reader, writer) = stream.into_split();
        Connection { reader: BufReader::new(reader), writer }
    }
}

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// The sequence of the next event; `None` at the end of the connection.
    async fn next(&mut self) -> Option<u64> {
        let mut line = String::new();
        within("a line", self.reader.read_line(&mut line)).await.ok().filter(|read| *read > 0)?;
        let event: Value = serde_json::from_str(&line).unwrap();
        Some(event["seq"].as_u64().unwrap())
    }

    async fn ack(&mut self, seq: u64) {
        // The gateway may have closed the connection.
        let _ = self.writer.write_all(format!("{{\"ack\":{seq}}}\n").as_bytes()).await;
    }

    /// Takes the next events, and acknowledges them.
    async fn take(&mut self, count: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            let seq = self.next().await.expect("it is open");
            self.ack(seq).await;
            seqs.push(seq);
        }
        seqs
    }

    /// Waits until the connection ends. No event may arrive before that.
    async fn ends(mut self) {
        assert_eq!(self.next().await, None, "nothing is repeated");
    }
}

async fn until_cursor(gateway: &Gateway, name: &str, cursor: u64) {
    let has_it =
        || gateway.sinks.list().iter().any(|sink| &*sink.name == name && sink.saved_cursor().get() == cursor);
    until(&format!("{name} has {cursor}"), has_it).await;
}

fn names(answer: &Response, list: &str) -> Vec<String> {
    let names = answer.json()["sinks"][list].as_array().unwrap().clone();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_are_added_changed_and_removed_and_the_others_keep_their_connections() {
    let gateway = Gateway::start().await;
    let [kept, changed, gone, new] = ["kept", "changed", "gone", "new"].map(Receiver::start);
    let (kept, changed, gone, new) = tokio::join!(kept, changed, gone, new);
    let first = reload(&gateway, &[&kept, &changed, &gone].map(|sink| sink.table("")).concat()).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(names(&first, "added"), ["kept", "changed", "gone"]);
    assert_eq!(names(&first, "removed"), ["archive"]);
    let (mut at_kept, mut at_changed, mut at_gone) =
        tokio::join!(kept.accept(), changed.accept(), gone.accept());
    let mut client = gateway.connect("?cursor=0").await;
    gateway.append_numbered(10).await;
    let ten: Vec<u64> = (1..=10).collect();
    for connection in [&mut at_kept, &mut at_changed, &mut at_gone] {
        assert_eq!(connection.take(10).await, ten);
    }
    for name in ["kept", "changed", "gone"] {
        until_cursor(&gateway, name, 10).await;
    }

    let letters = |name: &str| {
        let sinks = gateway.sinks.list();
        sinks.iter().find(|sink| &*sink.name == name).map(|sink| std::sync::Arc::clone(&sink.dead_letters))
    };
    let before = letters("changed").unwrap();
    let tables = kept.table("") + &changed.table("max_unacked = 7") + &new.table("");
    let (answer, ..) = tokio::join!(reload(&gateway, &tables), at_changed.ends(), at_gone.ends());
    assert_eq!(answer.json()["changed"], json!(["output.tcp"]), "{}", answer.text);
    assert_eq!(
        answer.json()["sinks"],
        json!({ "added": ["new"], "changed": ["changed"], "removed": ["gone"], "unchanged": ["kept"] })
    );
    // They hold which letters are to be sent again.
    assert!(std::sync::Arc::ptr_eq(&before, &letters("changed").unwrap()), "its dead letters are forgotten");
    gateway.append_numbered(5).await;
    let (mut at_changed, mut at_new) = tokio::join!(changed.accept(), new.accept());
    let five: Vec<u64> = (11..=15).collect();
    assert_eq!(at_kept.take(5).await, five, "over the same connection");
    assert_eq!(at_changed.take(5).await, five, "from its cursor");
    assert_eq!(at_new.take(15).await, (1..=15).collect::<Vec<_>>());
    assert_eq!(next_seqs(&mut client, 15).await, (1..=15).collect::<Vec<_>>(), "clients stay connected");

    let shown = gateway.get("/api/downstreams").await.json();
    let shown: Vec<_> = shown["downstreams"].as_array().unwrap().iter().map(|sink| &sink["name"]).collect();
    assert_eq!(shown, ["kept", "changed", "new"]);
    let metrics = gateway.get("/metrics").await.text;
    assert!(metrics.contains("sink=\"new\"") && !metrics.contains("sink=\"gone\""), "{metrics}");
    gateway.get("/api/downstreams/gone").await.error(404, "downstream_not_found");

    // The name comes back, with another address.
    let elsewhere = Receiver::start("gone").await;
    let back = reload(&gateway, &(tables + &elsewhere.table(""))).await;
    assert_eq!((names(&back, "added"), names(&back, "unchanged").len()), (vec!["gone".to_owned()], 3));
    assert_eq!(elsewhere.accept().await.take(5).await, five, "from its cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_removed_may_still_acknowledge_what_is_in_flight() {
    let gateway = Gateway::start().await;
    let receiver = Receiver::start("a").await;
    reload(&gateway, &receiver.table("")).await;
    let mut connection = receiver.accept().await;
    gateway.append_numbered(3).await;
    for seq in 1..=3 {
        assert_eq!(connection.next().await, Some(seq));
    }
    let file = "relay.bootstrap_relays = ['wss://new.example']";
    let acknowledge = async {
        // The relays are replaced just before the sinks.
        let is_replaced = || gateway.pool.peers().iter().any(|peer| peer.url.as_str() == "wss://new.example");
        until("the relays are replaced", is_replaced).await;
        gateway.append_numbered(1).await;
        connection.ack(3).await;
        while connection.next().await.is_some() {}
    };
    let (answer, ()) = tokio::join!(reload(&gateway, file), acknowledge);
    assert_eq!(names(&answer, "removed"), ["a"]);
    reload(&gateway, &receiver.table("")).await;
    let mut connection = receiver.accept().await;
    assert_eq!(connection.take(1).await, [4], "the acknowledged events are not repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_used_changes_nothing_at_all() {
    let gateway = Gateway::start().await;
    let (kept, changed) = tokio::join!(Receiver::start("kept"), Receiver::start("changed"));
    reload(&gateway, &(kept.table("") + &changed.table(""))).await;
    let (mut at_kept, mut at_changed) = tokio::join!(kept.accept(), changed.accept());
    let no_authority = gateway.config_file().with_file_name("empty.pem");
    std::fs::write(&no_authority, "no certificate").unwrap();
    let unusable = format!("tls = true\nca_file = '{}'", no_authority.display());
    let top = "relay.bootstrap_relays = ['wss://other.example']\nfilters.allowed_kinds = [9]\n\
               api.admin_token = 'correct-horse-battery-staple'\n";
    let relays = |gateway: &Gateway| -> Vec<String> {
        gateway.pool.peers().iter().map(|peer| peer.url.as_str().to_owned()).collect()
    };
    let before = relays(&gateway);
    let refused = reload(&gateway, &format!("{top}{}", changed.table(&unusable))).await;
    let message = refused.error(422, "bad_config");
    assert!(
        message.contains("the old one stays in effect") && message.contains("ca_file of the sink changed"),
        "{message}"
    );
    assert_eq!(relays(&gateway), before);
    gateway.append_numbered(4).await;
    assert_eq!(at_kept.take(4).await, [1, 2, 3, 4]);
    assert_eq!(at_changed.take(4).await, [1, 2, 3, 4]);

    // Everything was still unchanged, so it is a change now.
    let usable = format!("{top}{}", kept.table(""));
    let (answer, ()) = tokio::join!(reload(&gateway, &usable), at_changed.ends());
    assert_eq!(
        answer.json()["changed"],
        json!(["relay.bootstrap_relays", "filters.allowed_kinds", "output.tcp", "api.admin_token"])
    );
    assert_eq!(names(&answer, "unchanged"), ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_reloads_at_once_the_second_finds_nothing_to_change() {
    let gateway = Gateway::start().await;
    let receiver = Receiver::start("a").await;
    std::fs::write(gateway.config_file(), receiver.table("")).unwrap();
    let call = || gateway.change("POST", "/api/config/reload", "");
    let (one, other) = tokio::join!(call(), call());
    let mut changes = [names(&one, "added"), names(&other, "added")];
    changes.sort();
    assert_eq!(changes, [Vec::new(), vec!["a".to_owned()]]);
    gateway.append_numbered(2).await;
    assert_eq!(receiver.accept().await.take(2).await, [1, 2]);
    assert_eq!(gateway.sinks.list().len(), 1);
}

/// A receiver that is connected to again and again. It fails if an event is missing.
struct Steady {
    receiver: Receiver,
    highest: AtomicUsize,
    repeats: AtomicUsize,
    connections: AtomicUsize,
}

impl Steady {
    async fn start(name: &'static str) -> Arc<Self> {
        let receiver = Receiver::start(name).await;
        let none = AtomicUsize::default;
        let steady = Arc::new(Self { receiver, highest: none(), repeats: none(), connections: none() });
        tokio::spawn(Arc::clone(&steady).serve());
        steady
    }

    async fn serve(self: Arc<Self>) {
        loop {
            let Ok((stream, _)) = self.receiver.listener.accept().await else { return };
            self.connections.fetch_add(1, Ordering::Relaxed);
            let (reader, writer) = stream.into_split();
            let mut connection = Connection { reader: BufReader::new(reader), writer };
            while let Some(seq) = connection.next().await {
                let highest = self.highest.load(Ordering::Relaxed);
                assert!(seq as usize <= highest + 1, "{}: {seq} after {highest}", self.receiver.name);
                if seq as usize <= highest {
                    self.repeats.fetch_add(1, Ordering::Relaxed);
                }
                self.highest.fetch_max(seq as usize, Ordering::Relaxed);
                connection.ack(seq).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sink_gets_every_event_in_order_during_fifty_reloads() {
    const RELOADS: usize = 50;
    let gateway = Gateway::start().await;
    let (kept, changing, coming) =
        tokio::join!(Steady::start("kept"), Steady::start("changing"), Steady::start("coming"));
    let tables = |turn: usize| {
        let changing = changing.receiver.table(&format!("max_unacked = {}", 10 + turn % 2));
        let coming = if turn.is_multiple_of(2) { coming.receiver.table("") } else { String::new() };
        kept.receiver.table("") + &changing + &coming
    };
    let is_over = AtomicBool::new(false);
    let appending = async {
        while !is_over.load(Ordering::Relaxed) {
            gateway.append_numbered(20).await;
        }
    };
    let reloading = async {
        for turn in 0..=RELOADS {
            let answer = reload(&gateway, &tables(turn)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(appending, reloading);
    let head = gateway.log.head().get() as usize;
    for sink in [&kept, &changing, &coming] {
        let name = sink.receiver.name;
        let has_all = || sink.highest.load(Ordering::Relaxed) == head;
        until(&format!("{name} has all {head} events"), has_all).await;
    }
    let counts =
        |sink: &Steady| (sink.connections.load(Ordering::Relaxed), sink.repeats.load(Ordering::Relaxed));
    assert_eq!(counts(&kept), (1, 0), "one connection, and no repeat");
    println!("changing: {:?}, coming: {:?} (connections, repeats)", counts(&changing), counts(&coming));
    assert!(counts(&changing).0 > RELOADS);
}

/// Sends a reload, and returns the status; `None` if the gateway is gone.
async fn status_of_a_reload(address: std::net::SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let head = "POST /api/config/reload HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                connection: close\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_while_the_gateway_stops_delays_nothing_and_loses_nothing() {
    let gateway = Gateway::start().await;
    let sink = Steady::start("a").await;
    let file = gateway.config_file();
    reload(&gateway, &sink.receiver.table("")).await;
    gateway.append_numbered(200).await;
    let (address, tables) =
        (gateway.address, [5, 6].map(|max| sink.receiver.table(&format!("max_unacked = {max}"))));
    let (begun, begin) = tokio::sync::oneshot::channel();
    let reloads = tokio::spawn(async move {
        let mut begun = Some(begun);
        let mut statuses = Vec::new();
        for table in tables.iter().cycle() {
            if std::fs::write(&file, table).is_err() {
                break; // The folder was deleted with the gateway.
            }
            let Some(status) = status_of_a_reload(address).await else { break };
            statuses.push(status);
            begun.take().map(|begun| begun.send(()));
        }
        statuses
    });
    within("the first reload", begin).await.unwrap();
    gateway.drain().await;
    let statuses = within("the end", reloads).await.unwrap();
    assert!(statuses.iter().all(|status| status == "200" || status == "503"), "{statuses:?}");
    assert_eq!(sink.highest.load(Ordering::Relaxed), 200);
}
