use std::collections::{BTreeMap, BTreeSet};

use abi::DomId;
use proptest::prelude::*;

use super::*;
use crate::allocator::testing;

impl FramePool {
    /// The frames that the pool may know.
    pub(crate) fn mfns(&self) -> core::ops::RangeInclusive<u64> {
        self.base..=self.highest().0
    }
}

const FRAMES: usize = 2600;
const OWNERS: [DomId; 3] = [DomId(0), DomId(1), DomId(9)];
const MAX_FRAMES: u64 = 700;

#[derive(Debug, Clone)]
enum Action {
    Allocate { owner: usize, kind: Kind, order: u8 },
    Contiguous { owner: usize, frames: u64 },
    Retain { pick: usize },
    Release { pick: usize },
    Surrender { pick: usize },
}

fn action() -> impl Strategy<Value = Action> {
    let kind = prop_oneof![Just(Kind::Ram), Just(Kind::Shared), Just(Kind::Private)];
    prop_oneof![
        4 => (0..OWNERS.len(), kind, 0..=MAX_ORDER)
            .prop_map(|(owner, kind, order)| Action::Allocate { owner, kind, order }),
        1 => (0..OWNERS.len(), 1..600u64)
            .prop_map(|(owner, frames)| Action::Contiguous { owner, frames }),
        3 => any::<usize>().prop_map(|pick| Action::Retain { pick }),
        6 => any::<usize>().prop_map(|pick| Action::Release { pick }),
        4 => any::<usize>().prop_map(|pick| Action::Surrender { pick }),
    ]
}

/// What the test knows of a frame that somebody has.
#[derive(Debug, Clone, Copy)]
struct Known {
    frame: RamFrame,
    owner: DomId,
    kind: Kind,
    holds: u32,
}

/// The pool as it should be.
struct Model {
    pool: FramePool,
    known: BTreeMap<u64, Known>,
    initially_free: u64,
}

impl Model {
    fn new() -> Model {
        let mut pool = testing::pool(FRAMES);
        for owner in OWNERS {
            assert!(pool.open_account(owner, MAX_FRAMES));
        }
        let initially_free = pool.free();
        Model { pool, known: BTreeMap::new(), initially_free }
    }

    fn add(&mut self, first: RamFrame, frames: u64, owner: DomId, kind: Kind) {
        for mfn in first.mfn().0..first.mfn().0 + frames {
            let index = self.pool.index(Mfn(mfn)).unwrap();
            let frame = self.pool.frame(index);
            let known = Known { frame, owner, kind, holds: 1 };
            assert!(self.known.insert(mfn, known).is_none(), "a frame has two owners");
        }
    }

    fn pick(&self, pick: usize, accept: impl Fn(&Known) -> bool) -> Option<u64> {
        let candidates: Vec<_> =
            self.known.iter().filter(|(_, known)| accept(known)).map(|(&mfn, _)| mfn).collect();
        (!candidates.is_empty()).then(|| candidates[pick % candidates.len()])
    }

