//! What the user asks for: the command-line options that scripts rely on.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::qemu::{Forward, HostPort};

/// The host's port that leads to the guest `web`, if it is free.
const WEB_PORT: u16 = 8080;

/// The machine to boot.
#[derive(Debug, Clone, Default, Args)]
pub struct Machine {
    /// A raw disk image; may be given several times. Without it a random one is made.
    #[arg(long = "disk", value_name = "IMAGE")]
    pub disks: Vec<PathBuf>,
    /// Reads and writes of this sector of the first disk fail.
    #[arg(long, value_name = "SECTOR")]
    pub bad_sector: Option<u64>,
    /// A kernel (arm64 Image, also compressed, or ELF) that dom0 can create by NAME, and its
    /// initial ramdisk; may be given several times.
    #[arg(long = "guest", value_name = "NAME=IMAGE[,ramdisk=FILE][,memory=MiB][,vcpus=N]")]
    pub guests: Vec<Guest>,
    /// Fetches Debian's arm64 kernel and makes it a guest: `xl create -c linux`.
    #[arg(long)]
    pub linux: bool,
    /// The same with this kernel.
    #[arg(long, value_name = "IMAGE", requires = "linux_initrd")]
    pub linux_kernel: Option<PathBuf>,
    /// And this initial ramdisk.
    #[arg(long, value_name = "FILE", requires = "linux_kernel")]
    pub linux_initrd: Option<PathBuf>,
    /// The kernel of `--linux` is that of this release of Debian's, such as bookworm-backports.
    #[arg(long, value_name = "RELEASE", requires = "linux")]
    pub linux_release: Option<String>,
    /// With `--linux`: the guest has the programs of this package of Debian's, too, and the libraries
    /// that they need; may be given several times.
    #[arg(long = "linux-package", value_name = "PACKAGE", requires = "linux")]
    pub linux_packages: Vec<String>,
    /// A port of this host that leads to a guest's; may be given several times.
    #[arg(long = "forward", value_name = "[tcp:|udp:]HOSTPORT:[ADDRESS:]PORT")]
    pub forwards: Vec<Forward>,
    /// CPUs of the machine.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub smp: u32,
    /// vCPUs of dom0.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub dom0_vcpus: u32,
    /// Its memory in MiB.
    #[arg(long, value_name = "MiB")]
    pub memory: Option<u64>,
    /// QEMU's name of its CPU.
    #[arg(long, value_name = "NAME")]
    pub cpu: Option<String>,
    /// The deterministic ruler: one tick of the virtual counter is one executed instruction.
    #[arg(long)]
    pub icount: bool,
}

/// Options of `cargo xtask new-driver`.
#[derive(Debug, Clone, Args)]
pub struct NewDriver {
    /// The pair's name, such as clock: that of its modules, its guest and its domain file.
    pub name: String,
    /// Edits files also if they have changes that are not committed.
    #[arg(long)]
    pub allow_dirty: bool,
}

/// Options of `cargo xtask run`.
#[derive(Debug, Clone, Default, Args)]
pub struct Run {
    /// Types FILE's lines at the dom0 shell, then powers off; fails if one of them fails.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Gives up after so long. With a script the default is 600.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// The port of this host that leads to the guest `web`. Without it, 8080 or another one.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The machine.
    #[command(flatten)]
    pub machine: Machine,
}

impl Run {
    /// The machine, with the way to `web`.
    pub fn machine(&self) -> Machine {
        let host = self.port.map_or(HostPort::Preferably(WEB_PORT), HostPort::Exactly);
        let forwards = std::iter::once(Forward::web(host)).chain(self.machine.forwards.clone());
        Machine { forwards: forwards.collect(), ..self.machine.clone() }
    }
}

/// Options of `cargo xtask xl`.
#[derive(Debug, Clone, Args)]
pub struct Xl {
    /// The process that runs the machine, if several run.
    #[arg(long, value_name = "PID")]
    pub machine: Option<u32>,
    /// What would be typed behind `xl` at dom0's shell; --json shows tables as JSON.
    #[arg(value_name = "VERB", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// Options of `cargo xtask console`.
#[derive(Debug, Clone, Args)]
pub struct Console {
    /// The process that runs the machine, if several run.
    #[arg(long, value_name = "PID")]
    pub machine: Option<u32>,
    /// Name or number of the domain.
    pub domain: String,
}

/// Options of `cargo xtask test`.
#[derive(Debug, Clone, Default, Args)]
pub struct Test {
    /// Runs only the scenarios whose name contains this, and no other check.
    #[arg(long, value_name = "FILTER")]
    pub scenario: Option<String>,
}

/// Options of `cargo xtask peer-run`.
#[derive(Debug, Clone, Default, Args)]
pub struct PeerRun {
    /// Runs only the checks whose name contains this.
    pub filter: Option<String>,
}

/// What `cargo xtask bench` can measure besides the monitor's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Measurement {
    /// What a guest's disk costs, and how much of dom0's throughput it reaches.
    Io,
    /// What Linux takes as a guest: its boot, its disk, its network.
    Linux,
}

