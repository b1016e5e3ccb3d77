//! The child process: plays whatever is on the other side of the gateway's sockets.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Outcome;
use crate::duplicate;

/// The first argument of a child.
pub const ROLE: &str = "play";

/// A child that plays a part. It ends when this is dropped.
pub struct Player {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Player {
    pub fn start(arguments: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
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

    /// The next line that the child says.
    pub fn hear(&mut self) -> Result<String, Box<dyn std::error::Error>> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err("the player ended".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Says a line to the child.
    pub fn say(&mut self, line: &str) -> Outcome {
        Ok(writeln!(self.to, "{line}")?)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the part that the arguments name.
pub fn play(arguments: &[String]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["copies"] => runtime.block_on(duplicate::play()),
        other => Err(format!("no such part: {other:?}").into()),
    }
}
