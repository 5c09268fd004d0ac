//! A machine with Debian's Xen whose dom0 is Debian's Linux, with its own backends and `xl`. What
//! dom0 is to do is a list of steps, each a piece of shell script.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Console, Dom0, Domain, Machine};
use crate::image::{Initramfs, kernel};
use crate::linux;
use crate::session::Output;
use crate::setup::{Qemu, XEN_TOOLS, deb};

const INIT: &[u8] = include_bytes!("init.sh");
const BLOCK: &[u8] = include_bytes!("block.sh");
const VIF_BRIDGE: &[u8] = include_bytes!("vif-bridge.sh");
const UDHCPD: &[u8] = include_bytes!("udhcpd.conf");
/// Where the guests' files are in dom0.
const GUESTS: &str = "guests";
/// What `init.sh` says when Xen's tools are there.
const UP: &str = "==== up";
/// And before a step's name, and before its status.
const BEGIN: &str = "==== begin ";
const END: &str = "==== end ";

/// Such a machine.
#[derive(Debug, Clone)]
pub struct LinuxDom0 {
    /// What it is called in messages; its console's log has this name.
    pub name: String,
    /// CPUs of the machine, and vCPUs of dom0.
    pub cpus: u32,
    /// The machine's memory.
    pub memory_mib: u64,
    /// dom0's.
    pub dom0_mib: u64,
    /// Whether one tick of the counter is one executed instruction.
    pub ruler: bool,
    /// Raw images of the machine's disks: `/dev/disk0` and so on in dom0.
    pub disks: Vec<PathBuf>,
    /// Other files of dom0: paths and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// Domains that `create NAME` and `run_guest NAME` know.
    pub guests: Vec<Domain>,
    /// What is to be done.
    pub steps: Vec<Step>,
    /// What all of it may take.
    pub timeout: Duration,
}

/// A piece of shell script for dom0. Beside commands it can use the functions of `init.sh`:
/// `create`, `run_guest`, `wait_for_line`.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it is called.
    pub name: String,
    /// The script.
    pub script: String,
}

/// What the steps did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Those that have ended.
    steps: Vec<(String, Output)>,
    place: String,
}

impl Default for LinuxDom0 {
    fn default() -> LinuxDom0 {
        LinuxDom0 {
            name: "dom0".into(),
            cpus: 1,
            memory_mib: 1536,
            dom0_mib: 512,
            ruler: false,
            disks: Vec::new(),
            files: Vec::new(),
            guests: Vec::new(),
            steps: Vec::new(),
            timeout: Duration::from_secs(600),
        }
    }
}

impl LinuxDom0 {
    /// Boots, does all steps, and powers off. `progress` is called with the name of each step that
    /// begins. A step that fails does not keep the next from being done.
    ///
    /// # Errors
    /// Something cannot be fetched, or the machine does not come to its end: the error says where
    /// its console can be read.
    pub fn run(&self, qemu: &Qemu, progress: &dyn Fn(&str)) -> Result<Report> {
        let folder = tempfile::Builder::new().prefix("aurochs-dom0-").tempdir()?;
        let (image, ramdisk) = (folder.path().join("kernel"), folder.path().join("ramdisk"));
        fs::write(&image, kernel::read(&linux::packages(None)?.kernel())?)?;
        fs::write(&ramdisk, self.initramfs()?)?;
        let dom0 = Dom0 {
            kernel: image,
            ramdisk,
            command_line: "console=hvc0 quiet".into(),
            memory_mib: self.dom0_mib,
            vcpus: self.cpus,
        };
        let machine = Machine {
            cpus: self.cpus,
            memory_mib: self.memory_mib,
            ruler: self.ruler,
            disks: self.disks.clone(),
            dom0: Some(dom0),
            guests: Vec::new(),
        };
        let mut console = machine.boot(qemu, &self.name, self.timeout)?;
        self.follow(&mut console, progress)?;
        Ok(Report { place: console.place(), ..Report::parse(&console.text()) })
    }

