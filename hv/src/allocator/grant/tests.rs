//! Grants: what an honest guest sees, and what a dishonest one may not get.

mod model;
mod world;

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use abi::grant::{CopyFlags, EntryFlags, MapFlags, MapGrantRef, Status, UnmapGrantRef};
use abi::{DomId, Errno, GrantRef};

use self::world::{RAM, WINDOW, World, granted, own, request};
use super::Access::{Read, Write};
use crate::allocator::frame::Kind;
use crate::allocator::stage2::{Leaf, LeafKind};
use crate::allocator::testing::PRIVILEGED;

const IN_USE: EntryFlags = EntryFlags::READING.union(EntryFlags::WRITING);

#[test]
fn a_mapping_is_the_granters_frame_until_it_is_unmapped() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 2, Write);
    let mapped = world.map(b, a, 9, Write, WINDOW).unwrap();
    assert_eq!(mapped.mfn, world.mfn(a, 2));
    let leaf = Leaf { mfn: mapped.mfn, kind: LeafKind::GrantWritable };
    assert_eq!(world.leaf(b, WINDOW), Some(leaf));
    assert_eq!(world.flags(a, 9) & IN_USE, IN_USE);
    assert_eq!(world.monitor.frames.holds(mapped.mfn), 2);
    assert_eq!(world.unmap(b, mapped.handle, WINDOW), Ok(()));
    assert_eq!(world.leaf(b, WINDOW), None);
    assert_eq!(world.flags(a, 9), EntryFlags::PERMIT_ACCESS);
    assert_eq!(world.monitor.frames.holds(mapped.mfn), 1);
    world.check_nothing_leaked();
}

#[test]
fn marks_go_with_the_last_mapping_that_needs_them() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    let reader = world.map(b, a, 9, Read, WINDOW).unwrap();
    assert_eq!(world.flags(a, 9) & IN_USE, EntryFlags::READING);
    let writer = world.map(b, a, 9, Write, WINDOW + 1).unwrap();
    assert_eq!(world.flags(a, 9) & IN_USE, IN_USE);
    world.unmap(b, writer.handle, WINDOW + 1).unwrap();
    assert_eq!(world.flags(a, 9) & IN_USE, EntryFlags::READING);
    world.unmap(b, reader.handle, WINDOW).unwrap();
    assert_eq!(world.flags(a, 9) & IN_USE, EntryFlags::empty());
}

#[test]
fn grants_that_do_not_exist_or_are_anothers() {
    let mut world = World::new();
    let [a, b, c] = world.domains;
    world.grant(a, 9, b, 0, Read);
    world.grant(a, 10, b, RAM, Write);
    let mut map = |mapper, granter, reference, access| {
        world.map(mapper, granter, reference, access, WINDOW).map(|_| ())
    };
    assert_eq!(map(c, a, 9, Read), Err(Status::GeneralError), "granted to another");
    assert_eq!(map(b, a, 9, Write), Err(Status::GeneralError), "only for reading");
    assert_eq!(map(b, a, 8, Read), Err(Status::GeneralError), "grants nothing");
    assert_eq!(map(b, a, 10, Read), Err(Status::BadPage), "no RAM there");
    assert_eq!(map(b, a, 512, Read), Err(Status::BadGrantRef));
    assert_eq!(map(b, a, u32::MAX, Read), Err(Status::BadGrantRef));
    assert_eq!(map(b, DomId(50), 9, Read), Err(Status::BadDomain));
    assert_eq!(map(b, DomId(64 + a.0), 9, Read), Err(Status::BadDomain), "same slot");
    for own_name in [b, DomId::SELF] {
        assert_eq!(map(b, own_name, 9, Read), Err(Status::BadDomain), "one's own");
    }
    assert_eq!(world.flags(a, 10) & IN_USE, EntryFlags::empty(), "failure leaves no mark");
    world.check_nothing_leaked();
}

#[test]
fn only_own_ram_can_be_granted() {
    let mut world = World::new();
    let [a, b, c] = world.domains;
    world.grant(a, 9, b, 0, Write);
    world.map(b, a, 9, Write, WINDOW).unwrap();
    world.grant(b, 9, c, WINDOW, Write);
    let passed_on = world.map(c, b, 9, Write, WINDOW);
    assert_eq!(passed_on, Err(Status::BadPage), "a grant cannot be passed on");
    let shared = world.monitor.frames.allocate(b, Kind::Shared, 0).unwrap();
    let domain = world.monitor.domains.get_mut(b).unwrap();
    let (pool, gfn) = (&mut world.monitor.frames, abi::Gfn(50));
    domain.stage2.map(pool, gfn, shared.mfn(), 0, LeafKind::SharedPage).unwrap();
    world.grant(b, 10, c, 50, Write);
    assert_eq!(world.map(c, b, 10, Write, WINDOW), Err(Status::BadPage));
    let copied = world.monitor.grant_copy(b, &request(own(WINDOW, 0), own(0, 0), 1));
    assert_eq!(copied, Err(Status::BadPage), "not through a mapping either");
}

