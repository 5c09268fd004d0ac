//! The machine's disks, and who uses them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::DomId;
use pv_guest_kernel::Environment;
use pv_guest_kernel::vcpu_local;
use thiserror::Error;

use super::disk::{Disk, Info};
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
pub(super) enum ClaimError {
    #[error("there is no disk {wanted}; the machine has {present}")]
    Absent { wanted: String, present: String },
    #[error("{disk} is in use by {user}, and one of the two wants to write")]
    InUse { disk: String, user: DomId },
    #[error("{0} is read-only")]
    ReadOnly(String),
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

fn with<R>(access: impl FnOnce(&mut Disks) -> R) -> R {
    DISKS.with(|disks| access(&mut disks.borrow_mut()))
}

/// A domain's right to use a disk; given back on drop.
pub(super) struct Claim {
    pub(super) disk: Rc<Disk>,
    number: u64,
}

impl Claim {
    /// Takes a disk into use. Whoever writes to it is its only user.
    pub(super) fn new(name: &str, user: DomId, mode: Mode) -> Result<Claim, ClaimError> {
        with(|disks| disks.claim(name, user, mode))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        with(|disks| disks.release(&self.disk.info.name, self.number));
    }
}

/// By name.
struct Disks(BTreeMap<String, Entry>);

struct Entry {
    disk: Rc<Disk>,
    /// By the number of the claim.
    users: BTreeMap<u64, (DomId, Mode)>,
    last_claim: u64,
}

impl Disks {
    fn add(&mut self, disk: Rc<Disk>) {
        let entry = Entry { disk: disk.clone(), users: BTreeMap::new(), last_claim: 0 };
        self.0.insert(disk.info.name.clone(), entry);
    }

    fn claim(&mut self, name: &str, user: DomId, mode: Mode) -> Result<Claim, ClaimError> {
        let Some(entry) = self.0.get_mut(name) else {
            return Err(ClaimError::Absent { wanted: name.to_string(), present: self.names() });
        };
        if mode == Mode::ReadWrite && entry.disk.info.read_only {
            return Err(ClaimError::ReadOnly(name.to_string()));
        }
        let both_read = |other: Mode| mode == Mode::ReadOnly && other == Mode::ReadOnly;
        if let Some(&(user, _)) = entry.users.values().find(|&&(_, other)| !both_read(other)) {
            return Err(ClaimError::InUse { disk: name.to_string(), user });
        }
        entry.last_claim += 1;
        entry.users.insert(entry.last_claim, (user, mode));
        Ok(Claim { disk: entry.disk.clone(), number: entry.last_claim })
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

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use super::super::queue::Queue;
    use super::*;

    /// Adds a disk that no device stands behind.
    fn add(name: &str, read_only: bool) {
        let info = Info { name: name.to_string(), bytes: 4096, read_only, flush: true };
        let disk = Disk::new(info, Queue::new().unwrap(), Box::new(|| {}));
        with(|disks| disks.add(Rc::new(disk)));
    }

    #[test]
    fn a_writer_is_alone_and_readers_are_not() {
        add("disk0", false);
        let claim = |user, mode| Claim::new("disk0", DomId(user), mode);
        let writer = claim(1, Mode::ReadWrite).ok();
        assert!(writer.is_some());
        let in_use = ClaimError::InUse { disk: "disk0".into(), user: DomId(1) };
        for mode in [Mode::ReadOnly, Mode::ReadWrite] {
            assert_eq!(claim(2, mode).err(), Some(in_use.clone()));
        }
        drop(writer);
        let readers = [claim(2, Mode::ReadOnly), claim(3, Mode::ReadOnly)];
        assert!(readers.iter().all(Result::is_ok));
        let in_use = ClaimError::InUse { disk: "disk0".into(), user: DomId(2) };
        assert_eq!(claim(4, Mode::ReadWrite).err(), Some(in_use));
        drop(readers);
        assert!(claim(4, Mode::ReadWrite).is_ok());
    }

    #[test]
    fn a_disk_that_is_not_there_or_not_writable_is_named() {
        let absent = Claim::new("disk7", DomId(1), Mode::ReadOnly).err().unwrap();
        assert_eq!(absent.to_string(), "there is no disk disk7; the machine has none");
        add("disk0", true);
        add("disk1", false);
        let absent = Claim::new("disk7", DomId(1), Mode::ReadOnly).err().unwrap();
        assert_eq!(absent.to_string(), "there is no disk disk7; the machine has disk0, disk1");
        let read_only = Claim::new("disk0", DomId(1), Mode::ReadWrite).err();
        assert_eq!(read_only, Some(ClaimError::ReadOnly("disk0".into())));
        assert_eq!(list().len(), 2);
    }
}
