//! Volumes of disks that are still at work.

use alloc::boxed::Box;
use core::pin::pin;

use super::*;
use crate::block::disk::{Disk, Info};
use crate::block::disks::tests::add_disk;
use crate::block::queue::tests::FakeDevice;
use crate::block::queue::{Operation, Queue};
use crate::block::target::Part;

/// Its first user may have died, and what it asked for is done late: not after what a later one asks
/// for.
#[test]
fn a_disk_is_handed_on_when_it_is_done_with_what_it_was_given() {
    let queue = Queue::new().unwrap();
    let mut device = FakeDevice::new(&queue, &[], 8);
    let (name, bytes) = ("disk0".into(), 4096);
    let info = Info { name, bytes, read_only: false, flush: true, discard: None };
    let disk = add_disk(Disk::new(info, queue, Box::new(|| {})));
    assert_eq!(disk.transfer(Operation::Flush, 0, &[], ()).now_or_never(), None);

    let target = Target::Disk { disk: "disk0".into(), part: Part::Whole };
    let open = Volume::open("backend/vbd/1/51712", &target, None, DomId(1), Mode::ReadWrite);
    let mut open = pin!(open);
    assert!(open.as_mut().now_or_never().is_none());
    assert!(disk.publish().now_or_never().is_none());
    assert_eq!(device.look(), 1);
    device.finish(0);
    disk.collect();
    assert!(open.now_or_never().is_some_and(|volume| volume.is_ok()));
}