/// Options of `cargo xtask bench`.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// What is measured, if not the monitor's operations.
    #[arg(value_name = "WHAT", conflicts_with_all = ["growth", "only"])]
    pub what: Option<Measurement>,
    /// With `linux --peer`: the kernel is that of this release of Debian's, such as
    /// bookworm-backports.
    #[arg(long, value_name = "RELEASE", requires_all = ["what", "peer"])]
    pub linux_release: Option<String>,
    /// Runs the same image on Debian's Xen, too, and shows both.
    #[arg(long)]
    pub peer: bool,
    /// Shows what becomes of the costs as domains, ports and grants become many.
    #[arg(long, conflicts_with = "peer")]
    pub growth: bool,
    /// How many domains are many, dom0 aside.
    #[arg(long, value_name = "N", default_value_t = 200, requires = "growth")]
    pub domains: u32,
    /// Only operations whose name contains FILTER; several, separated by commas.
    #[arg(long, value_name = "FILTER")]
    pub only: Option<String>,
    /// How often each operation is done.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub samples: u32,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// A guest image that the user brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// What dom0 calls it.
    pub name: String,
    /// Where its kernel image is.
    pub image: PathBuf,
    /// Where its initial ramdisk is.
    pub ramdisk: Option<PathBuf>,
    /// Its memory in MiB.
    pub memory: u64,
    /// Its vCPUs.
    pub vcpus: u32,
}

impl Guest {
    /// MiB that a guest gets if nothing else is said.
    pub const DEFAULT_MEMORY: u64 = 64;
}

impl FromStr for Guest {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Guest> {
        let (name, rest) = text.split_once('=').context("expected NAME=IMAGE")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ensure!(!name.is_empty() && name.chars().all(plain), "`{name}` is not a guest's name");
        let mut parts = rest.split(',');
        let image = parts.next().filter(|image| !image.is_empty()).context("no image given")?;
        let (mut ramdisk, mut memory, mut vcpus) = (None, Guest::DEFAULT_MEMORY, 1);
        for part in parts {
            match part.split_once('=') {
                Some(("ramdisk", path)) if !path.is_empty() => ramdisk = Some(path.into()),
                Some(("memory", value)) => memory = value.parse().context("memory, in MiB")?,
                Some(("vcpus", value)) => vcpus = value.parse().context("vcpus")?,
                _ => bail!("`{part}` is none of ramdisk=FILE, memory=MiB and vcpus=N"),
            }
        }
        Ok(Guest { name: name.into(), image: image.into(), ramdisk, memory, vcpus })
    }
}

fn seconds(text: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(text.parse()?).context("not a number of seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_with_and_without_options() {
        let plain: Guest = "linux=/boot/Image".parse().unwrap();
        assert_eq!(plain.name, "linux");
        assert_eq!((plain.memory, plain.vcpus), (Guest::DEFAULT_MEMORY, 1));
        let full: Guest = "a-1=x.img,vcpus=2,ramdisk=y.cpio,memory=256".parse().unwrap();
        assert_eq!((full.memory, full.vcpus), (256, 2));
        assert_eq!(full.image, PathBuf::from("x.img"));
        assert_eq!((plain.ramdisk, full.ramdisk), (None, Some(PathBuf::from("y.cpio"))));
    }

    #[test]
    fn guest_that_makes_no_sense() {
        for text in [
            "linux",
            "=x",
            "a=",
            "a/b=x",
            "a=x,memory",
            "a=x,memory=lots",
            "a=x,ramdisk=",
            "a=x,cpus=2",
        ] {
            assert!(text.parse::<Guest>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn timeout_is_a_positive_number() {
        assert_eq!(seconds("1.5").unwrap(), Duration::from_millis(1500));
        assert!(seconds("-1").is_err());
        assert!(seconds("soon").is_err());
    }
}
