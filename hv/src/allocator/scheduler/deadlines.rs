//! When blocked vCPUs wake by themselves: one binary heap for each CPU, which programs its timer
//! for the earliest deadline of its own.

use heapless::Vec;

use super::slots::{PerVcpu, SLOTS, Slot};
use crate::types::{CpuId, MAX_CPUS, Ticks};

/// A vCPU's deadline: when, and where it stands in which heap.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Ticks,
    cpu: CpuId,
    position: usize,
}

/// At most one deadline for each vCPU.
#[derive(Debug)]
pub(super) struct Deadlines {
    heaps: [Vec<Slot, SLOTS>; MAX_CPUS],
    of: PerVcpu<Option<Deadline>>,
}

impl Deadlines {
    pub(super) const fn new() -> Self {
        Deadlines { heaps: [const { Vec::new() }; MAX_CPUS], of: PerVcpu::filled(None) }
    }

    /// A vCPU's deadline.
    pub(super) fn of(&self, slot: Slot) -> Option<Ticks> {
        self.of[slot].map(|deadline| deadline.at)
    }

    /// Sets a vCPU's deadline on a CPU; it must have none.
    pub(super) fn set(&mut self, cpu: CpuId, slot: Slot, at: Ticks) {
        debug_assert!(self.of[slot].is_none());
        let Some(heap) = self.heaps.get_mut(cpu.0) else { return };
        let position = heap.len();
        // There is room for every vCPU, and each is in at most one heap, once.
        if heap.push(slot).is_ok() {
            self.of[slot] = Some(Deadline { at, cpu, position });
            self.sift_up(cpu, position);
        }
    }

    /// Removes a vCPU's deadline, if it has one.
    pub(super) fn cancel(&mut self, slot: Slot) {
        let Some(Deadline { cpu, position, .. }) = self.of[slot].take() else { return };
        let Some(heap) = self.heaps.get_mut(cpu.0) else { return };
        let Some(last) = heap.pop() else { return };
        if let Some(vacated) = heap.get_mut(position) {
            *vacated = last;
            self.note_position(last, position);
            self.sift_down(cpu, position);
            self.sift_up(cpu, position);
        }
    }

    /// The earliest deadline on a CPU.
    pub(super) fn first(&self, cpu: CpuId) -> Option<Ticks> {
        self.at(cpu, 0)
    }

    /// Removes the earliest deadline on a CPU, if it has passed, and tells whose it was.
    pub(super) fn take_due(&mut self, cpu: CpuId, now: Ticks) -> Option<Slot> {
        if self.first(cpu)? > now {
            return None;
        }
        let slot = *self.heaps.get(cpu.0)?.first()?;
        self.cancel(slot);
        Some(slot)
    }

    fn at(&self, cpu: CpuId, position: usize) -> Option<Ticks> {
        let slot = *self.heaps.get(cpu.0)?.get(position)?;
        self.of[slot].map(|deadline| deadline.at)
    }

    fn note_position(&mut self, slot: Slot, position: usize) {
        if let Some(deadline) = &mut self.of[slot] {
            deadline.position = position;
        }
    }

    fn sift_up(&mut self, cpu: CpuId, mut child: usize) {
        while let Some(parent) = child.checked_sub(1).map(|above| above / 2)
            && self.swap_if_earlier(cpu, child, parent)
        {
            child = parent;
        }
    }

    fn sift_down(&mut self, cpu: CpuId, mut parent: usize) {
        loop {
            let (left, right) = (2 * parent + 1, 2 * parent + 2);
            let child = if self.earlier(cpu, right, left) { right } else { left };
            if !self.swap_if_earlier(cpu, child, parent) {
                return;
            }
            parent = child;
        }
    }

    /// Whether there is a deadline at `a`, and it comes before the one at `b`.
    fn earlier(&self, cpu: CpuId, a: usize, b: usize) -> bool {
        matches!((self.at(cpu, a), self.at(cpu, b)), (Some(a), Some(b)) if a < b)
    }

    /// Puts child and parent in order. Returns whether they changed places.
    fn swap_if_earlier(&mut self, cpu: CpuId, child: usize, parent: usize) -> bool {
        if !self.earlier(cpu, child, parent) {
            return false;
        }
        let Some(heap) = self.heaps.get_mut(cpu.0) else { return false };
        heap.swap(child, parent);
        let (lower, upper) = (heap[child], heap[parent]);
        self.note_position(lower, child);
        self.note_position(upper, parent);
        true
    }
}