    fn initramfs(&self) -> Result<Vec<u8>> {
        let linux = linux::packages(None)?;
        let mut archive = Initramfs::default();
        archive.add_tree(&deb::unpacked(&XEN_TOOLS)?)?;
        archive.add_program("bin/busybox", &fs::read(linux.busybox())?)?;
        archive.add_modules(&linux.dom0_modules())?;
        archive.add_program("init", INIT)?;
        // xl wants one, and the defaults are fine.
        archive.add_file("etc/xen/xl.conf", &[])?;
        archive.add_program("etc/xen/scripts/block", BLOCK)?;
        archive.add_program("etc/xen/scripts/vif-bridge", VIF_BRIDGE)?;
        archive.add_file("etc/udhcpd.conf", UDHCPD)?;
        for guest in &self.guests {
            let path = format!("{GUESTS}/{}", guest.name);
            archive.add_file(&path, &guest.kernel)?;
            if let Some(ramdisk) = &guest.ramdisk {
                archive.add_file(format!("{path}.ramdisk"), ramdisk)?;
            }
            let config = guest.config(&format!("/{GUESTS}"))?;
            archive.add_file(format!("{path}.cfg"), config.as_bytes())?;
        }
        for (path, content) in &self.files {
            archive.add_program(path, content)?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            archive.add_file(format!("steps/{number:03}-{}", step.name), step.script.as_bytes())?;
        }
        archive.finish()
    }

    /// Waits for the end of each step, and of the machine.
    fn follow(&self, console: &mut Console, progress: &dyn Fn(&str)) -> Result<()> {
        console.wait_for("dom0's tools", |text| text.contains(UP))?;
        for (number, step) in self.steps.iter().enumerate() {
            progress(&step.name);
            let what = format!("the end of the step `{}`", step.name);
            console.wait_for(&what, |text| Report::parse(text).steps.len() > number)?;
        }
        console.wait_for_end()
    }
}

impl Step {
    /// A step.
    pub fn new(name: impl Into<String>, script: impl Into<String>) -> Step {
        Step { name: name.into(), script: script.into() }
    }
}

impl Report {
    /// Reads what a console showed.
    fn parse(console: &str) -> Report {
        let mut steps = Vec::new();
        let mut running: Option<(String, String)> = None;
        for line in console.lines() {
            if let Some(name) = line.strip_prefix(BEGIN) {
                running = Some((name.into(), String::new()));
            } else if let Some(status) = line.strip_prefix(END) {
                // A status that is none is no success.
                let status = status.trim().parse().unwrap_or(u8::MAX);
                steps.extend(running.take().map(|(name, text)| (name, Output { status, text })));
            } else if let Some((_, text)) = &mut running {
                text.push_str(line);
                text.push('\n');
            }
        }
        Report { steps, place: String::new() }
    }

    /// What a step printed.
    ///
    /// # Errors
    /// It failed, or there was none of this name.
    pub fn of(&self, name: &str) -> Result<&str> {
        let step = self.steps.iter().find(|(step, _)| step == name);
        let (_, output) = step.with_context(|| format!("there was no step `{name}`"))?;
        let Output { status, text } = output;
        let (text, place) = (text.trim(), self.place());
        ensure!(*status == 0, "`{name}` failed with status {status}; {place}: {text}");
        Ok(text)
    }

    /// Where a person can read all that was said.
    pub fn place(&self) -> &str {
        &self.place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_apart() {
        let console = "(XEN) noise\n==== up\n==== begin one\nfirst\nsecond\n==== end 0\n\
            ==== begin two\nwhy not\n==== end 3\n==== begin three\nstill";
        let report = Report::parse(console);
        assert_eq!(report.of("one").unwrap(), "first\nsecond");
        let reason = report.of("two").unwrap_err().to_string();
        assert!(reason.contains("status 3") && reason.ends_with(": why not"), "{reason}");
        assert_eq!(report.of("three").unwrap_err().to_string(), "there was no step `three`");
    }
}
