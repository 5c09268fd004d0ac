//! Who may use which sectors.

use alloc::boxed::Box;

use pv_guest_kernel::executor;

use super::*;
use crate::block::queue::Queue;

/// Adds a disk of 4 KiB that no device stands behind.
pub(crate) fn add(name: &str, read_only: bool) {
    let info = Info { name: name.to_string(), bytes: 4096, read_only, flush: true, discard: None };
    add_disk(Disk::new(info, Queue::new().unwrap(), Box::new(|| {})));
}

/// Adds a disk.
pub(in crate::block) fn add_disk(disk: Disk) -> Rc<Disk> {
    let disk = Rc::new(disk);
    with(|disks| disks.add(disk.clone()));
    disk
}

fn place(disk: &str, sectors: Range<u64>) -> Place {
    Place { disk: disk.into(), sectors, read_only: false }
}

fn claim(sectors: Range<u64>, user: u16, mode: Mode) -> Result<(Claim, Extent), ClaimError> {
    Claim::new(&place("disk0", sectors), DomId(user), mode)
}

#[test]
fn a_writer_is_alone_and_readers_are_not() {
    add("disk0", false);
    let claim = |user, mode| claim(0..8, user, mode);
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
fn writers_of_different_sectors_do_not_meet() {
    add("disk0", false);
    let (_first, extent) = claim(0..4, 1, Mode::ReadWrite).unwrap();
    assert_eq!((extent.first, extent.sectors), (0, 4));
    let (_second, extent) = claim(4..8, 2, Mode::ReadWrite).unwrap();
    assert_eq!((extent.first, extent.sectors), (4, 4));
    assert!(claim(3..5, 3, Mode::ReadOnly).is_err());
}

#[test]
fn parts_are_found_and_what_is_not_there_is_named() {
    executor::run(async {
        add("disk0", false);
        assert_eq!(find("disk0", Part::Whole).await, Ok(place("disk0", 0..8)));
        let part = Part::Extent { offset: 512, bytes: 1024 };
        assert_eq!(find("disk0", part).await, Ok(place("disk0", 1..3)));
        for (offset, bytes) in [(0, 4608), (4096, 512), (u64::MAX - 511, 512)] {
            let error = find("disk0", Part::Extent { offset, bytes }).await.unwrap_err();
            assert!(error.to_string().contains("disk0 has 4096 bytes"), "{error}");
        }
    });
}

#[test]
fn a_disk_that_is_not_there_or_not_writable_is_named() {
    let absent = Claim::new(&place("disk7", 0..8), DomId(1), Mode::ReadOnly).err().unwrap();
    assert_eq!(absent.to_string(), "there is no disk disk7; the machine has none");
    add("disk0", true);
    add("disk1", false);
    let absent = Claim::new(&place("disk7", 0..8), DomId(1), Mode::ReadOnly).err().unwrap();
    assert_eq!(absent.to_string(), "there is no disk disk7; the machine has disk0, disk1");
    let read_only = claim(0..8, 1, Mode::ReadWrite).err();
    assert_eq!(read_only, Some(ClaimError::ReadOnly("disk0".into())));
    assert_eq!(list().len(), 2);
}
