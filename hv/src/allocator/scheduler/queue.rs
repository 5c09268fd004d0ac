//! The run queue: who waits for a CPU, least virtual time first.
//!
//! A vCPU that may run anywhere waits in one queue that all CPUs share: so they are fair among
//! each other without moving anything. One that is pinned waits in a queue of each CPU that it may
//! run on.

use super::cpu_set::CpuSet;
use super::heap::{Heap, Order};
use super::slots::{PerCpu, PerVcpu, Slot};
use super::virtual_time::VirtualTime;
use crate::types::{CpuId, MAX_CPUS};

/// When a vCPU that waits is served: who has had least first, and of those that have had the same,
/// who waits longest.
#[derive(Debug, Clone, Copy)]
struct Turn {
    had: VirtualTime,
    arrival: u64,
}

impl Order for Turn {
    #[inline]
    fn before(self, other: Self) -> bool {
        self.had.before(other.had) || self.had == other.had && self.arrival < other.arrival
    }
}

/// The caller knows who is in it: nobody is inserted twice, only members are removed.
#[derive(Debug)]
#[repr(C)]
pub(super) struct RunQueue {
    arrivals: u64,
    /// How many wait in queues of CPUs.
    pinned_members: usize,
    anywhere: Heap,
    turns: PerVcpu<Turn>,
    pinned: PerCpu<Heap>,
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        RunQueue {
            turns: PerVcpu::filled(Turn { had: VirtualTime::ZERO, arrival: 0 }),
            arrivals: 0,
            anywhere: Heap::new(),
            pinned: PerCpu([const { Heap::new() }; MAX_CPUS]),
            pinned_members: 0,
        }
    }

    /// Whether anybody waits who may run on this CPU.
    #[inline]
    pub(super) fn is_empty(&self, cpu: CpuId) -> bool {
        self.anywhere.is_empty() && !self.has_pinned(cpu)
    }

    /// Whether anybody waits who may run on this CPU but not on all.
    #[inline]
    pub(super) fn has_pinned(&self, cpu: CpuId) -> bool {
        self.pinned_members != 0 && self.is_waited_for(cpu)
    }

    #[cold]
    #[inline(never)]
    fn is_waited_for(&self, cpu: CpuId) -> bool {
        !self.pinned[cpu].is_empty()
    }

    /// Whether anybody waits who may not run on all CPUs.
    #[inline]
    pub(super) fn has_any_pinned(&self) -> bool {
        self.pinned_members != 0
    }

    /// Who is served next on this CPU.
    #[inline]
    pub(super) fn first(&self, cpu: CpuId) -> Option<Slot> {
        let any = self.anywhere.first();
        if self.pinned_members == 0 { any } else { self.first_of_both(any, cpu) }
    }

    #[cold]
    #[inline(never)]
    fn first_of_both(&self, any: Option<Slot>, cpu: CpuId) -> Option<Slot> {
        match (any, self.pinned[cpu].first()) {
            (Some(any), Some(pinned)) if self.turns[pinned].before(self.turns[any]) => Some(pinned),
            (None, pinned) => pinned,
            (any, _) => any,
        }
    }

    /// Inserts a vCPU that has had so much.
    #[inline(always)]
    pub(super) fn insert(&mut self, slot: Slot, had: VirtualTime, affinity: CpuSet) {
        self.take_turn(slot, had);
        if affinity == CpuSet::ALL {
            self.anywhere.insert(slot, &self.turns);
        } else {
            self.insert_pinned(slot, affinity);
        }
    }

    #[cold]
    #[inline(never)]
    fn insert_pinned(&mut self, slot: Slot, affinity: CpuSet) {
        self.pinned_members += 1;
        affinity.for_each(|cpu| self.pinned[cpu].insert(slot, &self.turns));
    }

    /// `affinity` must be that with which it was inserted.
    #[inline(always)]
    pub(super) fn remove(&mut self, slot: Slot, affinity: CpuSet) {
        if affinity == CpuSet::ALL {
            self.anywhere.remove(slot, &self.turns);
        } else {
            self.remove_pinned(slot, affinity);
        }
    }

    #[cold]
    #[inline(never)]
    fn remove_pinned(&mut self, slot: Slot, affinity: CpuSet) {
        self.pinned_members -= 1;
        affinity.for_each(|cpu| self.pinned[cpu].remove(slot, &self.turns));
    }

    /// Removes the vCPU that is the first of those that may run anywhere, and inserts another that
    /// may.
    #[inline]
    pub(super) fn exchange_first(&mut self, slot: Slot, had: VirtualTime) {
        self.take_turn(slot, had);
        self.anywhere.replace_first(slot, &self.turns);
    }

    #[inline]
    fn take_turn(&mut self, slot: Slot, had: VirtualTime) {
        self.turns[slot] = Turn { had, arrival: self.arrivals };
        self.arrivals = self.arrivals.wrapping_add(1);
    }
}
