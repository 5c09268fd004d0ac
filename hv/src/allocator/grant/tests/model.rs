//! Random operations by three domains, honest and not, against a model, with the invariants that
//! matter checked on the machine after each step: holds, marks, leaves.

use std::collections::BTreeMap;

use abi::DomId;
use abi::grant::{EntryFlags, Status};
use proptest::prelude::*;

use super::world::{RAM, WINDOW, World};
use crate::allocator::grant::Access;
use crate::allocator::stage2::{Leaf, LeafKind};
use crate::types::Mfn;

/// References in play: 8 to 8 + REFS.
const REFS: u32 = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Writes an entry, in use or not.
    Grant {
        by: usize,
        reference: u32,
        to: usize,
        gfn: u64,
        access: Access,
    },
    Map {
        by: usize,
        of: usize,
        reference: u32,
        access: Access,
        place: u64,
    },
    Unmap {
        by: usize,
        nth: usize,
    },
    Guess {
        by: usize,
        handle: u32,
        place: u64,
    },
    /// Gives a frame of RAM up, granted or not.
    Surrender {
        by: usize,
        gfn: u64,
    },
    Destroy {
        which: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let domain = || 0..3usize;
    let reference = || 8..8 + REFS;
    let access = || prop_oneof![Just(Access::Read), Just(Access::Write)];
    prop_oneof![
        6 => (domain(), reference(), domain(), 0..RAM + 1, access()).prop_map(
            |(by, reference, to, gfn, access)| Step::Grant { by, reference, to, gfn, access }
        ),
        12 => (domain(), domain(), reference(), access(), 0..6u64).prop_map(
            |(by, of, reference, access, place)| Step::Map { by, of, reference, access, place }
        ),
        6 => (domain(), 0..6usize).prop_map(|(by, nth)| Step::Unmap { by, nth }),
        1 => (domain(), 0..9u32, 0..6u64)
            .prop_map(|(by, handle, place)| Step::Guess { by, handle, place }),
        1 => (domain(), 0..RAM).prop_map(|(by, gfn)| Step::Surrender { by, gfn }),
        1 => domain().prop_map(|which| Step::Destroy { which }),
    ]
}

/// What an entry says.
#[derive(Debug, Clone, Copy)]
struct Said {
    to: DomId,
    gfn: u64,
    access: Access,
    /// It was rewritten while in use: its marks are the granter's own fault.
    rewritten: bool,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    mapper: DomId,
    granter: DomId,
    reference: u32,
    access: Access,
    gfn: u64,
    handle: u32,
    mfn: Mfn,
}

struct Checked {
    world: World,
    alive: [bool; 3],
    said: BTreeMap<(DomId, u32), Said>,
    live: Vec<Live>,
    /// RAM by owner; frames that were given up have no place.
    ram: BTreeMap<(DomId, u64), Mfn>,
}

impl Checked {
    fn new() -> Self {
        let world = World::new();
        let places = world.domains.into_iter().flat_map(|id| (0..RAM).map(move |gfn| (id, gfn)));
        let ram = places.map(|(id, gfn)| ((id, gfn), world.mfn(id, gfn))).collect();
        Checked { world, alive: [true; 3], said: BTreeMap::new(), live: Vec::new(), ram }
    }

    fn pins(&self, granter: DomId, reference: u32) -> impl Iterator<Item = &Live> {
        let same = move |live: &&Live| live.granter == granter && live.reference == reference;
        self.live.iter().filter(same)
    }

    /// The frame that mapping must give, or why it must fail.
    fn expected(
        &self,
        mapper: DomId,
        granter: DomId,
        reference: u32,
        access: Access,
    ) -> Result<Mfn, Status> {
        let said = self.said.get(&(granter, reference));
        let allowed = said.is_some_and(|said| {
            said.to == mapper && (access == Access::Read || said.access == Access::Write)
        });
        if let Some(first) = self.pins(granter, reference).next() {
            let held = access == Access::Read
                || self.pins(granter, reference).any(|live| live.access == Access::Write);
            let admitted = first.mapper == mapper && (held || allowed);
            return if admitted { Ok(first.mfn) } else { Err(Status::GeneralError) };
        }
        let said = said.filter(|_| allowed).ok_or(Status::GeneralError)?;
        self.ram.get(&(granter, said.gfn)).copied().ok_or(Status::BadPage)
    }

    fn map(&mut self, by: usize, of: usize, reference: u32, access: Access, gfn: u64) {
        let (mapper, granter) = (self.world.domains[by], self.world.domains[of]);
        let mut expected = self.expected(mapper, granter, reference, access);
        if expected.is_ok() && self.live.iter().any(|l| l.mapper == mapper && l.gfn == gfn) {
            expected = Err(Status::GeneralError);
        }
        if by == of || !self.alive[of] {
            expected = Err(Status::BadDomain);
        }
        let result = self.world.map(mapper, granter, reference, access, gfn);
        assert_eq!(result.map(|mapped| mapped.mfn), expected);
        if let Ok(mapped) = result {
            let (handle, mfn) = (mapped.handle, mapped.mfn);
            self.live.push(Live { mapper, granter, reference, access, gfn, handle, mfn });
        }
    }

