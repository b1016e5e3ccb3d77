//! `moltrade-relayer top` in a pipe, and in a terminal that `script` (util-linux) provides.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relay_sim::Sim;

use crate::program::{PATIENCE, Running, Site};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// Runs `top` with its output in a pipe.
async fn piped(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.command();
    command.arg("top").args(arguments).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
}

fn text(output: &Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

async fn gateway() -> (Sim, Site, Running) {
    let sim = Sim::builder().seed(1).relays(2).events(20).start().await.expect("starts");
    let site = Site::on(&sim).set(
        "RELAYER_OUTPUT__DOWNSTREAM_TCP",
        // Nothing listens there.
        "127.0.0.1:9",
    );
    let running = site.start().await;
    running
        .until("it works", async |running| {
            running.metric("log_head_seq").await == 20 && running.metric("active_connections").await == 2
        })
        .await;
    (sim, site, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_gets_plain_text() {
    let (sim, site, running) = gateway().await;
    let output = piped(&site, &[]).await;
    let shown = text(&output);
    assert!(output.status.success() && !shown.contains('\x1b'), "{shown}");
    let relay = sim.url(0);
    let relay = relay.trim_end_matches('/');
    for told in [
        format!("gateway   http://{}, 0.1.0, up ", running.address()),
        "\nrelays    2 of 2 connected: ".to_owned(),
        "events 1 to 20, 0 in the queue\n".to_owned(),
        "\nrates     frames ".to_owned(),
        "\nRELAY ".to_owned(),
        format!("\n{relay} "),
        "\nSINK OR CONSUMER ".to_owned(),
        "\n127.0.0.1:9 ".to_owned(),
    ] {
        assert!(shown.contains(&told), "{told:?} is not in {shown}");
    }
    assert_eq!(shown.matches("time      ").count(), 1, "{shown}");
    let shown = text(&piped(&site, &["--interval", "1", "-n", "2"]).await);
    assert_eq!(shown.matches("time      ").count(), 2, "{shown}");

    let url = format!("http://{}", running.address());
    drop(running);
    let output = piped(&site, &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{said}");
    assert!(said.starts_with(&format!("moltrade-relayer: cannot reach {url}: cannot connect: ")), "{said}");
    // It waits if it may.
    let output = piped(&site, &["--interval", "1", "-n", "1"]).await;
    let shown = text(&output);
    assert!(
        output.status.success() && shown.contains(&format!("\nproblem   cannot reach {url}: ")),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_explained() {
    let site = Site::empty();
    for wrong in [&["--interval", "0"][..], &["-n", "0"], &["--url", "a.example"]] {
        let output = piped(&site, wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let any_port = Site::empty().set("RELAYER_OUTPUT__WEBSOCKET_PORT", "0");
    let output = piped(&any_port, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("use --url"));
}

/// `top` in a terminal of 80 × 24.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// Prints the settings of the terminal before and after, and the exit status.
    fn start(site: &Site, arguments: &str, environment: &[(&str, &str)]) -> Self {
        let program = site.command();
        let script = format!(
            "stty rows 24 cols 80; echo \"before $(stty -g)\"; \
             sh -c 'echo $$ > pid; exec \"$0\" top {arguments}' '{}'; \
             echo \"status $?\"; echo \"after $(stty -g)\"",
            program.get_program().display(),
        );
        let mut command = Command::new("script");
        command.args(["-qfec", &script, "/dev/null"]).env_clear().current_dir(site.folder());
        command.env("PATH", std::env::var("PATH").unwrap_or_default()).env("TERM", "xterm-256color");
        command.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("SHELL", "/bin/sh").envs(environment.iter().copied());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux runs");
        let (keys, mut out) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let shown = Arc::<Mutex<String>>::default();
        let seen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut part = [0; 4_096];
            let mut bytes = Vec::new();
            while let Ok(read @ 1..) = out.read(&mut part) {
                bytes.extend_from_slice(&part[..read]);
                *seen.lock().expect("whole") = String::from_utf8_lossy(&bytes).into_owned();
            }
        });
        Self { child, keys, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("whole").clone()
    }

    async fn until_shown(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not in {:?}", self.shown());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("`script` reads");
    }

    /// Waits for the end, and checks that the terminal is as it was. Returns the text that was
    /// printed after the screen closed and before `status`.
    async fn ended(&mut self, status: i32) -> String {
        self.until_shown("after ").await;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("waits").is_none() {
            assert!(Instant::now() < deadline, "it did not end: {:?}", self.shown());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let shown = self.shown();
        let line = |name: &str| {
            let line = shown.lines().find_map(|line| line.split(name).nth(1));
            line.unwrap_or_else(|| panic!("{name:?} is not in {shown:?}")).trim().to_owned()
        };
        assert_eq!(line("status "), status.to_string(), "{shown:?}");
        assert_eq!(line("before "), line("after "), "{shown:?}");
        assert_eq!((shown.matches(ENTER).count(), shown.matches(LEAVE).count()), (1, 1), "{shown:?}");
        let (_, rest) = shown.split_once(LEAVE).expect("it was left");
        assert!(rest.contains("\x1b[?25h"), "the cursor is shown again: {rest:?}");
        rest.split("status ").next().expect("a part").to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_a_screen_and_is_restored() {
    let (_sim, site, running) = gateway().await;
    let mut terminal = Terminal::start(&site, "--interval 1", &[]);
    terminal.until_shown(" q quit  s/S sort").await;
    // Blank cells are skipped, so words are not always next to each other.
    terminal.until_shown("connected:").await;
    terminal.until_shown("FIRST▼").await;
    // Green.
    terminal.until_shown("\x1b[38;5;2;").await;
    terminal.press("s");
    terminal.until_shown("COPIES▼").await;
    terminal.press("q");
    terminal.ended(0).await;

    // A signal restores the terminal as well.
    let mut terminal = Terminal::start(&site, "", &[("NO_COLOR", "1")]);
    terminal.until_shown("connected:").await;
    let id = std::fs::read_to_string(site.folder().join("pid")).expect("written");
    assert!(Command::new("kill").args(["-s", "TERM", id.trim()]).status().expect("kill runs").success());
    terminal.ended(0).await;
    let shown = terminal.shown();
    assert!(!shown.contains("\x1b[38;") && !shown.contains("\x1b[48;"), "no colours: {shown:?}");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_while_the_gateway_is_down() {
    let site = Site::empty();
    let mut terminal = Terminal::start(&site, "--interval 1", &[]);
    terminal.until_shown("cannot reach http://127.0.0.1:").await;
    let running = site.start().await;
    terminal.until_shown("FIRST▼").await;
    drop(running);
    terminal.until_shown("unreachable").await;
    terminal.press("\x03");
    terminal.ended(0).await;
}

/// Release builds have no crash points.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_restores_the_terminal_and_is_readable() {
    let site = Site::empty();
    let mut terminal = Terminal::start(&site, "", &[("MOLTRADE_CRASH_POINT", "top_draw:2:panic")]);
    let rest = terminal.ended(101).await;
    assert!(rest.contains("the crash point top_draw was reached"), "{rest:?}");
}
