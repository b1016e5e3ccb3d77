//! Child processes, which run the other end of the gateway's sockets.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{
    Fallible, audience, bare, crowd, duplicate, floods, followers, memory, pooled, receiver, registry,
    repair, traffic,
};

/// The first argument of every child process.
pub const ROLE: &str = "play";

/// A child process with a role. Dropping this value ends the process.
pub struct Player {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Player {
    pub fn start(arguments: &[&str]) -> Fallible<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let to = child.stdin.take().ok_or("no stdin")?;
        let from = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self { child, to, from })
    }

    /// Reads the next line from the child process.
    pub fn hear(&mut self) -> Fallible<String> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err("the player ended".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Sends a line to the child process.
    pub fn say(&mut self, line: &str) -> Fallible<()> {
        Ok(writeln!(self.to, "{line}")?)
    }

    /// Sends a line and waits for the response.
    pub fn ask(&mut self, line: &str) -> Fallible<String> {
        self.say(line)?;
        self.hear()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Fails harmlessly if the child process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the role given in the arguments.
pub fn play(arguments: &[String]) -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["audience", numbers @ ..] => runtime.block_on(audience::play(numbers)),
        ["bare", place] => runtime.block_on(bare::play(place)),
        ["bot"] => runtime.block_on(followers::play_bot()),
        ["copies"] => runtime.block_on(duplicate::play()),
        ["crowd"] => runtime.block_on(crowd::play()),
        ["floods"] => runtime.block_on(floods::play()),
        ["followers"] => runtime.block_on(followers::play()),
        ["gaps"] => runtime.block_on(repair::play()),
        ["idle-gateway", relays @ ..] => runtime.block_on(memory::play(relays)),
        ["pooled", place] => runtime.block_on(pooled::play(place)),
        ["receiver", behaviour] => runtime.block_on(receiver::play(behaviour)),
        ["registry", store] => runtime.block_on(registry::play(store)),
        ["traffic", numbers @ ..] => runtime.block_on(traffic::play(numbers)),
        other => Err(format!("no such part: {other:?}").into()),
    }
}

/// Reads the next line from the parent; empty when the parent has exited.
pub async fn told() -> Fallible<String> {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    Ok(line.await??.trim_end().to_owned())
}
