//! The machine's disks, and who uses which sectors of them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;

use abi::DomId;
use abi::block::SECTOR_SIZE;
use pv_guest_kernel::Environment;
use pv_guest_kernel::vcpu_local;
use thiserror::Error;

use super::disk::{Disk, Info};
use super::extent::Extent;
use super::partition::{self, PartitionError};
use super::target::Part;
use super::virtio;

vcpu_local! {
    static DISKS: RefCell<Disks> = RefCell::new(Disks(BTreeMap::new()));
}

/// How a domain uses a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    ReadOnly,
    ReadWrite,
}

/// Why a disk cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// There is no such disk.
    #[error("there is no disk {wanted}; the machine has {present}")]
    Absent {
        /// Its name.
        wanted: String,
        /// Those that there are.
        present: String,
    },
    /// The partition cannot be used.
    #[error("{disk}: {error}")]
    Partition {
        /// On which disk.
        disk: String,
        /// Why not.
        error: PartitionError,
    },
    /// An extent that is not on the disk.
    #[error("{disk} has {bytes} bytes: {extent} is not on it")]
    BeyondEnd {
        /// The disk.
        disk: String,
        /// Its size.
        bytes: u64,
        /// What was asked for.
        extent: String,
    },
    /// Somebody else uses these sectors.
    #[error("{disk} is in use by {user}, and one of the two wants to write")]
    InUse {
        /// The disk.
        disk: String,
        /// Who has it.
        user: DomId,
    },
    /// The disk cannot be written.
    #[error("{0} is read-only")]
    ReadOnly(String),
}

/// Sectors of a real disk that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The disk's name.
    pub disk: String,
    /// Which of its sectors.
    pub sectors: Range<u64>,
    /// Whether it cannot be written.
    pub read_only: bool,
}

impl Place {
    /// Whether the two have sectors in common.
    pub fn overlaps(&self, other: &Place) -> bool {
        let (one, two) = (&self.sectors, &other.sectors);
        self.disk == other.disk && one.start < two.end && two.start < one.end
    }
}

/// Finds the virtio disks and brings them up: `disk0` is the one at the lowest address. To be
/// called once, before the first guest is made. A disk that fails is left out, with a line in
/// the log.
pub fn discover(environment: &Environment) {
    for device in &environment.virtio {
        let name = format!("disk{}", list().len());
        match virtio::start(device, &name) {
            Ok(Some(disk)) => {
                log::info!("{name}: {} KiB at {:#x}", disk.info.bytes >> 10, device.base);
                with(|disks| disks.add(disk));
            }
            Ok(None) => {}
            Err(error) => log::error!("the disk at {:#x}: {error}", device.base),
        }
    }
}

/// The machine's disks, by name.
pub fn list() -> Vec<Info> {
    with(|disks| disks.0.values().map(|entry| entry.disk.info.clone()).collect())
}

/// The sectors of a part of a disk. A partition's are read from the disk.
///
/// # Errors
/// There is no such disk, or no such part of it.
pub async fn find(name: &str, part: Part) -> Result<Place, ClaimError> {
    let disk = with(|disks| disks.get(name).map(|entry| entry.disk.clone()))?;
    let info = &disk.info;
    let all = info.bytes / SECTOR_SIZE as u64;
    let sectors = match part {
        Part::Whole => 0..all,
        Part::Extent { offset, bytes } => {
            let (first, count) = (offset / SECTOR_SIZE as u64, bytes / SECTOR_SIZE as u64);
            match first.checked_add(count) {
                Some(end) if end <= all => first..end,
                _ => {
                    let (disk, bytes) = (name.to_string(), info.bytes);
                    return Err(ClaimError::BeyondEnd { disk, bytes, extent: part_name(part) });
                }
            }
        }
        Part::Partition(number) => {
            let read = async |first, count| disk.read(first, count).await.ok();
            let found = partition::find(number, all, read).await;
            found.map_err(|error| ClaimError::Partition { disk: name.to_string(), error })?
        }
    };
    Ok(Place { disk: name.to_string(), sectors, read_only: info.read_only })
}

fn with<R>(access: impl FnOnce(&mut Disks) -> R) -> R {
    DISKS.with(|disks| access(&mut disks.borrow_mut()))
}

/// A domain's right to use sectors of a disk; given back on drop.
#[derive(Debug)]
pub(super) struct Claim {
    disk: String,
    number: u64,
}

impl Claim {
    /// Takes sectors into use. Whoever writes to them is their only user.
    pub(super) fn new(
        place: &Place,
        user: DomId,
        mode: Mode,
    ) -> Result<(Claim, Extent), ClaimError> {
        with(|disks| disks.claim(place, user, mode))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        with(|disks| disks.release(&self.disk, self.number));
    }
}

/// By name.
struct Disks(BTreeMap<String, Entry>);

struct Entry {
    disk: Rc<Disk>,
    /// By the number of the claim.
    users: BTreeMap<u64, User>,
    last_claim: u64,
}

struct User {
    domain: DomId,
    place: Place,
    mode: Mode,
}

impl Disks {
    fn add(&mut self, disk: Rc<Disk>) {
        let entry = Entry { disk: disk.clone(), users: BTreeMap::new(), last_claim: 0 };
        self.0.insert(disk.info.name.clone(), entry);
    }

    fn get(&mut self, name: &str) -> Result<&mut Entry, ClaimError> {
        let present = self.names();
        let absent = || ClaimError::Absent { wanted: name.to_string(), present };
        self.0.get_mut(name).ok_or_else(absent)
    }

    fn claim(
        &mut self,
        place: &Place,
        domain: DomId,
        mode: Mode,
    ) -> Result<(Claim, Extent), ClaimError> {
        let entry = self.get(&place.disk)?;
        if mode == Mode::ReadWrite && entry.disk.info.read_only {
            return Err(ClaimError::ReadOnly(place.disk.clone()));
        }
        let conflicts = |other: &&User| {
            let written = mode == Mode::ReadWrite || other.mode == Mode::ReadWrite;
            written && other.place.overlaps(place)
        };
        if let Some(other) = entry.users.values().find(conflicts) {
            return Err(ClaimError::InUse { disk: place.disk.clone(), user: other.domain });
        }
        entry.last_claim += 1;
        let number = entry.last_claim;
        entry.users.insert(number, User { domain, place: place.clone(), mode });
        let Range { start, end } = place.sectors;
        let extent = Extent { disk: entry.disk.clone(), first: start, sectors: end - start };
        Ok((Claim { disk: place.disk.clone(), number }, extent))
    }

    fn release(&mut self, name: &str, number: u64) {
        if let Some(entry) = self.0.get_mut(name) {
            entry.users.remove(&number);
        }
    }

    fn names(&self) -> String {
        if self.0.is_empty() {
            return "none".to_string();
        }
        self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn part_name(part: Part) -> String {
    match part {
        Part::Whole => "all of it".to_string(),
        Part::Partition(number) => format!("partition {number}"),
        Part::Extent { offset, bytes } => format!("{offset}+{bytes}"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