#[test]
fn flags_and_addresses_that_arm_does_not_know() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    let mut map = |flags: u32, host_addr: u64| {
        let request =
            MapGrantRef { host_addr, flags, reference: GrantRef(9), dom: a, ..Default::default() };
        world.monitor.grant_map(b, &request).map(|_| ())
    };
    let host = MapFlags::HOST_MAP.bits();
    for unknown in [1 << 0, 1 << 3, 1 << 4, 1 << 16] {
        assert_eq!(map(host | unknown, WINDOW << 12), Err(Status::GeneralError));
    }
    assert_eq!(map(MapFlags::READONLY.bits(), WINDOW << 12), Err(Status::BadGrantRef));
    for address in [0, u64::MAX, 1 << 40] {
        assert_eq!(map(host, address), Err(Status::GeneralError), "occupied or out of range");
    }
    assert_eq!(world.flags(a, 9) & IN_USE, EntryFlags::empty());
    world.check_nothing_leaked();
}

#[test]
fn unmapping_needs_the_right_handle_and_address_once() {
    let mut world = World::new();
    let [a, b, c] = world.domains;
    world.grant(a, 9, b, 0, Write);
    let mapped = world.map(b, a, 9, Write, WINDOW).unwrap();
    let handle = mapped.handle;
    assert_eq!(world.unmap(c, handle, WINDOW), Err(Status::BadHandle), "another's");
    assert_eq!(world.unmap(b, handle, WINDOW + 1), Err(Status::GeneralError));
    for wrong in [handle + 1, 256, u32::MAX] {
        assert_eq!(world.unmap(b, wrong, WINDOW), Err(Status::BadHandle));
    }
    let mut unmap = |dev_bus_addr| {
        let request = UnmapGrantRef {
            host_addr: WINDOW << 12,
            handle,
            dev_bus_addr,
            ..UnmapGrantRef::default()
        };
        world.monitor.grant_unmap(b, &request).map(|_| ())
    };
    assert_eq!(unmap(mapped.mfn.address() + 4096), Err(Status::GeneralError));
    assert_eq!(unmap(mapped.mfn.address()), Ok(()));
    assert_eq!(world.unmap(b, handle, WINDOW), Err(Status::BadHandle), "twice");
    world.check_nothing_leaked();
}

#[test]
fn handles_are_used_again() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    let mapped = world.map(b, a, 9, Write, WINDOW).unwrap();
    world.unmap(b, mapped.handle, WINDOW).unwrap();
    let overhead = world.monitor.frames.account(b).overhead;
    for _ in 0..1000 {
        let mapped = world.map(b, a, 9, Write, WINDOW).unwrap();
        world.unmap(b, mapped.handle, WINDOW).unwrap();
    }
    assert_eq!(world.monitor.frames.account(b).overhead, overhead);
}

#[test]
fn a_pinned_entry_keeps_its_frame_and_grantee_whatever_it_says() {
    let mut world = World::new();
    let [a, b, c] = world.domains;
    world.grant(a, 9, b, 0, Write);
    let first = world.map(b, a, 9, Write, WINDOW).unwrap();
    world.grant(a, 9, c, 1, Write);
    assert_eq!(world.map(c, a, 9, Write, WINDOW), Err(Status::GeneralError), "b has it");
    let second = world.map(b, a, 9, Read, WINDOW + 1).unwrap();
    assert_eq!(second.mfn, first.mfn, "not the frame that the entry says now");
    world.unmap(b, first.handle, WINDOW).unwrap();
    world.unmap(b, second.handle, WINDOW + 1).unwrap();
    assert_eq!(world.map(c, a, 9, Write, WINDOW).map(|m| m.mfn), Ok(world.mfn(a, 1)));
    world.check_nothing_leaked();
}

#[test]
fn a_dead_granters_frames_stay_until_the_mappings_go() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    let mapped = world.map(b, a, 9, Write, WINDOW).unwrap();
    world.destroy(a);
    assert_eq!(world.monitor.frames.holds(mapped.mfn), 1);
    assert_eq!(world.monitor.frames.account(a).frames, 1, "the rest is given back");
    assert_eq!(world.map(b, a, 9, Write, WINDOW + 1), Err(Status::BadDomain));
    assert_eq!(world.unmap(b, mapped.handle, WINDOW), Ok(()));
    assert!(world.monitor.frames.account(a).is_vacant());
    world.check_nothing_leaked();
}

