//! The run queue: who waits for a CPU, least virtual time first.
//!
//! A vCPU that may run anywhere waits in one queue that all CPUs share: so they are fair among
//! each other without moving anything. One that is pinned waits in a queue of each CPU that it may
//! run on.

use super::cpu_set::CpuSet;
use super::heap::{Heap, Order};
use super::slots::{PerVcpu, Slot};
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
pub(super) struct RunQueue {
    /// What each vCPU has had, whether it waits or not.
    pub(super) had: PerVcpu<VirtualTime>,
    turns: PerVcpu<Turn>,
    arrivals: u64,
    anywhere: Heap,
    pinned: [Heap; MAX_CPUS],
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        RunQueue {
            had: PerVcpu::filled(VirtualTime::ZERO),
            turns: PerVcpu::filled(Turn { had: VirtualTime::ZERO, arrival: 0 }),
            arrivals: 0,
            anywhere: Heap::new(),
            pinned: [const { Heap::new() }; MAX_CPUS],
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
        self.pinned.get(cpu.0).is_some_and(|heap| !heap.is_empty())
    }

    /// Who is served next on this CPU.
    #[inline]
    pub(super) fn first(&self, cpu: CpuId) -> Option<Slot> {
        let pinned = self.pinned.get(cpu.0).and_then(Heap::first);
        match (self.anywhere.first(), pinned) {
            (Some(any), Some(pinned)) if self.turns[pinned].before(self.turns[any]) => Some(pinned),
            (None, pinned) => pinned,
            (any, _) => any,
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, slot: Slot, affinity: CpuSet) {
        self.turns[slot] = Turn { had: self.had[slot], arrival: self.arrivals };
        self.arrivals = self.arrivals.wrapping_add(1);
        if affinity == CpuSet::ALL {
            self.anywhere.insert(slot, &self.turns);
        } else {
            affinity.for_each(|cpu| self.pinned[cpu.0 % MAX_CPUS].insert(slot, &self.turns));
        }
    }

    /// `affinity` must be that with which it was inserted.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot, affinity: CpuSet) {
        if affinity == CpuSet::ALL {
            self.anywhere.remove(slot, &self.turns);
        } else {
            affinity.for_each(|cpu| self.pinned[cpu.0 % MAX_CPUS].remove(slot, &self.turns));
        }
    }
}
