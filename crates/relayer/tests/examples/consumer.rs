//! Runs a consumer example as a process that can be killed and restarted, and keeps the output of
//! each run.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::{PATIENCE, Site};

#[derive(Debug, Clone, Copy)]
pub enum Language {
    Rust,
    Python,
    JavaScript,
}

impl Language {
    /// The command that runs an example in a folder, without the caller's environment. The
    /// example's dependencies are linked into the folder.
    pub fn command(self, name: &str, folder: &Path) -> Command {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let mut command = match self {
            Self::Rust => {
                let programs = Path::new(env!("CARGO_BIN_EXE_moltrade-relayer")).parent().expect("a folder");
                let program = programs.join("examples").join(name);
                assert!(program.exists(), "{} is not built; run: make test", program.display());
                Command::new(program)
            }
            Self::Python => {
                let python = std::env::var_os("RELAYER_TEST_PYTHON").map_or_else(
                    || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python3"),
                    PathBuf::from,
                );
                let missing = "there is no Python to run the examples with; run: make python";
                assert!(python.exists(), "{}: {missing}", python.display());
                let mut command = Command::new(python);
                // `-B` prevents writes into the source folder.
                command.arg("-B").arg(examples.join("python").join(format!("{}.py", name.replace('-', "_"))));
                command
            }
            Self::JavaScript => {
                let node = std::env::var_os("RELAYER_TEST_NODE").map_or_else(
                    || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("node"),
                    PathBuf::from,
                );
                let missing = "there is no Node.js to run the examples with; run: make node";
                assert!(node.join("node").exists(), "{}: {missing}", node.display());
                // Node.js looks up packages only beside the module.
                let program = folder.join(format!("{name}.mjs"));
                std::fs::copy(examples.join("javascript").join(format!("{name}.mjs")), &program)
                    .unwrap_or_else(|error| panic!("{name}.mjs: {error}"));
                let packages = folder.join("node_modules");
                if !packages.exists() {
                    symlink(node.join("node_modules"), packages).expect("a link");
                }
                let mut command = Command::new(node.join("node"));
                command.arg(program);
                command
            }
        };
        command.env_clear();
        command
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub seq: u64,
    pub id: String,
}

pub struct Consumer {
    language: Language,
    transport: &'static str,
    target: String,
    secret: Option<String>,
    folder: TempDir,
    child: Option<Child>,
    lives: usize,
}

impl Consumer {
    /// `target` is the example's first argument: the address to connect to or to listen on.
    pub fn new(language: Language, transport: &'static str, target: impl Into<String>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let target = target.into();
        Self { language, transport, target, secret: None, folder, child: None, lives: 0 }
    }

    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }

    pub fn start(&mut self) {
        let life = |what: &str| File::create(self.file(self.lives, what)).expect("a file");
        let mut command = self.language.command(&format!("consume-{}", self.transport), self.folder.path());
        command.arg(&self.target).arg(self.state());
        command.envs(self.secret.as_ref().map(|secret| ("WEBHOOK_SECRET", secret)));
        self.child = Some(command.stdout(life("out")).stderr(life("err")).spawn().expect("it starts"));
        self.lives += 1;
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("started");
        let ended = child.try_wait().expect("waits");
        assert!(ended.is_none(), "it had ended already: {ended:?}\n{}", self.stderr());
        child.kill().expect("it was running");
        child.wait().expect("it ends");
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        self.until("it ends", |this| {
            status = this.child.as_mut().expect("started").try_wait().expect("waits");
            status.is_some()
        })
        .await;
        self.child = None;
        status.expect("ended")
    }

    /// The output of each run.
    pub fn printed(&self) -> Vec<Vec<Line>> {
        let line = |line: &str| {
            let (seq, id) = line.split_once(' ').expect("a number and an id");
            Line { seq: seq.parse().expect("a number"), id: id.to_owned() }
        };
        let lives = (0..self.lives).map(|life| whole_lines(&read(&self.file(life, "out"))).to_owned());
        lives.map(|text| text.lines().map(line).collect()).collect()
    }

    /// Standard error of all runs.
    pub fn stderr(&self) -> String {
        (0..self.lives).map(|life| read(&self.file(life, "err"))).collect()
    }

    /// Waits until the example has printed a sequence.
    pub async fn until_printed(&mut self, seq: u64) {
        let what = format!("it prints {seq}");
        // Checking the last line is enough.
        self.until(&what, |this| {
            (0..this.lives).any(|life| {
                let text = read(&this.file(life, "out"));
                let last = whole_lines(&text).lines().next_back().and_then(|line| line.split(' ').next());
                last.is_some_and(|last| last.parse::<u64>().expect("a number") >= seq)
            })
        })
        .await;
    }

    /// Waits until standard error contains this text.
    pub async fn until_stderr_contains(&mut self, text: &str) {
        self.until(text, |this| this.stderr().contains(text)).await;
    }

    /// Waits until the state file has this content.
    pub async fn until_state(&mut self, text: &str) {
        self.until(text, |this| std::fs::read_to_string(this.state()).is_ok_and(|state| state == text)).await;
    }

    async fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{:?}: not in time: {what}\n{}", self.language, self.stderr());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("cursor.txt")
    }

    pub fn write_state(&self, text: &str) {
        File::create(self.state()).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    }

    fn file(&self, life: usize, what: &str) -> PathBuf {
        self.folder.path().join(format!("life-{life}.{what}"))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The process may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn read(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).expect("it can be read");
    text
}

/// The lines of an output up to the last line break. A kill can cut the last line, even if the
/// program wrote it in one call: Linux ends a write between two pages when the process is killed.
pub fn whole_lines(output: &str) -> &str {
    output.rfind('\n').map_or("", |end| &output[..=end])
}

#[test]
fn a_line_that_a_kill_has_cut_does_not_count() {
    for (output, whole) in [("", ""), ("1 a", ""), ("1 a\n", "1 a\n"), ("1 a\n2", "1 a\n")] {
        assert_eq!(whole_lines(output), whole);
    }
}

/// The URL of a gateway's event stream.
pub fn stream(site: &Site) -> String {
    format!("http://127.0.0.1:{}/api/events/stream", site.port())
}

/// A free address. The system does not reuse it soon.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// Asserts that all runs together printed every event in order, and that at most `repeats_max`
/// events were repeated after each kill: those handled before the cursor was stored. Returns each
/// event once.
#[track_caller]
pub fn assert_complete(lives: &[Vec<Line>], repeats_max: u64) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for (number, life) in lives.iter().enumerate() {
        let mut expected = all.len() as u64 + 1;
        if let Some(first) = life.first() {
            let repeats = if number == 0 { 0 } else { repeats_max };
            let earliest = expected.saturating_sub(repeats).max(1);
            assert!((earliest..=expected).contains(&first.seq), "{} instead of {expected}", first.seq);
            expected = first.seq;
        }
        for line in life {
            assert_eq!(line.seq, expected, "life {number}: out of order, repeated or missing");
            expected += 1;
            match all.get(line.seq as usize - 1) {
                Some(known) => assert_eq!(line, known),
                None => all.push(line.clone()),
            }
        }
    }
    all
}
