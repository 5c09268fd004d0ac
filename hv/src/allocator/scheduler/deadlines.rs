//! When vCPUs go on by themselves: one heap for each CPU, which programs its timer for the
//! earliest deadline of its own.

use super::heap::{Heap, Order};
use super::slots::{PerCpu, PerVcpu, Slot};
use crate::types::{CpuId, MAX_CPUS, Ticks};

impl Order for Ticks {
    #[inline]
    fn before(self, other: Self) -> bool {
        self < other
    }
}

/// At most one deadline for each vCPU.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Deadlines {
    /// The earliest on each CPU, or [`Ticks::NEVER`].
    first: PerCpu<Ticks>,
    heaps: PerCpu<Heap>,
    at: PerVcpu<Ticks>,
    /// In whose heap a vCPU is.
    cpu: PerVcpu<Option<CpuId>>,
}

impl Deadlines {
    pub(super) const fn new() -> Self {
        Deadlines {
            first: PerCpu([Ticks::NEVER; MAX_CPUS]),
            heaps: PerCpu([const { Heap::new() }; MAX_CPUS]),
            at: PerVcpu::filled(Ticks(0)),
            cpu: PerVcpu::filled(None),
        }
    }

    /// A vCPU's deadline.
    #[inline]
    pub(super) fn of(&self, slot: Slot) -> Option<Ticks> {
        self.cpu[slot].map(|_| self.at[slot])
    }

    /// Sets a vCPU's deadline on a CPU; it must have none.
    pub(super) fn set(&mut self, cpu: CpuId, slot: Slot, at: Ticks) {
        debug_assert!(self.of(slot).is_none());
        self.at[slot] = at;
        self.cpu[slot] = Some(cpu);
        self.heaps[cpu].insert(slot, &self.at);
        self.note_first(cpu);
    }

    /// Removes a vCPU's deadline, if it has one.
    #[inline]
    pub(super) fn cancel(&mut self, slot: Slot) {
        if let Some(cpu) = self.cpu[slot] {
            self.remove(cpu, slot);
        }
    }

    #[inline(never)]
    fn remove(&mut self, cpu: CpuId, slot: Slot) {
        self.cpu[slot] = None;
        self.heaps[cpu].remove(slot, &self.at);
        self.note_first(cpu);
    }

    fn note_first(&mut self, cpu: CpuId) {
        self.first[cpu] = self.heaps[cpu].first().map_or(Ticks::NEVER, |slot| self.at[slot]);
    }

    /// The earliest deadline on a CPU, or [`Ticks::NEVER`].
    #[inline(always)]
    pub(super) fn first(&self, cpu: CpuId) -> Ticks {
        self.first[cpu]
    }

    /// Removes the earliest deadline on a CPU, if it has passed, and tells whose it was.
    pub(super) fn take_due(&mut self, cpu: CpuId, now: Ticks) -> Option<Slot> {
        let slot = self.heaps[cpu].first()?;
        if self.at[slot] > now {
            return None;
        }
        self.cancel(slot);
        Some(slot)
    }
}
