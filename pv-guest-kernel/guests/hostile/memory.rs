//! Memory that this domain does not have.

use pv_guest_kernel::abi::Errno::EINVAL;
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::memory::{AddToPhysmap, Command, MapSpace, Reservation};
use pv_guest_kernel::abi::{DomId, Gfn};

use crate::border::{Border, address, hypercall};

/// Beyond all that can be mapped.
const FAR: Gfn = Gfn(1 << 40);
/// Free, where memory could be.
const FREE: u64 = 0x10_0000;

/// Tries it.
pub fn attempts(border: &mut Border) {
    bad_places(border);
    all_memory(border);
}

fn bad_places(border: &mut Border) {
    let command = Command::AddToPhysmap.raw();
    let place = |space: MapSpace, idx, gpfn| AddToPhysmap {
        domid: DomId::SELF,
        size: 0,
        space: space.raw(),
        idx,
        gpfn,
    };
    let cases = [
        ("shared page nowhere", place(MapSpace::SharedInfo, 0, FAR)),
        ("second shared page", place(MapSpace::SharedInfo, 1, Gfn(FREE))),
        ("grant frame 2^32", place(MapSpace::GrantTable, 1 << 32, Gfn(FREE))),
        ("device", place(MapSpace::DevMmio, 0x9000, Gfn(FREE))),
        ("unknown space", AddToPhysmap { space: 4711, ..place(MapSpace::Gmfn, 0, Gfn(FREE)) }),
    ];
    for (what, mut argument) in cases {
        let arguments = [command, address(&mut argument), 0, 0, 0];
        let result = hypercall(Number::MemoryOp.raw(), arguments);
        border.note(what, result, result < 0);
    }
}

/// More and more memory, until the monitor refuses. A domain has a limit, and has reached it.
fn all_memory(border: &mut Border) {
    let mut taken = 0_u64;
    for gfn in FREE..FREE + 1_000_000 {
        if populate(Gfn(gfn), 0) != 1 {
            break;
        }
        taken += 1;
    }
    border.note("all the machine's memory", taken.cast_signed(), taken < 4096);
    let result = populate(Gfn(FREE), 9);
    border.note("a large block", result, result <= 0);
    let result = populate(Gfn(FREE), u32::MAX);
    border.note("a block of 2^(2^32)", result, result == 0 || result == EINVAL.to_return());
    let result = populate(FAR, 0);
    border.note("memory nowhere", result, result <= 0);
}

/// Asks for one extent; returns how many there were, or an error.
fn populate(mut gfn: Gfn, extent_order: u32) -> i64 {
    let extent_start = address(&mut gfn);
    let domid = DomId::SELF;
    let mut argument =
        Reservation { extent_start, nr_extents: 1, extent_order, domid, ..Default::default() };
    let arguments = [Command::PopulatePhysmap.raw(), address(&mut argument), 0, 0, 0];
    hypercall(Number::MemoryOp.raw(), arguments)
}
