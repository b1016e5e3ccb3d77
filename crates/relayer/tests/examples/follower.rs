//! Runs the follower example as a process that can be killed and restarted, and keeps the output of
//! each run.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use wire::Signer;

use crate::consumer::{Language, read, whole_lines};
use crate::program::PATIENCE;

pub struct Follower {
    pub language: Language,
    gateway: String,
    bot: String,
    has_shared_secret: bool,
    folder: TempDir,
    child: Option<Child>,
    lives: usize,
}

impl Follower {
    /// `gateway` is the gateway's URL, and `bot` is the key to follow.
    pub fn new(language: Language, gateway: &str, bot: &str, key: &Signer) -> Self {
        let folder = TempDir::new().expect("a folder");
        let secret: String = key.secret().iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(folder.path().join("key"), secret + "\n").expect("written");
        let (gateway, bot) = (gateway.to_owned(), bot.to_owned());
        Self { language, gateway, bot, has_shared_secret: false, folder, child: None, lives: 0 }
    }

    pub fn shared_secret(mut self, secret: &str) -> Self {
        std::fs::write(self.folder.path().join("secret"), format!("{secret}\n")).expect("written");
        self.has_shared_secret = true;
        self
    }

    pub fn start(&mut self) {
        let life = |what: &str| File::create(self.file(self.lives, what)).expect("a file");
        let mut command = self.language.command("follow", self.folder.path());
        command.args(["--gateway", &self.gateway, "--bot", &self.bot]);
        command.arg("--key-file").arg(self.folder.path().join("key")).arg("--state").arg(self.state());
        if self.has_shared_secret {
            command.arg("--shared-secret-file").arg(self.folder.path().join("secret"));
        }
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
    pub fn printed(&self) -> Vec<Vec<Value>> {
        let lives = (0..self.lives).map(|life| read(&self.file(life, "out")));
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        lives.map(|text| whole_lines(&text).lines().map(line).collect()).collect()
    }

    /// Waits until all runs together have printed this number of lines.
    pub async fn until_lines(&mut self, lines: usize) {
        let what = format!("it prints {lines} lines");
        self.until(&what, |this| {
            let outputs = (0..this.lives).map(|life| read(&this.file(life, "out")));
            outputs.map(|output| whole_lines(&output).lines().count()).sum::<usize>() >= lines
        })
        .await;
    }

    /// Waits until the example has printed the message with this number.
    pub async fn until_printed(&mut self, seq: u64) {
        let what = format!("it prints {seq}");
        self.until(&what, |this| {
            let text = read(&this.file(this.lives - 1, "out"));
            let last = whole_lines(&text).lines().next_back();
            let last = last.and_then(|line| serde_json::from_str::<Value>(line).ok());
            last.is_some_and(|last| last["seq"].as_u64() >= Some(seq))
        })
        .await;
    }

    pub async fn until_stderr_contains(&mut self, text: &str) {
        self.until(text, |this| this.stderr().contains(text)).await;
    }

    /// Standard error of all runs.
    pub fn stderr(&self) -> String {
        (0..self.lives).map(|life| read(&self.file(life, "err"))).collect()
    }

    /// Waits until the state file contains this text.
    pub async fn until_state_contains(&mut self, text: &str) {
        self.until(text, |this| {
            std::fs::read_to_string(this.state()).is_ok_and(|state| state.contains(text))
        })
        .await;
    }

    async fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{:?}: not in time: {what}\n{}", self.language, self.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state.json")
    }

    /// Writes a state file in the example's format.
    pub fn write_state(&self, pubkey: &str, seq: u64) {
        let state = serde_json::json!({ "gateway": self.gateway, "pubkey": pubkey, "seq": seq });
        std::fs::write(self.state(), state.to_string()).expect("written");
    }

    fn file(&self, life: usize, what: &str) -> PathBuf {
        self.folder.path().join(format!("life-{life}.{what}"))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The process may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Registers a bot with the example, and returns the gateway's response.
pub fn register(language: Language, gateway: &str, bot: &Signer, name: &str) -> Value {
    let folder = TempDir::new().expect("a folder");
    let secret: String = bot.secret().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = language.command("register-bot", folder.path());
    command.args(["--gateway", gateway, "--name", name]).env("NOSTR_SECRET_KEY", secret);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{language:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Publishes a signal with the example, and returns the event that it prints.
pub fn publish(language: Language, relay: &str, bot: &Signer, content: &str) -> Value {
    let folder = TempDir::new().expect("a folder");
    let secret: String = bot.secret().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(folder.path().join("bot.key"), secret).expect("written");
    let mut command = language.command("publish", folder.path());
    command.args(["--relay", relay, "--content", content, "--key-file"]).arg(folder.path().join("bot.key"));
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{language:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}
