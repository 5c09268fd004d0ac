use abi::{DomId, Errno, Gfn};

use super::*;
use crate::allocator::domain::DomainConfig;
use crate::allocator::testing::{self, PRIVILEGED};

fn leaf(monitor: &Monitor, id: DomId, gfn: u64) -> Option<Leaf> {
    monitor.domains.get(id).unwrap().stage2.lookup(Gfn(gfn))
}

fn ram(monitor: &Monitor, id: DomId) -> u64 {
    monitor.frames.account(id).frames
}

#[test]
fn a_page_given_back_can_be_had_again() {
    let mut monitor = testing::monitor(3000);
    let id = testing::create(&mut monitor, 512);
    let mut space = monitor.physmap(id).unwrap();
    space.populate(Gfn(512), 9).unwrap();
    assert_eq!(space.populate(Gfn(0), 0), Err(Errno::ENOMEM), "beyond the reservation");
    space.decrease(Gfn(515), 0).unwrap();
    assert_eq!(space.decrease(Gfn(515), 0), Err(Errno::EINVAL));
    space.populate(Gfn(0), 0).unwrap();
    assert_eq!(ram(&monitor, id), 512);
    assert_eq!(leaf(&monitor, id, 515), None);
    assert!(leaf(&monitor, id, 516).is_some_and(|leaf| leaf.kind == LeafKind::Ram));
}

#[test]
fn populating_twice_does_not_leak() {
    let mut monitor = testing::monitor(3000);
    let id = testing::create(&mut monitor, 600);
    for order in [0, 3, 9, 9, 0] {
        monitor.physmap(id).unwrap().populate(Gfn(512), order).unwrap();
    }
    assert_eq!(ram(&monitor, id), 512);
    assert_eq!(monitor.physmap(id).unwrap().populate(Gfn(0), 10), Err(Errno::EINVAL));
    assert_eq!(monitor.physmap(id).unwrap().populate(Gfn(1 << 28), 0), Err(Errno::EINVAL));
    assert_eq!(monitor.physmap(id).unwrap().populate(Gfn(u64::MAX), 1), Err(Errno::EINVAL));
    assert_eq!(ram(&monitor, id), 512);
}

#[test]
fn frames_without_a_place_count_against_the_reservation() {
    let mut monitor = testing::monitor(1500);
    let id = testing::create(&mut monitor, 8);
    monitor.physmap(id).unwrap().increase(3).unwrap();
    assert_eq!(monitor.physmap(id).unwrap().increase(0), Err(Errno::ENOMEM));
    assert_eq!(ram(&monitor, id), 8);
}

#[test]
fn the_shared_page_replaces_ram_and_is_mapped_once() {
    let mut monitor = testing::monitor(1500);
    let id = testing::create(&mut monitor, 8);
    let mut space = monitor.physmap(id).unwrap();
    space.populate(Gfn(4), 2).unwrap();
    space.map_shared_info(Gfn(5)).unwrap();
    assert_eq!(space.map_shared_info(Gfn(6)), Err(Errno::EBUSY));
    assert_eq!(space.decrease(Gfn(5), 0), Err(Errno::EINVAL), "it is no RAM");
    space.remove(Gfn(5)).unwrap();
    assert_eq!(space.remove(Gfn(5)), Err(Errno::ENOENT));
    space.map_shared_info(Gfn(6)).unwrap();
    let shared = monitor.domains.get(id).unwrap().shared_info.mfn();
    let there = leaf(&monitor, id, 6);
    assert_eq!(there, Some(Leaf { mfn: shared, kind: LeafKind::SharedPage }));
    assert_eq!(ram(&monitor, id), 2, "the RAM underneath went back");
}

#[test]
fn the_grant_table_grows_to_what_is_mapped() {
    let mut monitor = testing::monitor(1500);
    let id = testing::create(&mut monitor, 8);
    let mut space = monitor.physmap(id).unwrap();
    space.map_grant_table(Gfn(9), 2).unwrap();
    space.map_grant_table(Gfn(8), 0).unwrap();
    assert_eq!(space.map_grant_table(Gfn(10), 2), Err(Errno::EBUSY));
    assert_eq!(space.map_grant_table(Gfn(10), 64), Err(Errno::EINVAL));
    assert_eq!(monitor.domains.get(id).unwrap().grants.size(), 3);
}