    fn unmap(&mut self, by: usize, nth: usize) {
        let mapper = self.world.domains[by];
        let mut own = self.live.iter().enumerate().filter(|(_, live)| live.mapper == mapper);
        if let Some((index, &live)) = own.nth(nth) {
            assert_eq!(self.world.unmap(mapper, live.handle, live.gfn), Ok(()));
            self.live.remove(index);
        }
    }

    fn guess(&mut self, by: usize, handle: u32, gfn: u64) {
        let mapper = self.world.domains[by];
        let of = |live: &Live| live.mapper == mapper && live.handle == handle;
        let expected = match self.live.iter().position(of) {
            None => Err(Status::BadHandle),
            Some(index) if self.live[index].gfn != gfn => Err(Status::GeneralError),
            Some(index) => {
                self.live.remove(index);
                Ok(())
            }
        };
        assert_eq!(self.world.unmap(mapper, handle, gfn), expected);
    }

    fn grant(&mut self, by: usize, reference: u32, to: usize, gfn: u64, access: Access) {
        let (id, to) = (self.world.domains[by], self.world.domains[to]);
        let rewritten = self.pins(id, reference).next().is_some();
        self.world.grant(id, reference, to, gfn, access);
        self.said.insert((id, reference), Said { to, gfn, access, rewritten });
    }

    fn surrender(&mut self, by: usize, gfn: u64) {
        let id = self.world.domains[by];
        if self.ram.remove(&(id, gfn)).is_some() {
            let monitor = &mut self.world.monitor;
            let domain = monitor.domains.get_mut(id).unwrap();
            let leaf = domain.stage2.unmap(&mut monitor.frames, abi::Gfn(gfn)).unwrap().unwrap();
            monitor.frames.surrender(leaf.mfn);
        }
    }

    fn destroy(&mut self, which: usize) {
        let id = self.world.domains[which];
        self.world.destroy(id);
        self.alive[which] = false;
        self.live.retain(|live| live.mapper != id);
        self.ram.retain(|(owner, _), _| *owner != id);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Grant { by, reference, to, gfn, access } if self.alive[by] => {
                self.grant(by, reference, to, gfn, access)
            }
            Step::Map { by, of, reference, access, place } if self.alive[by] => {
                self.map(by, of, reference, access, WINDOW + place)
            }
            Step::Unmap { by, nth } if self.alive[by] => self.unmap(by, nth),
            Step::Guess { by, handle, place } if self.alive[by] => {
                self.guess(by, handle, WINDOW + place)
            }
            Step::Surrender { by, gfn } if self.alive[by] => self.surrender(by, gfn),
            Step::Destroy { which } if self.alive[which] => self.destroy(which),
            _ => {}
        }
    }

    fn check(&self) {
        self.check_holds();
        self.check_leaves();
        for (&(id, reference), said) in &self.said {
            let index = self.world.domains.iter().position(|&domain| domain == id);
            if index.is_some_and(|index| self.alive[index]) && !said.rewritten {
                let mut marks = EntryFlags::empty();
                marks.set(EntryFlags::READING, self.pins(id, reference).next().is_some());
                let writes = |live: &Live| live.access == Access::Write;
                marks.set(EntryFlags::WRITING, self.pins(id, reference).any(writes));
                let in_use = EntryFlags::READING | EntryFlags::WRITING;
                assert_eq!(self.world.flags(id, reference) & in_use, marks);
            }
        }
    }

    fn check_holds(&self) {
        let mut holds: BTreeMap<Mfn, u32> = self.ram.values().map(|&mfn| (mfn, 1)).collect();
        for live in &self.live {
            *holds.entry(live.mfn).or_default() += 1;
        }
        for (mfn, count) in holds {
            assert_eq!(self.world.monitor.frames.holds(mfn), count);
        }
    }

    fn check_leaves(&self) {
        for (id, place) in
            self.world.domains.into_iter().flat_map(|id| (0..6).map(move |place| (id, place)))
        {
            let gfn = WINDOW + place;
            let live = self.live.iter().find(|live| live.mapper == id && live.gfn == gfn);
            let leaf = live.map(|live| Leaf {
                mfn: live.mfn,
                kind: match live.access {
                    Access::Read => LeafKind::GrantReadOnly,
                    Access::Write => LeafKind::GrantWritable,
                },
            });
            assert_eq!(self.world.leaf(id, gfn), leaf);
        }
    }
}

proptest! {
    #[test]
    fn grants_match_the_model_and_no_frame_is_lost(
        steps in proptest::collection::vec(step(), 0..150)
    ) {
        let mut checked = Checked::new();
        for step in steps {
            checked.apply(step);
            checked.check();
        }
        checked.world.check_nothing_leaked();
    }
}
