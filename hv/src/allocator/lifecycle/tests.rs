use std::collections::BTreeMap;

use abi::grant::{EntryFlags, MapFlags, MapGrantRef, UnmapGrantRef};
use abi::{Gfn, GrantRef, VcpuId};
use core::sync::atomic::Ordering;
use proptest::prelude::*;

use super::*;
use crate::allocator::frame::Kind;
use crate::allocator::stage2::LeafKind;
use crate::allocator::testing::{self, PRIVILEGED};
use crate::allocator::vcpu::InfoPlace;
use crate::allocator::{MAX_DOMAINS, slot};
use crate::types::{Mfn, VcpuKey};

/// Guest frames that the tests use.
const GFNS: u64 = 1100;

#[derive(Debug, Clone)]
enum Action {
    Create,
    Populate { who: usize, gfn: u64, order: u8 },
    Decrease { who: usize, gfn: u64, order: u8 },
    Increase { who: usize },
    Remove { who: usize, gfn: u64 },
    SharedInfo { who: usize, gfn: u64 },
    GrantTable { who: usize, gfn: u64, index: u32 },
    Foreign { who: usize, gfn: u64, from: usize, from_gfn: u64 },
    RegisterInfo { who: usize, gfn: u64 },
    Grant { who: usize, gfn: u64, to: usize, to_gfn: u64 },
    EndGrant { pick: usize },
    Destroy { who: usize, steps: usize },
}

fn action() -> impl Strategy<Value = Action> {
    let who = || 0..5usize;
    let gfn = || prop_oneof![4 => 0..32u64, 1 => 500..520u64, 1 => Just(512), 1 => 0..GFNS];
    let order = || prop_oneof![4 => Just(0u8), 1 => 0..5u8, 1 => Just(9)];
    prop_oneof![
        2 => Just(Action::Create),
        6 => (who(), gfn(), order())
            .prop_map(|(who, gfn, order)| Action::Populate { who, gfn, order }),
        2 => (who(), gfn(), order())
            .prop_map(|(who, gfn, order)| Action::Decrease { who, gfn, order }),
        1 => who().prop_map(|who| Action::Increase { who }),
        2 => (who(), gfn()).prop_map(|(who, gfn)| Action::Remove { who, gfn }),
        1 => (who(), gfn()).prop_map(|(who, gfn)| Action::SharedInfo { who, gfn }),
        1 => (who(), gfn(), 0..3u32)
            .prop_map(|(who, gfn, index)| Action::GrantTable { who, gfn, index }),
        5 => (who(), gfn(), who(), gfn())
            .prop_map(|(who, gfn, from, from_gfn)| Action::Foreign { who, gfn, from, from_gfn }),
        1 => (who(), gfn()).prop_map(|(who, gfn)| Action::RegisterInfo { who, gfn }),
        5 => (who(), gfn(), who(), gfn())
            .prop_map(|(who, gfn, to, to_gfn)| Action::Grant { who, gfn, to, to_gfn }),
        2 => any::<usize>().prop_map(|pick| Action::EndGrant { pick }),
        2 => (who(), 1..12usize).prop_map(|(who, steps)| Action::Destroy { who, steps }),
    ]
}

/// A machine and what was done to it.
struct World {
    monitor: Monitor,
    domains: Vec<DomId>,
    grants: Vec<(DomId, UnmapGrantRef)>,
}

impl World {
    fn new() -> World {
        World { monitor: testing::monitor(4200), domains: Vec::new(), grants: Vec::new() }
    }

    /// Does it, or not: a refusal is fine, a frame that is lost is not.
    fn act(&mut self, action: Action) -> Result<(), Errno> {
        let domains = self.domains.clone();
        let name = |who: usize| domains.get(who).copied().ok_or(Errno::ESRCH);
        let monitor = &mut self.monitor;
        match action {
            Action::Create if domains.len() < 5 => {
                self.domains.push(monitor.create_domain(PRIVILEGED, &testing::config(1300))?);
                Ok(())
            }
            Action::Create => Ok(()),
            Action::Populate { who, gfn, order } => {
                monitor.physmap(name(who)?)?.populate(Gfn(gfn), order)
            }
            Action::Decrease { who, gfn, order } => {
                monitor.physmap(name(who)?)?.decrease(Gfn(gfn), order)
            }
            Action::Increase { who } => monitor.physmap(name(who)?)?.increase(0),
            Action::Remove { who, gfn } => monitor.physmap(name(who)?)?.remove(Gfn(gfn)),
            Action::SharedInfo { who, gfn } => {
                monitor.physmap(name(who)?)?.map_shared_info(Gfn(gfn))
            }
            Action::GrantTable { who, gfn, index } => {
                monitor.physmap(name(who)?)?.map_grant_table(Gfn(gfn), index)
            }
            Action::Foreign { who, gfn, from, from_gfn } => {
                let (into, from) = (name(who)?, name(from)?);
                monitor.map_foreign(PRIVILEGED, into, Gfn(gfn), from, Gfn(from_gfn))
            }
            Action::RegisterInfo { who, gfn } => self.register_info(name(who)?, Gfn(gfn)),
            Action::Grant { who, gfn, to, to_gfn } => {
                self.grant(name(who)?, gfn, name(to)?, Gfn(to_gfn))
            }
            Action::EndGrant { pick } => self.end_grant(pick),
            Action::Destroy { who, steps } => self.destroy(name(who)?, steps),
        }
    }

