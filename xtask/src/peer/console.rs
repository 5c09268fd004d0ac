//! The console of a machine with Xen. What it shows is kept in a log, too.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::paths;
use crate::qemu::Process;

/// Where the console of the machine `name` is kept.
pub fn log(name: &str) -> PathBuf {
    paths::target().join("peer").join(format!("{name}.log"))
}

/// A machine that runs, and what it says. It ends with this value.
#[derive(Debug)]
pub struct Console {
    process: Process,
    bytes: Vec<u8>,
    log: File,
    path: PathBuf,
    started: Instant,
    timeout: Duration,
    _folder: TempDir,
}

impl Console {
    /// That of a machine that just began, which uses the files in `folder`.
    pub(super) fn open(
        process: Process,
        folder: TempDir,
        name: &str,
        timeout: Duration,
    ) -> Result<Console> {
        let path = log(name);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let log = File::create(&path)
            .with_context(|| format!("cannot write the console's log {}", path.display()))?;
        let started = Instant::now();
        Ok(Console { process, bytes: Vec::new(), log, path, started, timeout, _folder: folder })
    }

    /// Everything that it showed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).replace('\r', "")
    }

    /// Waits until `is_there` finds what it looks for in the text.
    ///
    /// # Errors
    /// The machine ends or its time does: the error says where the log is.
    pub fn wait_for(&mut self, what: &str, mut is_there: impl FnMut(&str) -> bool) -> Result<()> {
        while !is_there(&self.text()) {
            if !self.read(what)? {
                let exit = self.process.wait(Some(self.deadline()))?;
                let exit = exit.map(|exit| format!(" ({}) {}", exit.status, exit.message));
                let how = exit.unwrap_or_default();
                bail!("QEMU ended{how} while waiting for {what}; {}", self.place());
            }
        }
        Ok(())
    }

    /// Waits until the machine has powered off.
    ///
    /// # Errors
    /// It does not in its time.
    pub fn wait_for_end(&mut self) -> Result<()> {
        while self.read("the machine to power off")? {}
        Ok(())
    }

    /// Takes what it shows next; false if the machine has ended.
    fn read(&mut self, what: &str) -> Result<bool> {
        match self.process.read(self.deadline()) {
            Ok(Some(bytes)) => {
                self.log.write_all(&bytes)?;
                self.bytes.extend(bytes);
                Ok(true)
            }
            Ok(None) | Err(RecvTimeoutError::Disconnected) => Ok(false),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.timeout.as_secs();
                bail!("timeout after {seconds} s while waiting for {what}; {}", self.place())
            }
        }
    }

    fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    /// Where a person can read all of it.
    pub fn place(&self) -> String {
        format!("the console is in {}", self.path.display())
    }
}
