//! A scenario: one boot of a machine, and what is done with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;
use xtask::build::Images;
use xtask::options;
use xtask::qemu::Machine;
use xtask::session::Session;
use xtask::setup::Qemu;

use crate::Shell;

/// What one scenario may take; generous, because several run at once on a slow host.
const TIMEOUT: Duration = Duration::from_secs(240);

/// One boot of a machine, and what is done with it.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    name: &'static str,
    disks: &'static [u64],
    configure: fn(&mut options::Machine),
    play: fn(&mut Shell, &Stage) -> Result<()>,
}

/// What a scenario has on the host's side.
#[derive(Debug)]
pub struct Stage {
    /// The images of its disks, in order.
    pub disks: Vec<PathBuf>,
    folder: TempDir,
}

impl Stage {
    /// A folder that is removed with the scenario.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Scenario {
    /// A scenario on the plain machine with one small disk.
    pub const fn new(name: &'static str, play: fn(&mut Shell, &Stage) -> Result<()>) -> Scenario {
        Scenario { name, disks: &[1], configure: |_| {}, play }
    }

    /// The same with disks of so many MiB of random content.
    pub const fn with_disks(self, disks: &'static [u64]) -> Scenario {
        Scenario { disks, ..self }
    }

    /// The same on another machine.
    pub const fn on(self, configure: fn(&mut options::Machine)) -> Scenario {
        Scenario { configure, ..self }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Boots, plays, and powers off. Dom0 must survive whatever is played.
    ///
    /// # Errors
    /// What failed, and the whole console.
    pub fn run(&self, qemu: &Qemu, images: &Images) -> Result<()> {
        let stage = self.set_up()?;
        let mut options =
            options::Machine { disks: stage.disks.clone(), smp: 1, ..Default::default() };
        (self.configure)(&mut options);
        let session = Session::start(Machine::new(qemu, images, &options)?, TIMEOUT, None)?;
        let mut shell = Shell::new(session);
        let played = shell.wait_until_ready().and_then(|()| (self.play)(&mut shell, &stage));
        let transcript = shell.transcript();
        let ended = played.and_then(|()| shell.power_off());
        ended.map_err(|error| anyhow!("{error:#}\n── console ──\n{transcript}"))
    }

    fn set_up(&self) -> Result<Stage> {
        let folder = tempfile::Builder::new().prefix("aurochs-scenario-").tempdir()?;
        let mut disks = Vec::new();
        for (number, mib) in self.disks.iter().enumerate() {
            let path = folder.path().join(format!("disk{number}.img"));
            xtask::image::disk::random(&path, *mib).context("cannot make a disk")?;
            disks.push(path);
        }
        Ok(Stage { disks, folder })
    }
}