#[test]
fn a_dead_mapper_lets_go_of_everything() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    for gfn in 0..255 {
        world.map(b, a, 9, Write, WINDOW + gfn).unwrap();
    }
    assert_eq!(world.monitor.frames.holds(world.mfn(a, 0)), 256);
    let more = world.map(b, a, 9, Read, WINDOW + 255);
    assert_eq!(more, Err(Status::GeneralError), "as many as are counted");
    assert_eq!(world.monitor.domains.get(a).unwrap().grants.mappings_by_others(), 255);
    world.destroy(b);
    assert_eq!(world.monitor.frames.holds(world.mfn(a, 0)), 1);
    assert_eq!(world.flags(a, 9), EntryFlags::PERMIT_ACCESS);
    assert_eq!(world.monitor.domains.get(a).unwrap().grants.mappings_by_others(), 0);
    world.check_nothing_leaked();
}

#[test]
fn a_dying_granter_lets_nobody_in() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    assert!(world.monitor.destroy_step(PRIVILEGED, a).is_ok());
    assert_eq!(world.map(b, a, 9, Write, WINDOW), Err(Status::BadDomain));
    let copied = world.monitor.grant_copy(b, &request(granted(a, 9, 0), own(0, 0), 1));
    assert_eq!(copied, Err(Status::BadDomain));
    world.check_nothing_leaked();
}

#[test]
fn copies_go_between_granted_and_own_frames() {
    let world = World::new();
    let [a, b, c] = world.domains;
    world.grant(a, 9, b, 1, Read);
    world.grant(c, 9, b, 2, Write);
    world.grant(b, 9, b, 3, Write);
    let copy = |source, dest, len| world.monitor.grant_copy(b, &request(source, dest, len));
    let byte = |id, gfn, offset| {
        let mut byte = [0];
        world.frame(id, gfn).read(offset, &mut byte);
        byte[0]
    };
    assert_eq!(copy(granted(a, 9, 4095), own(0, 7), 1), Ok(()));
    assert_eq!((byte(b, 0, 6), byte(b, 0, 7), byte(b, 0, 8)), (17, byte(a, 1, 0), 17));
    assert_eq!(copy(own(0, 0), granted(c, 9, 0), 4096), Ok(()));
    assert_eq!(byte(c, 2, 7), byte(a, 1, 0));
    assert_eq!(copy(granted(a, 9, 0), granted(c, 9, 8), 8), Ok(()), "neither is one's own");
    assert_eq!(byte(c, 2, 15), byte(a, 1, 0));
    assert_eq!(copy(granted(b, 9, 0), granted(DomId::SELF, 9, 1), 1), Ok(()), "from oneself");
    assert_eq!(copy(own(0, 4096 - 1), own(1, 0), 0), Ok(()));
    for (id, reference) in [(a, 9), (c, 9), (b, 9)] {
        assert_eq!(world.flags(id, reference) & IN_USE, EntryFlags::empty());
    }
}

#[test]
fn copies_that_must_not_happen() {
    let world = World::new();
    let [a, b, c] = world.domains;
    world.grant(a, 9, b, 1, Read);
    world.grant(a, 10, c, 1, Write);
    world.grant(a, 11, b, 99, Write);
    let copy = |source, dest, len| world.monitor.grant_copy(b, &request(source, dest, len));
    assert_eq!(copy(granted(a, 9, 1), own(0, 0), 4096), Err(Status::BadCopyArg));
    assert_eq!(copy(own(0, 0), own(0, u16::MAX), 2), Err(Status::BadCopyArg));
    assert_eq!(copy(own(0, 0), granted(a, 9, 0), 1), Err(Status::GeneralError), "read-only");
    assert_eq!(copy(granted(a, 10, 0), own(0, 0), 1), Err(Status::GeneralError), "for c");
    assert_eq!(copy(granted(a, 11, 0), own(0, 0), 1), Err(Status::BadPage));
    assert_eq!(copy(granted(a, 4096, 0), own(0, 0), 1), Err(Status::BadGrantRef));
    assert_eq!(copy(granted(DomId(9), 9, 0), own(0, 0), 1), Err(Status::BadDomain));
    assert_eq!(copy(own(99, 0), own(0, 0), 1), Err(Status::BadPage));
    assert_eq!(copy(own(u64::MAX, 0), own(0, 0), 1), Err(Status::BadPage));
    let mut forged = request(granted(a, 0, 0), own(0, 0), 1);
    forged.flags &= !CopyFlags::SOURCE_GREF.bits();
    let result = world.monitor.grant_copy(b, &forged);
    assert_eq!(result, Err(Status::PermissionDenied), "another's frame by its number");
    assert_eq!(world.flags(a, 9) & IN_USE, EntryFlags::empty(), "a failed copy leaves no mark");
    assert_eq!(world.flags(a, 11) & IN_USE, EntryFlags::empty());
}