#[test]
fn foreign_ram_can_be_mapped_and_nothing_else() {
    let mut monitor = testing::monitor(1500);
    let [a, b] = [(); 2].map(|()| testing::create(&mut monitor, 8));
    monitor.physmap(b).unwrap().populate(Gfn(1), 0).unwrap();
    monitor.physmap(b).unwrap().map_shared_info(Gfn(2)).unwrap();
    let mut map =
        |gfn, from, source| monitor.map_foreign(PRIVILEGED, a, Gfn(gfn), from, Gfn(source));
    map(100, b, 1).unwrap();
    assert_eq!(map(101, b, 2), Err(Errno::EINVAL), "a shared page");
    assert_eq!(map(101, b, 3), Err(Errno::EINVAL), "nothing");
    assert_eq!(map(101, a, 1), Err(Errno::EPERM), "its own");
    assert_eq!(map(101, DomId(7), 1), Err(Errno::ESRCH));
    assert_eq!(map(1 << 28, b, 1), Err(Errno::EINVAL));
    let mut back = |gfn| monitor.map_foreign(PRIVILEGED, b, Gfn(gfn), a, Gfn(100));
    assert_eq!(back(50), Err(Errno::EINVAL), "a foreign page is not handed on");
    let mfn = leaf(&monitor, a, 100).unwrap().mfn;
    assert_eq!(monitor.frames.holds(mfn), 2);
    monitor.physmap(a).unwrap().remove(Gfn(100)).unwrap();
    assert_eq!(monitor.frames.holds(mfn), 1);
}

#[test]
fn a_frame_that_another_maps_outlives_its_place_and_its_domain() {
    let mut monitor = testing::monitor(1500);
    let [a, b] = [(); 2].map(|()| testing::create(&mut monitor, 8));
    monitor.physmap(b).unwrap().populate(Gfn(1), 0).unwrap();
    monitor.map_foreign(PRIVILEGED, a, Gfn(100), b, Gfn(1)).unwrap();
    monitor.physmap(b).unwrap().decrease(Gfn(1), 0).unwrap();
    assert_eq!(ram(&monitor, b), 1, "still charged");
    testing::destroy(&mut monitor, b);
    assert!(monitor.domains.get(b).is_none());
    assert_eq!(ram(&monitor, b), 1);
    let remains = monitor.domain_info(b, crate::types::Ticks(0), |ticks| ticks.0);
    assert_eq!(remains.map(|info| (info.frames, info.state & 1)), Some((1, 1)));
    monitor.physmap(a).unwrap().remove(Gfn(100)).unwrap();
    assert!(monitor.frames.account(b).is_vacant());
    assert!(monitor.domain_info(b, crate::types::Ticks(0), |ticks| ticks.0).is_none());
}

#[test]
fn a_domain_mapped_one_to_one_keeps_its_frames() {
    let mut monitor = testing::monitor(4000);
    let config = DomainConfig { direct_mapped: true, ..testing::config(1000) };
    let id = monitor.create_domain(PRIVILEGED, &config).unwrap();
    let first = monitor.physmap(id).unwrap().populate_contiguous(700).unwrap().mfn();
    let free = monitor.frames.free();
    let mut space = monitor.physmap(id).unwrap();
    space.decrease(Gfn(first.0 + 600), 0).unwrap();
    assert_eq!(space.populate(Gfn(first.0 - 1), 0), Err(Errno::EINVAL), "not its own");
    space.populate(Gfn(first.0 + 600), 0).unwrap();
    assert_eq!(monitor.frames.free(), free);
    for page in [0, 511, 512, 600, 699] {
        assert_eq!(leaf(&monitor, id, first.0 + page).map(|l| l.mfn.0), Some(first.0 + page));
    }
    assert_eq!(leaf(&monitor, id, first.0 + 700), None);
    testing::destroy(&mut monitor, id);
    assert!(monitor.frames.account(id).is_vacant());
}

#[test]
fn devices_stay_where_they_are() {
    let mut monitor = testing::monitor(1500);
    let id = testing::create(&mut monitor, 8);
    let mut space = monitor.physmap(id).unwrap();
    space.map_device(PRIVILEGED, 0xA000..0xA004).unwrap();
    assert_eq!(space.remove(Gfn(0xA000)), Err(Errno::EPERM));
    assert_eq!(space.populate(Gfn(0xA003), 0), Err(Errno::EPERM));
    assert_eq!(monitor.hold_ram(id, Gfn(0xA000)), Err(Errno::EINVAL));
}