    fn register_info(&mut self, domain: DomId, gfn: Gfn) -> Result<(), Errno> {
        let key = VcpuKey { domain, vcpu: VcpuId(0) };
        let vcpu = self.monitor.domains.get(domain).and_then(|d| d.vcpu(key.vcpu));
        if vcpu.and_then(|vcpu| vcpu.info).is_some_and(|info| info.registered) {
            return Err(Errno::EBUSY);
        }
        let frame = self.monitor.hold_ram(domain, gfn)?;
        let vcpu = self.monitor.domains.get_mut(domain).and_then(|d| d.vcpu_mut(key.vcpu));
        vcpu.unwrap().info = Some(InfoPlace { frame, offset: 64, registered: true });
        Ok(())
    }

    /// `from` grants a page and `to` maps it, unless it is dying: then it makes no calls.
    fn grant(&mut self, from: DomId, gfn: u64, to: DomId, to_gfn: Gfn) -> Result<(), Errno> {
        self.monitor.physmap(to)?;
        let Monitor { domains, frames, .. } = &mut self.monitor;
        let granter = domains.get_mut(from).filter(|d| !d.is_dying()).ok_or(Errno::ESRCH)?;
        let table = granter.grants.shared_frame(frames, from, 0)?;
        let reference = GrantRef(8 + (gfn as u32) % 500);
        let entry = reference.0 as usize * 8;
        if table.u16(entry).load(Ordering::Relaxed) == 0 {
            table.u32(entry + 4).store(gfn as u32, Ordering::Relaxed);
            table.u16(entry + 2).store(to.0, Ordering::Relaxed);
            table.u16(entry).store(EntryFlags::PERMIT_ACCESS.bits(), Ordering::Relaxed);
        }
        let host_addr = to_gfn.0 << abi::PAGE_SHIFT;
        let flags = MapFlags::HOST_MAP.bits();
        let request = MapGrantRef { host_addr, flags, reference, dom: from, ..Default::default() };
        let mapped = self.monitor.grant_map(to, &request).or(Err(Errno::EINVAL))?;
        let end = UnmapGrantRef { host_addr, handle: mapped.handle, ..Default::default() };
        self.grants.push((to, end));
        Ok(())
    }

    fn end_grant(&mut self, pick: usize) -> Result<(), Errno> {
        if self.grants.is_empty() {
            return Ok(());
        }
        let (mapper, request) = self.grants.swap_remove(pick % self.grants.len());
        let dying = self.monitor.domains.get(mapper).is_none_or(Domain::is_dying);
        let ended = self.monitor.grant_unmap(mapper, &request);
        assert!(dying || ended.is_ok(), "a grant that was mapped can be unmapped");
        Ok(())
    }

    fn destroy(&mut self, id: DomId, steps: usize) -> Result<(), Errno> {
        for _ in 0..steps {
            if self.monitor.destroy_step(PRIVILEGED, id)? == Progress::Done {
                self.domains.retain(|&domain| domain != id);
                self.grants.retain(|&(mapper, _)| mapper != id);
                break;
            }
        }
        Ok(())
    }

    fn owner_is_dying(&self, mfn: Mfn) -> bool {
        let owner = self.monitor.frames.owner(mfn).and_then(|id| self.monitor.domains.get(id));
        owner.is_some_and(Domain::is_dying)
    }

