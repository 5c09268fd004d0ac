//! Why the toolstack could not do something: the thing, the reason and, where there is one, the
//! way out.

use alloc::{string::String, vec::Vec};

use abi::{Errno, net::MacAddress};
use thiserror::Error;

use crate::block::disks::ClaimError;

use super::{
    config::{ConfigError, NotAName},
    cpus::Cpus,
    disk::VirtualDevice,
    image::ImageError,
    ownership::{Taken, Thing},
};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// No domain file with this name.
    #[error("there is no domain file named `{name}`; there are: {}", list(known))]
    UnknownConfig {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A domain file, or an argument that replaces one of its keys, is wrong.
    #[error("domains/{file}.toml: {error}")]
    Config {
        /// The domain file's name.
        file: String,
        /// What is wrong with it.
        error: ConfigError,
    },
    /// No domain with this name or number.
    #[error("there is no domain `{name}`; there are: {}", list(known))]
    UnknownDomain {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// This cannot be done to dom0.
    #[error("dom0 runs this shell; to stop it and the machine, use poweroff")]
    Privileged,
    /// Names are unique.
    #[error("domain `{name}` exists already; destroy it first or give name=...")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No kernel with this name.
    #[error("there is no kernel `{name}` in the ramdisk; there are: {}", list(known))]
    UnknownKernel {
        /// What the domain file names.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No initial ramdisk with this name.
    #[error("there is no ramdisk `{name}` for guests; there are: {}", list(known))]
    UnknownRamdisk {
        /// What the domain file names.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The kernel cannot be loaded.
    #[error("kernel `{name}` cannot be loaded: {error}")]
    BadKernel {
        /// The kernel's name.
        name: String,
        /// What is wrong with it.
        error: ImageError,
    },
    /// The boot arguments cannot be passed on.
    #[error("cmdline has a NUL in it")]
    BadCmdline,
    /// Ramdisk and device tree do not fit behind the kernel.
    #[error(
        "{memory} MiB are not enough for kernel `{kernel}`, its ramdisk and its device tree; \
         raise memory to {needed} at least"
    )]
    MemoryTooSmall {
        /// What the domain was to have.
        memory: u32,
        /// The kernel's name.
        kernel: String,
        /// MiB with which they fit.
        needed: u64,
    },
    /// Too few frames are free.
    #[error(
        "not enough memory: {needed} MiB are needed and {} MiB ({free_frames} frames) are free; \
         lower memory or destroy a domain",
        free_frames / 256
    )]
    OutOfMemory {
        /// MiB that the domain was to have.
        needed: u32,
        /// Frames that were free.
        free_frames: u64,
    },
    /// No disk with this name.
    #[error("there is no disk `{name}`; {}", disks(known))]
    UnknownDisk {
        /// What the domain file names.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It has no such part.
    #[error(transparent)]
    DiskPart(ClaimError),
    /// Nobody may write this disk.
    #[error("{disk} is read-only; give it with access=r")]
    DiskReadOnly {
        /// The disk.
        disk: String,
    },
    /// A disk that somebody writes has one user.
    #[error("{disk} is in use by domain `{user}`; a disk is shared only if all access it with r")]
    DiskInUse {
        /// The disk.
        disk: String,
        /// Who has it.
        user: String,
    },
    /// Not a domain's name.
    #[error(transparent)]
    BadName(NotAName),
    /// A domain cannot have two disks of one name.
    #[error("domain `{name}` has a disk {vdev} already; give another of xvda to xvdp")]
    VdevTaken {
        /// The domain's name.
        name: String,
        /// What was asked for.
        vdev: VirtualDevice,
    },
    /// No disk with this name in the domain.
    #[error("domain `{name}` has no disk `{vdev}`; there are: {}", list(known))]
    UnknownVdev {
        /// The domain's name.
        name: String,
        /// What was asked for.
        vdev: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It cannot have so much memory, or so little.
    #[error(
        "domain `{name}` can have {least} to {most} MiB, not {asked}; xl mem-max, or maxmem in its \
         domain file, raises that"
    )]
    MemoryTarget {
        /// The domain's name.
        name: String,
        /// What was asked for, in MiB.
        asked: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// The limit of its memory cannot be so.
    #[error(
        "domain `{name}` is to have {least} MiB and could have up to {most}: {asked} cannot be the \
         limit; xl mem-set changes the former"
    )]
    MaxMemory {
        /// The domain's name.
        name: String,
        /// What was asked for, in MiB.
        asked: u32,
        /// What it is to have.
        least: u32,
        /// The most that any may have.
        most: u32,
    },
    /// No such device.
    #[error("domain `{name}` has no {class} {number}; xl device-list {name} shows what it has")]
    UnknownDevice {
        /// The domain's name.
        name: String,
        /// The class that was asked for.
        class: &'static str,
        /// The number that was asked for.
        number: u32,
    },
    /// Its backend does not take it.
    #[error("{class} {number} is refused: {reason}")]
    DeviceRefused {
        /// The device's class.
        class: &'static str,
        /// Its number there.
        number: u32,
        /// What the backend says.
        reason: String,
    },
    /// Its backend does nothing.
    #[error("nobody in dom0 serves {class} {number}; xl dmesg may say why")]
    NoBackend {
        /// The device's class.
        class: &'static str,
        /// Its number there.
        number: u32,
    },
    /// Hardware addresses are unique.
    #[error("{address} is in use by domain `{user}`; give another one with mac=...")]
    AddressInUse {
        /// The address.
        address: MacAddress,
        /// Who has it.
        user: String,
    },
    /// The guest does not listen.
    #[error("domain `{name}` does not answer control/shutdown; use xl destroy")]
    NoShutdownSupport {
        /// The domain's name.
        name: String,
    },
    /// The domain has fewer vCPUs.
    #[error("domain `{name}` has no vCPU {vcpu}; its vCPUs are 0 to {}", count.saturating_sub(1))]
    UnknownVcpu {
        /// The domain's name.
        name: String,
        /// What was asked for.
        vcpu: u32,
        /// How many it has.
        count: u32,
    },
    /// The machine has none of these CPUs.
    #[error("the machine has no CPU {cpus}; its CPUs are 0 to {}", count.saturating_sub(1))]
    NoSuchCpus {
        /// What was asked for.
        cpus: Cpus,
        /// How many it has.
        count: u32,
    },
    /// It cannot have so many.
    #[error("domain `{name}` has 1 to {most} vCPUs (maxvcpus in its domain file), not {asked}")]
    VcpuCount {
        /// The domain's name.
        name: String,
        /// What was asked for.
        asked: u32,
        /// Its vCPUs in all.
        most: u32,
    },
    /// Not in this state.
    #[error("domain `{name}` {state}")]
    WrongState {
        /// The domain's name.
        name: String,
        /// What it is.
        state: &'static str,
    },
    /// A hypercall or the store refused.
    #[error("cannot {doing}: {errno}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        errno: Errno,
    },
}

