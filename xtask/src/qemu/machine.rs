//! A machine that is ready to boot: its files, its layout, its command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use abi::control::CHANNELS;
use anyhow::{Context, Result};
use object::read::elf::ElfFile64;
use tempfile::TempDir;

use super::{CommandLine, Console, Cpu, Forwarded, Layout, Process, Qmp, Virt};
use crate::build::{Image, Images};
use crate::control;
use crate::image::{Ramdisk, Symbols, disk};
use crate::linux::Linux;
use crate::options;
use crate::paths;
use crate::setup::Qemu;

/// How long QEMU may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A machine that is ready to boot.
#[derive(Debug)]
pub struct Machine {
    virt: Virt,
    qemu: Qemu,
    options: options::Machine,
    monitor: Image,
    dom0: Image,
    disks: Vec<PathBuf>,
    layout: Layout,
    folder: Folder,
}

/// Where the files of one machine are.
#[derive(Debug)]
enum Folder {
    /// Removed with the machine.
    Temporary(TempDir),
    /// Used again by the next one.
    Kept(PathBuf),
}

impl Machine {
    /// Prepares the machine that `options` describe, in a folder that is removed with it.
    ///
    /// # Errors
    /// A file cannot be read or written, or memory does not suffice.
    pub fn new(qemu: &Qemu, images: &Images, options: &options::Machine) -> Result<Machine> {
        let folder = tempfile::Builder::new().prefix("aurochs-").tempdir()?;
        Machine::in_folder(qemu, images, options, Folder::Temporary(folder))
    }

    /// The same in a folder that stays.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn kept(
        qemu: &Qemu,
        images: &Images,
        options: &options::Machine,
        folder: &Path,
    ) -> Result<Machine> {
        fs::create_dir_all(folder)?;
        Machine::in_folder(qemu, images, options, Folder::Kept(folder.into()))
    }

    fn in_folder(
        qemu: &Qemu,
        images: &Images,
        options: &options::Machine,
        folder: Folder,
    ) -> Result<Machine> {
        let virt = Virt::load();
        let mut disks = disks(options, &virt)?;
        let linux = Linux::new(options)?;
        let ramdisk = ramdisk(images, options, disks.len(), linux.as_ref())?;
        if linux.is_some() {
            disks.push(Linux::make_disk(folder.path())?);
        }
        fs::write(folder.path().join(RAMDISK), &ramdisk)?;
        let layout = Layout::new(
            &virt.memory,
            options.memory.unwrap_or(virt.machine.memory_mib),
            images.monitor.memory_size,
            images.dom0.flat.metadata()?.len(),
            ramdisk.len() as u64,
        )?;
        Ok(Machine {
            virt,
            qemu: qemu.clone(),
            options: options.clone(),
            monitor: images.monitor.clone(),
            dom0: images.dom0.clone(),
            disks,
            layout,
            folder,
        })
    }

    /// Starts it.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start(&self, console: Console) -> Result<Process> {
        match console {
            Console::Terminal => Process::on_terminal(&self.qemu, &self.command_line(console)),
            Console::Pipe => Process::on_pipe(&self.qemu, &self.command_line(console)),
            Console::Socket(_) => Process::in_background(&self.qemu, &self.command_line(console)),
        }
    }

    /// Starts it halted, for gdb to connect to `port`.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start_halted(&self, console: Console, port: u16) -> Result<Process> {
        let line = CommandLine { gdb_port: Some(port), ..self.command_line(console) };
        Process::in_background(&self.qemu, &line)
    }

    /// Has the machine, which runs as `process`, open the host's ports that lead to it. None if
    /// it has ended already: whoever waits for it learns why.
    ///
    /// # Errors
    /// One that must be had is not free, or QEMU does not answer.
    pub fn open_ports(&self, process: &mut Process) -> Result<Vec<Forwarded>> {
        if self.options.forwards.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + PATIENCE;
        let mut qmp = loop {
            match Qmp::connect(&self.qmp_socket()) {
                Ok(qmp) => break qmp,
                Err(_) if process.has_ended() => return Ok(Vec::new()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        self.options.forwards.iter().map(|forward| forward.open(&mut qmp)).collect()
    }

    /// Where everything is in memory.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where its sockets are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where QEMU answers questions.
    pub fn qmp_socket(&self) -> PathBuf {
        self.folder.path().join("qmp")
    }

    /// Where `cpu` is, for people.
    pub fn describe(&self, cpu: &Cpu) -> String {
        let Cpu { number, level, pc } = *cpu;
        let place = match level {
            2 => name_in(&self.monitor, pc.checked_sub(self.layout.monitor.start)),
            // The monitor chose where dom0 lies, but at a multiple of its alignment.
            1 => name_in(&self.dom0, pc.checked_rem(Layout::ALIGNMENT))
                .map(|name| format!("if that is dom0, {name}")),
            _ => None,
        };
        let place = place.map(|name| format!(" ({name})")).unwrap_or_default();
        format!("CPU {number} is at {pc:#x} in EL{level}{place}")
    }

    fn command_line(&self, console: Console) -> CommandLine<'_> {
        CommandLine {
            virt: &self.virt,
            options: &self.options,
            disks: &self.disks,
            monitor: &self.monitor.flat,
            kernel: &self.dom0.flat,
            ramdisk: self.folder.path().join(RAMDISK),
            layout: &self.layout,
            console,
            qmp: self.qmp_socket(),
            channels: (0..CHANNELS)
                .map(|channel| control::socket(self.folder(), channel))
                .collect(),
            gdb_port: None,
        }
    }
}

const RAMDISK: &str = "ramdisk.tar";

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(path) => path,
        }
    }
}

/// The disks that the user gave, or the one that is made in their place.
fn disks(options: &options::Machine, virt: &Virt) -> Result<Vec<PathBuf>> {
    if options.disks.is_empty() {
        return Ok(vec![disk::default(virt.disk.default_mib)?]);
    }
    for path in &options.disks {
        path.metadata().with_context(|| format!("cannot use the disk {}", path.display()))?;
    }
    Ok(options.disks.clone())
}

/// dom0's ramdisk for a machine with so many disks, and behind them that of Linux.
fn ramdisk(
    images: &Images,
    options: &options::Machine,
    disks: usize,
    linux: Option<&Linux>,
) -> Result<Vec<u8>> {
    let mut ramdisk = Ramdisk::default();
    for guest in &images.guests {
        ramdisk.add_kernel(&guest.name, &fs::read(&guest.flat)?)?;
    }
    ramdisk.add_domain_files(&paths::domain_files(), disks)?;
    if let Some(linux) = linux {
        ramdisk.add_linux(linux, disks)?;
    }
    for guest in &options.guests {
        ramdisk.add_guest(guest)?;
    }
    ramdisk.finish()
}

fn name_in(image: &Image, offset: Option<u64>) -> Option<String> {
    let elf = fs::read(&image.elf).ok()?;
    Symbols::from_elf(&ElfFile64::parse(elf.as_slice()).ok()?).describe(offset?)
}