    /// Every hold on every frame has a reason that is still there.
    fn check_holds(&self) {
        let mut reasons = BTreeMap::<Mfn, u32>::new();
        for domain in self.monitor.domains.iter() {
            for leaf in (0..GFNS + 600).filter_map(|gfn| domain.stage2.lookup(Gfn(gfn))) {
                let held = !matches!(leaf.kind, LeafKind::Ram | LeafKind::Device);
                *reasons.entry(leaf.mfn).or_default() += u32::from(held);
            }
            for info in domain.all_vcpus().filter_map(|vcpu| vcpu.info) {
                *reasons.entry(info.frame.mfn()).or_default() += u32::from(info.registered);
            }
        }
        for mfn in self.monitor.frames.mfns().map(Mfn) {
            let own = match self.monitor.frames.kind(mfn) {
                // A dying domain's grant table goes before the leaves that show it.
                Kind::Shared if self.owner_is_dying(mfn) => 0..=1,
                Kind::Ram | Kind::Shared => 1..=1,
                // A translation table has one more for each slot in use.
                Kind::Private => 1..=513,
                Kind::Absent | Kind::Free | Kind::FreeInside | Kind::Orphan => 0..=0,
            };
            let others = reasons.get(&mfn).copied().unwrap_or(0);
            let unexplained = self.monitor.frames.holds(mfn).checked_sub(others);
            assert!(unexplained.is_some_and(|holds| own.contains(&holds)), "{mfn:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_frame_comes_back(
        actions in prop::collection::vec(action(), 1..80),
        last in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        let free = world.monitor.frames.free();
        for action in [Action::Create, Action::Create].into_iter().chain(actions) {
            // Most random requests make no sense and are refused.
            let _refused = world.act(action);
            world.check_holds();
        }
        while !world.domains.is_empty() {
            let id = world.domains[last.index(world.domains.len())];
            world.destroy(id, usize::MAX).unwrap();
            world.check_holds();
        }
        prop_assert_eq!(world.monitor.frames.free(), free);
        prop_assert!(world.monitor.frames.accounts().iter().all(|account| account.is_vacant()));
    }
}

#[test]
fn a_domain_that_cannot_be_built_leaves_nothing() {
    let filler = DomId(63);
    let mut outcomes = Vec::new();
    for left in 0..40 {
        let mut monitor = testing::monitor(600);
        assert!(monitor.frames.open_account(filler, 1 << 20));
        while monitor.frames.free() > left {
            monitor.frames.allocate(filler, Kind::Ram, 0).unwrap();
        }
        let config = DomainConfig { max_vcpus: 8, ..testing::config(16) };
        let created = monitor.create_domain(PRIVILEGED, &config);
        outcomes.push(created.is_ok());
        match created {
            Ok(id) => testing::destroy(&mut monitor, id),
            Err(error) => assert!(matches!(error, CreateError::OutOfFrames(_)), "{error:?}"),
        }
        assert_eq!(monitor.frames.free(), left);
    }
    assert!(outcomes.is_sorted() && outcomes.contains(&false) && outcomes.contains(&true));
}

#[test]
fn identifiers_rise_and_are_reused_last() {
    let mut monitor = testing::monitor(2500);
    let first = testing::create(&mut monitor, 1);
    assert_eq!(first, DomId(0));
    for expected in 1..200 {
        let id = testing::create(&mut monitor, 1);
        let skipped = expected + (expected - 1) / (MAX_DOMAINS as u16 - 1);
        assert_eq!(id, DomId(skipped), "the slot of domain 0 is passed over");
        testing::destroy(&mut monitor, id);
        assert_eq!(monitor.destroy_step(PRIVILEGED, id), Err(Errno::ESRCH));
    }
}

#[test]
fn identifiers_wrap_below_the_reserved_ones() {
    let mut monitor = testing::monitor(2500);
    let _dom0 = testing::create(&mut monitor, 1);
    for _ in 0..u32::from(DomId::FIRST_RESERVED) + 100 {
        let id = testing::create(&mut monitor, 1);
        assert!(id.0 > 0 && id.0 < DomId::FIRST_RESERVED && slot(id) != 0);
        testing::destroy(&mut monitor, id);
    }
}

#[test]
fn there_are_as_many_domains_as_slots() {
    let mut monitor = testing::monitor(3000);
    for _ in 0..MAX_DOMAINS {
        testing::create(&mut monitor, 1);
    }
    let config = testing::config(1);
    assert_eq!(monitor.create_domain(PRIVILEGED, &config), Err(CreateError::TooManyDomains));
    let none = DomainConfig { max_vcpus: 0, ..config };
    assert_eq!(monitor.create_domain(PRIVILEGED, &none), Err(CreateError::VcpuCount));
    let many = DomainConfig { max_vcpus: 9, ..config };
    assert_eq!(monitor.create_domain(PRIVILEGED, &many), Err(CreateError::VcpuCount));
}

#[test]
fn the_privileged_domain_is_not_destroyed() {
    let mut monitor = testing::monitor(1500);
    let config = DomainConfig { privileged: true, ..testing::config(1) };
    let id = monitor.create_domain(PRIVILEGED, &config).unwrap();
    assert_eq!(monitor.destroy_step(PRIVILEGED, id), Err(Errno::EINVAL));
    assert!(monitor.physmap(id).is_ok());
}

#[test]
fn a_dying_domain_gets_and_gives_nothing() {
    let mut monitor = testing::monitor(1500);
    let [a, b] = [(); 2].map(|()| testing::create(&mut monitor, 8));
    monitor.physmap(b).unwrap().populate(Gfn(1), 0).unwrap();
    assert_eq!(monitor.destroy_step(PRIVILEGED, b), Ok(Progress::More));
    assert_eq!(monitor.physmap(b).map(|_| ()), Err(Errno::EINVAL));
    let mapped = monitor.map_foreign(PRIVILEGED, a, Gfn(9), b, Gfn(1));
    assert_eq!(mapped, Err(Errno::EINVAL));
}