/// For `map_err`: says what was tried when an [`Errno`] came.
pub(super) fn failed(doing: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Failed { doing, errno }
}

impl From<Taken> for Error {
    fn from(Taken { thing, user }: Taken) -> Error {
        match thing {
            Thing::Name(name) => Error::NameTaken { name },
            Thing::Sectors(place, _) => Error::DiskInUse { disk: place.disk, user },
            Thing::Address(address) => Error::AddressInUse { address, user },
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn disks(known: &[String]) -> String {
    if known.is_empty() {
        return "the machine has none (cargo xtask run --disk IMAGE adds one)".into();
    }
    alloc::format!("there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_there_is() {
        let known = vec!["disk0".into(), "disk1".into()];
        let error = Error::UnknownDisk { name: "disk7".into(), known };
        assert_eq!(error.to_string(), "there is no disk `disk7`; there are: disk0, disk1");
        let error = Error::UnknownKernel { name: "linux".into(), known: vec![] };
        assert_eq!(error.to_string(), "there is no kernel `linux` in the ramdisk; there are: none");
    }

    #[test]
    fn memory_is_told_in_both_units() {
        let text = Error::OutOfMemory { needed: 512, free_frames: 1000 }.to_string();
        assert!(text.contains("512 MiB are needed and 3 MiB (1000 frames) are free"), "{text}");
    }
}
