//! Pointers to where nothing of this guest is.

use pv_guest_kernel::abi::Errno::{EFAULT, EINVAL};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::{event, grant, guest_map, hvm, memory, sched, version};

use crate::border::{Border, address};

/// Nothing, nothing at the end of the lower half, the interrupt controller, the upper half, no
/// canonical address, and the last byte of all.
const NOWHERE: [u64; 6] =
    [8, 0x7f_ffff_fff8, guest_map::GICD_BASE, 0xffff_ff80_0000_0000, 0x8000_0000_0000, u64::MAX];

/// Hypercalls that read what x1 points to.
const READERS: [(&str, Number, u64); 8] = [
    ("features", Number::XenVersion, version::Command::GetFeatures.raw()),
    ("event send", Number::EventChannelOp, event::Command::Send.raw()),
    ("event status", Number::EventChannelOp, event::Command::Status.raw()),
    ("grant map", Number::GrantTableOp, grant::Command::MapGrantRef.raw()),
    ("grant copy", Number::GrantTableOp, grant::Command::Copy.raw()),
    ("physmap", Number::MemoryOp, memory::Command::AddToPhysmap.raw()),
    ("parameter", Number::HvmOp, hvm::Command::GetParam.raw()),
    ("poll", Number::SchedOp, sched::Command::Poll.raw()),
];

/// Tries them.
pub fn attempts(border: &mut Border) {
    for (what, number, command) in READERS {
        for pointer in NOWHERE {
            border.call(what, number.raw(), [command, pointer, 1, 0, 0], &[EFAULT]);
        }
    }
    for pointer in NOWHERE {
        border.call("multicall", Number::Multicall.raw(), [pointer, 1, 0, 0, 0], &[EFAULT]);
    }
    within_a_structure(border);
    read_only(border);
    past_the_end(border);
}

/// The structure is there, but what it points to is not.
fn within_a_structure(border: &mut Border) {
    for pointer in NOWHERE {
        let poll = sched::Poll { ports: pointer, nr_ports: 2, padding: 0, timeout: 1 };
        let command = sched::Command::Poll.raw();
        border.command("ports to poll", Number::SchedOp, command, poll, &[EFAULT]);
    }
    let endless = sched::Poll { ports: 8, nr_ports: u32::MAX, padding: 0, timeout: 1 };
    border.command(
        "endlessly many ports",
        Number::SchedOp,
        sched::Command::Poll.raw(),
        endless,
        &[EINVAL, EFAULT],
    );
}

/// The monitor must not write for this guest where this guest itself may not.
fn read_only(border: &mut Border) {
    static FEATURES: version::FeatureInfo = version::FeatureInfo { submap_index: 0, submap: 0 };
    let pointer = core::ptr::from_ref(&FEATURES).expose_provenance() as u64;
    let command = version::Command::GetFeatures.raw();
    let arguments = [command, pointer, 0, 0, 0];
    border.call("write to constants", Number::XenVersion.raw(), arguments, &[EFAULT]);
}

/// An array that begins well and ends nowhere.
fn past_the_end(border: &mut Border) {
    let mut request = grant::Copy { len: 0, ..Default::default() };
    let arguments = [grant::Command::Copy.raw(), address(&mut request), u64::MAX, 0, 0];
    border.call("2^64 grant copies", Number::GrantTableOp.raw(), arguments, &[EINVAL, EFAULT]);
}
