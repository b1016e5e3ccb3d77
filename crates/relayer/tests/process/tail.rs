//! `moltrade-relayer tail` against a gateway that restarts, stops answering, refuses, or is not
//! there.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relay_sim::Sim;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::program::{PATIENCE, Running, Site};
use crate::receivers::ids_of_the_log;

/// A running `tail`.
struct Tailing {
    child: Child,
    lines: UnboundedReceiver<String>,
    said: Arc<Mutex<String>>,
}

impl Tailing {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let mut command = site.command();
        command.arg("tail").args(arguments);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (sender, lines) = unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line.expect("UTF-8")).is_err() {
                    return;
                }
            }
        });
        let said = Arc::<Mutex<String>>::default();
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                *heard.lock().expect("whole") += &format!("{}\n", line.expect("UTF-8"));
            }
        });
        Self { child, lines, said }
    }

    fn said(&self) -> String {
        self.said.lock().expect("whole").clone()
    }

    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.recv()).await;
        let line = line.unwrap_or_else(|_| panic!("no event: {}", self.said()));
        let line = line.unwrap_or_else(|| panic!("it ended: {}", self.said()));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(self.next().await["seq"].as_u64().expect("an envelope"));
        }
        seqs
    }

    async fn until_said(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not in {}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end: {}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the end, and returns the remaining events and the exit status.
    async fn rest(mut self) -> (Vec<Value>, Option<i32>) {
        let status = self.ended().await;
        let mut events = Vec::new();
        while let Some(line) = timeout(PATIENCE, self.lines.recv()).await.expect("the output ends") {
            events.push(serde_json::from_str(&line).expect("JSON"));
        }
        (events, status.code())
    }
}

impl Drop for Tailing {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `tail` to its end; returns the events, the exit status, and standard error.
async fn tail(site: &Site, arguments: &[&str]) -> (Vec<Value>, Option<i32>, String) {
    let tailing = Tailing::start(site, arguments);
    let said = Arc::clone(&tailing.said);
    let (events, status) = tailing.rest().await;
    let said = said.lock().expect("whole").clone();
    (events, status, said)
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|envelope| envelope["seq"].as_u64().expect("an envelope")).collect()
}

fn publish(sim: &Sim, events: usize) {
    let now = moltrade_relayer::clock::unix_secs();
    tokio::task::block_in_place(|| sim.publish_many(&[0], 1, &vec![now; events]));
}

async fn until_head(running: &Running, head: u64) {
    running
        .until("all events are in the log", async |running| running.metric("log_head_seq").await >= head)
        .await;
}

