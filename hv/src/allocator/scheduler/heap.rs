//! A binary heap of vCPUs from whose middle any can be taken. It holds places only: what they are
//! ordered by is in a table of the caller's, which several heaps may share.

use super::slots::{PerVcpu, SLOTS, Slot};

/// What a heap is ordered by.
pub(super) trait Order: Copy {
    /// Whether this comes first.
    fn before(self, other: Self) -> bool;
}

/// The caller knows who is in it: nobody is inserted twice, only members are removed, and a
/// member's key does not change.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Heap {
    count: usize,
    members: [Slot; SLOTS],
    /// Where each member stands in `members`.
    positions: PerVcpu<u16>,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Heap { members: [Slot::FIRST; SLOTS], count: 0, positions: PerVcpu::filled(0) }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The member that comes before all others.
    #[inline]
    pub(super) fn first(&self) -> Option<Slot> {
        (self.count != 0).then(|| self.at(0))
    }

    #[inline(always)]
    pub(super) fn insert<K: Order>(&mut self, slot: Slot, keys: &PerVcpu<K>) {
        let hole = self.count;
        // There is room for every vCPU, and each is in here once.
        debug_assert!(hole < SLOTS);
        self.count = hole.wrapping_add(1);
        match hole {
            0 => self.put(0, slot),
            _ => self.rise(hole, slot, keys),
        }
    }

    /// Inserts a vCPU in place of the first member.
    #[inline]
    pub(super) fn replace_first<K: Order>(&mut self, slot: Slot, keys: &PerVcpu<K>) {
        debug_assert!(!self.is_empty());
        let hole = self.sink(0, slot, keys);
        self.put(hole, slot);
    }

    #[inline(always)]
    pub(super) fn remove<K: Order>(&mut self, slot: Slot, keys: &PerVcpu<K>) {
        let hole = usize::from(self.positions[slot]);
        debug_assert!(hole < self.count && self.at(hole) == slot, "removes a stranger");
        self.count = self.count.wrapping_sub(1);
        if hole < self.count {
            self.fill(hole, keys);
        }
    }

    /// Fills a hole with the last member.
    #[inline(never)]
    fn fill<K: Order>(&mut self, hole: usize, keys: &PerVcpu<K>) {
        let last = self.at(self.count);
        let hole = self.sink(hole, last, keys);
        self.rise(hole, last, keys);
    }

    #[inline(always)]
    fn at(&self, position: usize) -> Slot {
        // The remainder changes nothing; it lets the compiler see that the index is in range.
        self.members[position % SLOTS]
    }

    #[inline(always)]
    fn put(&mut self, position: usize, slot: Slot) {
        self.members[position % SLOTS] = slot;
        self.positions[slot] = position as u16;
    }

    /// Moves a hole up to where `slot` belongs, and fills it.
    #[inline(never)]
    fn rise<K: Order>(&mut self, mut hole: usize, slot: Slot, keys: &PerVcpu<K>) {
        while hole > 0 {
            let above = (hole - 1) / 2;
            let parent = self.at(above);
            if !keys[slot].before(keys[parent]) {
                break;
            }
            self.put(hole, parent);
            hole = above;
        }
        self.put(hole, slot);
    }

    /// Moves a hole down past all that come before `slot`. Returns where it is then.
    #[inline]
    fn sink<K: Order>(&mut self, mut hole: usize, slot: Slot, keys: &PerVcpu<K>) -> usize {
        loop {
            let mut below = 2 * hole + 1;
            if below >= self.count {
                return hole;
            }
            let right = below + 1;
            if right < self.count && keys[self.at(right)].before(keys[self.at(below)]) {
                below = right;
            }
            let child = self.at(below);
            if !keys[child].before(keys[slot]) {
                return hole;
            }
            self.put(hole, child);
            hole = below;
        }
    }
}