#[test]
fn a_copy_does_not_take_a_mappings_marks_away() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    let mapped = world.map(b, a, 9, Read, WINDOW).unwrap();
    let write = request(own(0, 0), granted(a, 9, 0), 1);
    assert_eq!(world.monitor.grant_copy(b, &write), Ok(()));
    assert_eq!(world.flags(a, 9) & IN_USE, EntryFlags::READING);
    world.grant(a, 9, b, 1, Read);
    let read = request(granted(a, 9, 0), own(1, 0), 1);
    assert_eq!(world.monitor.grant_copy(b, &read), Ok(()), "the pinned frame, not the new one");
    let mut byte = [0];
    world.frame(b, 1).read(0, &mut byte);
    assert_eq!(byte[0], 17, "what was copied to the pinned frame before");
    assert_eq!(world.monitor.grant_copy(b, &write), Err(Status::GeneralError));
    world.unmap(b, mapped.handle, WINDOW).unwrap();
}

#[test]
fn a_grant_of_part_of_a_frame_is_refused() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 0, Write);
    world.table(a).u16(8 * 9).fetch_or(0x100, SeqCst);
    assert_eq!(world.map(b, a, 9, Read, WINDOW), Err(Status::GeneralError));
}

#[test]
fn the_table_grows_to_its_limit_and_is_paid_by_the_domain() {
    let mut world = World::new();
    let a = world.domains[0];
    let domain = world.monitor.domains.get_mut(a).unwrap();
    let pool = &mut world.monitor.frames;
    let before = pool.account(a).overhead;
    assert_eq!((domain.grants.size(), domain.grants.max_size()), (1, 64));
    let first = domain.grants.shared_frame(pool, a, 0).unwrap();
    let last = domain.grants.shared_frame(pool, a, 63).unwrap();
    assert_ne!(first, last);
    assert_eq!(pool.account(a).overhead, before + 63 * 2, "each with 512 records");
    for beyond in [64, u32::MAX] {
        assert_eq!(domain.grants.shared_frame(pool, a, beyond), Err(Errno::EINVAL));
    }
    world.check_nothing_leaked();
}

#[test]
fn entries_in_use_cannot_be_swapped() {
    let mut world = World::new();
    let [a, b, _] = world.domains;
    world.grant(a, 9, b, 1, Write);
    let swap = |world: &mut World, x, y| {
        world.monitor.domains.get_mut(a).unwrap().grants.swap(GrantRef(x), GrantRef(y))
    };
    assert_eq!(swap(&mut world, 9, 10), Ok(()));
    assert_eq!(swap(&mut world, 10, 10), Ok(()));
    assert_eq!(world.flags(a, 9), EntryFlags::empty());
    assert_eq!(world.map(b, a, 10, Write, WINDOW).map(|m| m.mfn), Ok(world.mfn(a, 1)));
    assert_eq!(swap(&mut world, 9, 10), Err(Status::Again));
    assert_eq!(swap(&mut world, 9, 512), Err(Status::BadGrantRef));
}

/// A granter on another CPU that rewrites its entry all the time gets nothing but failures and its
/// own frames mapped.
#[test]
fn a_granter_that_never_stops_writing() {
    let mut world = World::new();
    let [a, b, c] = world.domains;
    let table = world.table(a);
    let stop = AtomicBool::new(false);
    let frames: Vec<_> = (0..RAM).map(|gfn| world.mfn(a, gfn)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0u32;
            while !stop.load(Relaxed) {
                round = round.wrapping_add(1);
                let to = if round.is_multiple_of(3) { c } else { b };
                table.u32(72).store(u32::from(to.0) << 16 | (round % 32), SeqCst);
                table.u32(76).store(round % 6, SeqCst);
            }
        });
        for round in 0..20_000u64 {
            let gfn = WINDOW + round % 8;
            let access = if round.is_multiple_of(2) { Read } else { Write };
            if let Ok(mapped) = world.map(b, a, 9, access, gfn) {
                assert!(frames.contains(&mapped.mfn));
                assert_eq!(world.unmap(b, mapped.handle, gfn), Ok(()));
            }
            let copy = request(granted(a, 9, 0), own(0, 0), 64);
            let result = world.monitor.grant_copy(b, &copy);
            assert!(matches!(result, Ok(()) | Err(Status::GeneralError | Status::BadPage)));
        }
        stop.store(true, Relaxed);
    });
    assert!(frames.iter().all(|&mfn| world.monitor.frames.holds(mfn) == 1));
    world.check_nothing_leaked();
}
