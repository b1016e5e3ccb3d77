//! Steps the gateway's clock by means of a preloaded library, which adds an offset.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::Outcome;

const SOURCE: &str = include_str!("clock.c");

/// A clock whose offset can be set while the gateway runs.
pub struct Clock {
    shim: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Builds the library with `cc`.
    pub fn build(folder: &Path) -> Outcome<Self> {
        let (source, shim) = (folder.join("clock.c"), folder.join("clock.so"));
        std::fs::write(&source, SOURCE)?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).arg("-ldl");
        let status = cc.status().context("`cc`, which builds the stepped clock, does not start")?;
        anyhow::ensure!(status.success(), "`cc` cannot build {}: {status}", source.display());
        let clock = Self { shim, offset: folder.join("clock-offset") };
        clock.set_offset(0)?;
        Ok(clock)
    }

    /// Steps the clock, so that it is `secs` seconds ahead of the system's clock.
    pub fn set_offset(&self, secs: i64) -> Outcome<()> {
        use std::io::Write;
        // The file is overwritten in place, because the gateway has mapped it.
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.offset)?;
        Ok(file.write_all(&secs.to_ne_bytes())?)
    }

    /// The environment variables that make the gateway use this clock.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.shim), ("CLOCK_OFFSET", &self.offset)]
    }
}