    fn drop_hold(&mut self, mfn: u64) {
        let known = self.known.get_mut(&mfn).unwrap();
        known.holds -= 1;
        if known.holds == 0 {
            self.known.remove(&mfn);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Allocate { owner, kind, order } => {
                if let Ok(frame) = self.pool.allocate(OWNERS[owner], kind, order) {
                    assert_eq!(frame.mfn().0 % (1 << order), 0, "unaligned block");
                    self.add(frame, 1 << order, OWNERS[owner], kind);
                    frame.u64(8).store(0xDEAD, core::sync::atomic::Ordering::Relaxed);
                }
            }
            Action::Contiguous { owner, frames } => {
                if let Ok(frame) = self.pool.allocate_contiguous(OWNERS[owner], frames) {
                    assert_eq!(frame.mfn().0 % (1 << MAX_ORDER), 0, "unaligned run");
                    self.add(frame, frames, OWNERS[owner], Kind::Ram);
                }
            }
            Action::Retain { pick } => {
                if let Some(mfn) = self.pick(pick, |_| true) {
                    let known = self.known.get_mut(&mfn).unwrap();
                    known.holds += 1;
                    self.pool.retain(known.frame);
                }
            }
            Action::Release { pick } => {
                // The owner ends its own hold on RAM by surrender.
                let others = |known: &Known| known.kind != Kind::Ram || known.holds > 1;
                if let Some(mfn) = self.pick(pick, others) {
                    self.pool.release(self.known[&mfn].frame);
                    self.drop_hold(mfn);
                }
            }
            Action::Surrender { pick } => {
                if let Some(mfn) = self.pick(pick, |known| known.kind == Kind::Ram) {
                    let known = self.known.get_mut(&mfn).unwrap();
                    known.kind = Kind::Orphan;
                    self.pool.surrender(known.frame.mfn());
                    self.drop_hold(mfn);
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.pool.free() + self.known.len() as u64, self.initially_free);
        for (&mfn, known) in &self.known {
            assert_eq!(self.pool.owner(Mfn(mfn)), Some(known.owner));
            assert_eq!(self.pool.kind(Mfn(mfn)), known.kind);
            assert_eq!(self.pool.holds(Mfn(mfn)), known.holds);
            assert_eq!(self.pool.ram(Mfn(mfn)).is_some(), known.kind != Kind::Private);
        }
        for owner in OWNERS {
            let account = self.pool.account(owner);
            let count = |wanted: fn(Kind) -> bool| {
                let all = self.known.values().filter(|k| k.owner == owner && wanted(k.kind));
                all.count() as u64
            };
            assert_eq!(account.frames, count(|kind| matches!(kind, Kind::Ram | Kind::Orphan)));
            assert_eq!(
                account.overhead,
                count(|kind| matches!(kind, Kind::Shared | Kind::Private))
            );
            assert!(account.frames <= MAX_FRAMES);
            assert!(account.overhead <= overhead_limit(MAX_FRAMES));
        }
        self.check_free_lists();
    }

    /// Every free frame is in exactly one free block, and no two buddies are apart.
    fn check_free_lists(&self) {
        let mut free = BTreeSet::new();
        for (index, entry) in self.pool.table.0.iter().enumerate() {
            if entry.kind != Kind::Free {
                continue;
            }
            let block = Index(u32::try_from(index).unwrap());
            for offset in 0..1 << entry.order {
                let frame = block.plus(offset);
                assert!(free.insert(frame.0), "two free blocks overlap");
                let inside = self.pool.table[frame].kind == Kind::FreeInside;
                assert!(offset == 0 || inside, "an owned frame is in a free block");
            }
            let buddy = self.pool.table.get(block.buddy(entry.order));
            let apart = buddy.is_some_and(|b| b.kind == Kind::Free && b.order == entry.order);
            assert!(entry.order == MAX_ORDER || !apart, "buddies were not merged");
        }
        assert_eq!(free.len() as u64, self.pool.free());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn frames_are_never_lost_nor_owned_twice(actions in prop::collection::vec(action(), 1..60)) {
        let mut model = Model::new();
        for action in actions {
            model.act(action);
            model.check();
        }
        for owner in OWNERS {
            let held: Vec<_> = model.known.values().copied().collect();
            for known in held.iter().filter(|known| known.owner == owner) {
                let own = u32::from(known.kind != Kind::Orphan);
                for _ in own..known.holds {
                    model.pool.release(known.frame);
                }
            }
            while model.pool.surrender_some(owner) {}
            model.pool.sweep_overhead(owner);
            model.pool.close_account(owner);
            prop_assert!(model.pool.account(owner).is_vacant());
        }
        prop_assert_eq!(model.pool.free(), model.initially_free);
        model.known.clear();
        model.check_free_lists();
    }
}

#[test]
fn what_is_handed_out_is_zero() {
    let mut pool = testing::pool(1200);
    assert!(pool.open_account(DomId(1), 1000));
    for _ in 0..2 {
        let frame = pool.allocate(DomId(1), Kind::Ram, 3).unwrap();
        let index = pool.index(frame.mfn()).unwrap();
        for offset in 0..8 {
            let mut bytes = [0xFF; abi::PAGE_SIZE];
            pool.frame(index.plus(offset)).read(0, &mut bytes);
            assert!(bytes.iter().all(|&byte| byte == 0));
            pool.frame(index.plus(offset)).write(0, &[0x5A; abi::PAGE_SIZE]);
        }
        pool.surrender_some(DomId(1));
    }
}

#[test]
fn a_domain_stays_within_its_budget() {
    let mut pool = testing::pool(3000);
    assert!(pool.open_account(DomId(1), 3));
    assert!(pool.allocate(DomId(1), Kind::Ram, 1).is_ok());
    assert_eq!(pool.allocate(DomId(1), Kind::Ram, 1), Err(OutOfFrames::OverBudget));
    assert!(pool.allocate(DomId(1), Kind::Ram, 0).is_ok());
    let kept = (0..1000).take_while(|_| pool.allocate(DomId(1), Kind::Private, 0).is_ok()).count();
    assert_eq!(kept as u64, overhead_limit(3));
    assert_eq!(pool.allocate(DomId(2), Kind::Ram, 0), Err(OutOfFrames::OverBudget));
}

#[test]
fn an_orphan_stays_charged_and_keeps_the_slot() {
    let mut pool = testing::pool(1200);
    assert!(pool.open_account(DomId(1), 10));
    let frame = pool.allocate(DomId(1), Kind::Ram, 0).unwrap();
    pool.retain(frame);
    pool.surrender(frame.mfn());
    pool.close_account(DomId(1));
    assert_eq!(pool.account(DomId(1)).frames, 1);
    let next = DomId(1 + MAX_DOMAINS as u16);
    assert!(!pool.open_account(next, 10), "the slot is taken until the frame is released");
    assert_eq!(pool.ram(frame.mfn()), Some(frame));
    pool.release(frame);
    assert_eq!(pool.ram(frame.mfn()), None);
    assert!(pool.open_account(next, 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the domain had, in whatever order, and whatever of it others still hold.
    #[test]
    fn all_ram_of_a_dead_domain_is_given_back(
        orders in prop::collection::vec(prop_oneof![Just(MAX_ORDER), Just(0), 0..=MAX_ORDER], 1..8),
        released in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        held in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut model = Model::new();
        let owner = OWNERS[1];
        for order in orders {
            model.act(Action::Allocate { owner: 1, kind: Kind::Ram, order });
        }
        let frames: Vec<u64> = model.known.keys().copied().collect();
        prop_assume!(!frames.is_empty());
        for index in held {
            let mfn = *index.get(&frames);
            model.pool.retain(model.known[&mfn].frame);
            model.known.get_mut(&mfn).unwrap().holds += 1;
        }
        for index in released {
            let mfn = *index.get(&frames);
            if model.known.get(&mfn).is_some_and(|known| known.holds == 1) {
                model.pool.surrender(Mfn(mfn));
                model.known.remove(&mfn);
            }
        }
        while model.pool.surrender_some(owner) {}
        model.known.retain(|_, known| {
            known.holds -= 1;
            known.kind = Kind::Orphan;
            known.holds > 0
        });
        model.check();
    }
}

#[test]
fn a_full_pool_says_so_and_charges_nothing() {
    let mut pool = testing::pool(600);
    assert!(pool.open_account(DomId(1), 10_000));
    let all = (0..1000).take_while(|_| pool.allocate(DomId(1), Kind::Ram, 0).is_ok()).count();
    assert_eq!(all as u64, pool.total());
    assert_eq!(pool.allocate(DomId(1), Kind::Ram, 0), Err(OutOfFrames::PoolEmpty));
    assert_eq!(pool.account(DomId(1)).frames, pool.total());
}

#[test]
fn frames_of_other_ranges_and_of_none_are_absent() {
    let mut first = testing::ram(1000).mfns();
    let end = first.end;
    first.end = end - 10;
    #[expect(unsafe_code, reason = "splits a range of the test's memory")]
    // SAFETY: both parts lie in the range that was just allocated.
    let [low, high] = unsafe {
        [RamRange::new(Mfn(first.start), Mfn(end - 10)), RamRange::new(Mfn(end - 5), Mfn(end))]
    };
    let mut pool = FramePool::empty();
    pool.fill(&mut [low, high]).unwrap();
    let table = pool.table.0.len().div_ceil(abi::PAGE_SIZE / size_of::<Entry>()) as u64;
    assert_eq!(pool.total(), 995 - table);
    assert_eq!(pool.kind(Mfn(end - 7)), Kind::Absent);
    assert_eq!(pool.kind(Mfn(end)), Kind::Absent);
    assert_eq!(pool.kind(Mfn(0)), Kind::Absent);
    assert_eq!(pool.kind(Mfn(u64::MAX)), Kind::Absent);
    #[expect(unsafe_code, reason = "the same")]
    // SAFETY: the same.
    let rest = unsafe { RamRange::new(Mfn(end - 10), Mfn(end - 3)) };
    pool.add(&rest);
    assert_eq!(pool.total(), 1000 - table, "only frames that were absent are added");
}