async fn gateway_with(events: usize) -> (Sim, Site, Running) {
    let sim = Sim::builder().seed(1).relays(1).events(events).start().await.expect("starts");
    let site = Site::on(&sim);
    let running = site.start().await;
    until_head(&running, events as u64).await;
    (sim, site, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn options_choose_the_events_and_their_form() {
    let (_sim, site, running) = gateway_with(20).await;
    let ids = ids_of_the_log(&running).await;
    let ids_of = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["id"].as_str().expect("a bare event").to_owned()).collect()
    };
    let (events, status, said) = tail(&site, &["--cursor", "0", "-n", "5"]).await;
    assert_eq!((ids_of(&events), status), (ids[..5].to_vec(), Some(0)), "{said}");
    assert_eq!(said, format!("moltrade-relayer: connected to http://{}\n", running.address()));

    let log = running.json("/status").await["log"]["id"].as_str().expect("an identity").to_owned();
    let cursor = format!("{log}:17");
    let (events, status, said) = tail(&site, &["-q", "--cursor", &cursor, "--envelope", "-n", "3"]).await;
    assert_eq!((seqs(&events), status, &*said), (vec![18, 19, 20], Some(0), ""));
    assert_eq!((&events[0]["log"], &events[0]["event"]["id"]), (&Value::from(log), &Value::from(&*ids[17])));
    assert!(events[0]["relay"].is_string() && events[0]["received_at"].is_u64(), "{}", events[0]);

    let (events, status, _) = tail(&site, &["--since", "1h", "-n", "20"]).await;
    assert_eq!((ids_of(&events), status), (ids.clone(), Some(0)));
    let filter = format!(r#"{{"ids":["{}","{}"]}}"#, ids[7], ids[11]);
    let (events, status, _) = tail(&site, &["--cursor", "0", "--filter", &filter, "-n", "2"]).await;
    assert_eq!((ids_of(&events), status), (vec![ids[7].clone(), ids[11].clone()], Some(0)));
    let (kind, author) =
        (events[0]["kind"].to_string(), events[0]["pubkey"].as_str().expect("a key").to_owned());
    let (events, status, _) =
        tail(&site, &["--cursor", "0", "--kinds", &kind, "--authors", &author, "-n", "1"]).await;
    assert_eq!(
        (events[0]["kind"].to_string(), &events[0]["pubkey"], status),
        (kind, &Value::from(author), Some(0))
    );

    // Elsewhere, without a configuration.
    let url = format!("http://{}/", running.address());
    let (events, status, _) = tail(&Site::empty(), &["--url", &url, "--cursor", "19", "-n", "1"]).await;
    assert_eq!((ids_of(&events), status), (vec![ids[19].clone()], Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_closes_the_pipe_ends_it_silently() {
    let (_sim, site, _running) = gateway_with(3).await;
    // All three events are written at once, and no event comes later, so only the closed pipe can
    // end `tail`.
    let program = site.command();
    let script = "{ \"$0\" tail --quiet --cursor 0; echo \"status $?\" >&2; } | head -n 1";
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program.get_program());
    command.env_clear().current_dir(site.folder()).env("PATH", std::env::var("PATH").unwrap_or_default());
    command.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut shell = Tailing::spawn(command);
    shell.next().await;
    let said = Arc::clone(&shell.said);
    let (events, status) = shell.rest().await;
    assert_eq!((events.len(), status), (0, Some(0)));
    assert_eq!(*said.lock().expect("whole"), "status 0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_gateway_causes_no_gap_and_no_repeat() {
    let (sim, site, running) = gateway_with(5).await;
    let mut tailing = Tailing::start(&site, &["--envelope"]);
    tailing.until_said("continuing after event 5").await;
    // Killed before the first event: the place is known nevertheless.
    running.kill();
    tailing.until_said("; reconnecting").await;
    publish(&sim, 3);
    let running = site.start().await;
    assert_eq!(tailing.seqs(3).await, [6, 7, 8]);
    publish(&sim, 10);
    assert_eq!(tailing.seqs(10).await, Vec::from_iter(9..=18));
    running.kill();
    publish(&sim, 10);
    let running = site.start().await;
    publish(&sim, 5);
    assert_eq!(tailing.seqs(15).await, Vec::from_iter(19..=33));
    assert_eq!(tailing.said().matches("connected to ").count(), 3, "{}", tailing.said());
    tailing.signal("INT");
    let said = Arc::clone(&tailing.said);
    let (events, status) = tailing.rest().await;
    assert_eq!((events.len(), status), (0, Some(0)), "{}", said.lock().expect("whole"));
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_a_consumer_continues_after_what_was_written() {
    let (_sim, site, running) = gateway_with(12).await;
    let arguments = ["--consumer", "import", "--cursor", "0", "--envelope", "-n", "4"];
    for (first, last) in [(1, 4), (5, 8)] {
        let (events, status, said) = tail(&site, &arguments).await;
        assert_eq!((seqs(&events), status), (Vec::from_iter(first..=last), Some(0)), "{said}");
        assert!(said.contains(" as consumer import\n"), "{said}");
    }
    let consumers = running.json("/api/consumers").await;
    assert_eq!(
        (&consumers["consumers"][0]["name"], &consumers["consumers"][0]["cursor"]),
        (&"import".into(), &8.into())
    );
    // A third one goes on, and is replaced by a fourth.
    let mut third = Tailing::start(&site, &["--consumer", "import", "--envelope"]);
    assert_eq!(third.seqs(4).await, [9, 10, 11, 12]);
    let fourth = Tailing::start(&site, &["--consumer", "import"]);
    assert_eq!(third.ended().await.code(), Some(1), "{}", third.said());
    third.until_said("another connection took over this consumer; give each program its own").await;
    fourth.until_said("connected to ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_gets_no_repeat_after_a_crash_of_the_gateway() {
    let (sim, site, running) = gateway_with(5).await;
    let mut tailing = Tailing::start(&site, &["--consumer", "import", "--cursor", "0", "--envelope"]);
    assert_eq!(tailing.seqs(5).await, [1, 2, 3, 4, 5]);
    // The gateway may not have stored the last acknowledgement.
    running.kill();
    let running = site.start().await;
    publish(&sim, 3);
    assert_eq!(tailing.seqs(3).await, [6, 7, 8]);
    running
        .until("all is acknowledged", async |running| {
            running.json("/api/consumers").await["consumers"][0]["cursor"] == 8
        })
        .await;
    tailing.signal("TERM");
    assert_eq!(tailing.rest().await.1, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_although_nobody_reads() {
    let (_sim, site, running) = gateway_with(2_000).await;
    let mut command = site.command();
    command
        .args(["tail", "--consumer", "slow", "--cursor", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    // The pipe is full when some events are acknowledged and the others are not.
    running
        .until("it is connected", async |running| {
            running.json("/api/consumers").await["consumers"][0]["connected"] == true
        })
        .await;
    let mut out = child.stdout.take().expect("piped");
    let mut byte = [0];
    out.read_exact(&mut byte).expect("an event");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().expect("kill runs").success());
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("waits").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it runs");
            panic!("it did not end");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    // The signal may have cut the last line, even within a character.
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).expect("readable");
    let rest = String::from_utf8_lossy(&rest);
    let written = rest.lines().filter(|line| line.ends_with('}')).count() as u64;
    let acknowledged = running.json("/api/consumers").await["consumers"][0]["cursor"].as_u64();
    assert!(acknowledged.expect("a cursor") <= written, "{acknowledged:?} of {written} written events");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_gateway_that_is_not_there_unless_told_otherwise() {
    let site = Site::empty();
    let (events, status, said) = tail(&site, &["--no-reconnect"]).await;
    assert_eq!((events.len(), status), (0, Some(3)), "{said}");
    assert!(said.starts_with("moltrade-relayer: cannot connect: "), "{said}");
    let tailing = Tailing::start(&site, &[]);
    tailing.until_said("cannot connect: ").await;
    assert!(tailing.said().contains("; reconnecting\n"), "{}", tailing.said());
    let running = site.start().await;
    tailing
        .until_said(&format!("connected to http://{}, continuing after event 0\n", running.address()))
        .await;
    assert_eq!(tailing.said().lines().count(), 2, "an outage is reported once: {}", tailing.said());
    running.signal("TERM");
    tailing.until_said("the gateway is stopping; reconnecting\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_explained() {
    let site = Site::empty();
    for wrong in [
        &["--cursor", "x"][..],
        &["--cursor", "1", "--since", "1h"],
        &["-n", "0"],
        &["--url", "ws://a.example"],
    ] {
        let (_, status, said) = tail(&site, wrong).await;
        assert_eq!(status, Some(2), "{wrong:?}: {said}");
        assert!(said.starts_with("error: "), "{said}");
    }
    let any_port = Site::empty().set("RELAYER_OUTPUT__WEBSOCKET_PORT", "0");
    let (_, status, said) = tail(&any_port, &[]).await;
    assert!(status == Some(1) && said.contains("use --url"), "{said}");
    let invalid = Site::empty().set("RELAYER_OUTPUT__BATCH_SIZE", "0");
    assert_eq!(tail(&invalid, &[]).await.1, Some(78));

    let running = site.start().await;
    for (wrong, told) in [
        (&["--kinds", "one"][..], "`kinds` must be a list of kinds"),
        (&["--cursor", "100"], "100"),
        (&["--cursor", "0123456789abcdef:0"], "log"),
        (&["--filter", "{"], "filter"),
        (&["--consumer", "a b"], "consumer"),
    ] {
        let (_, status, said) = tail(&site, wrong).await;
        assert_eq!(status, Some(1), "{wrong:?}: {said}");
        let start = format!("moltrade-relayer: the gateway at http://{} refuses: ", running.address());
        assert!(said.starts_with(&start) && said.contains(told), "{said}");
    }
}

/// A server that answers one request after the other with these bytes, and tells each request.
async fn scripted(answers: Vec<String>) -> (String, UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (requests, heard) = unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let _ = requests.send(String::from_utf8_lossy(&request[..read]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, heard)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\nrelayer-log: 5b1f08c2a94e7d36\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_events_are_reported_and_skipped() {
    let trimmed = answer("410 Gone", r#"{"error":"cursor_too_old","message":"x","oldest":11,"newest":20}"#);
    for (arguments, resumed) in [
        (&["--cursor", "3"][..], "&cursor=5b1f08c2a94e7d36%3A10 "),
        (&["--consumer", "a"], "&consumer=a&seek=5b1f08c2a94e7d36%3A10 "),
    ] {
        let (url, mut heard) = scripted(vec![trimmed.clone(), answer("401 Unauthorized", "")]).await;
        let arguments = [&["--quiet", "--url", &url], arguments].concat();
        let site = Site::empty();
        let mut command = site.command();
        command.arg("tail").args(arguments).env("MOLTRADE_RELAYER_TOKEN", "read-token");
        let mut tailing = Tailing::spawn(command);
        assert_eq!(tailing.ended().await.code(), Some(1), "{}", tailing.said());
        tailing.until_said("set MOLTRADE_RELAYER_TOKEN to the token of one of [[api.readers]], or to the admin_token of [api]\n").await;
        let lost = "no longer stores the events up to 10; starting with event 11\n";
        assert!(
            tailing.said().contains(lost) && !tailing.said().contains("read-token"),
            "{}",
            tailing.said()
        );
        heard.recv().await.expect("a request");
        let request = heard.recv().await.expect("another request");
        assert!(
            request.contains(resumed) && request.contains("authorization: Bearer read-token\r\n"),
            "{request}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_are_not_believed() {
    for (sent, told) in [
        (answer("200 OK", "hello"), "refuses: it answered 200 OK"),
        (
            answer("403 Forbidden", r#"{"error":"x","message":"\u001b[31mred\nline"}"#),
            "\u{fffd}[31mred\u{fffd}line",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
                .to_owned(),
            "its answer is not that of a WebSocket server",
        ),
        ("nonsense\r\n\r\n".to_owned(), "the request failed: "),
    ] {
        let (url, _heard) = scripted(vec![sent]).await;
        let (events, status, said) =
            tail(&Site::empty(), &["--url", &url, "--cursor", "0", "--no-reconnect"]).await;
        assert!(events.is_empty() && matches!(status, Some(1 | 3)), "{status:?} {said}");
        assert!(said.contains(told) && said.lines().count() == 1 && !said.contains('\x1b'), "{said:?}");
    }
}
