//! Which CPU a vCPU gets that wants to run.

use super::virtual_time::VirtualTime;
use super::{CpuSet, Place, Scheduler, Slice, Slot};
use crate::types::{CpuId, Ticks};

impl Scheduler {
    /// Has a vCPU run or wait for a CPU, if it may. Returns the CPUs to kick.
    #[inline]
    pub(super) fn go_on(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        let unit = &self.units[slot];
        if !unit.runnable() {
            return CpuSet::EMPTY;
        }
        let kick = match unit.place {
            Place::Aside => self.enqueue(slot, now),
            // It never left this CPU, which has nothing better to do.
            Place::On(cpu) if self.idle.contains(cpu) => {
                self.lift(slot);
                CpuSet::only(cpu)
            }
            // That CPU has not noticed that it was to stop, and never will know.
            Place::On(_) | Place::Queued | Place::Parked => CpuSet::EMPTY,
        };
        self.kicked.extend(kick);
        kick
    }

    fn enqueue(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        self.lift(slot);
        let unit = &mut self.units[slot];
        unit.go(Place::Queued, now);
        self.queue.insert(slot, unit.had, unit.affinity);
        self.call_for(slot, now)
    }

    /// Keeps what a vCPU that slept has had from lying farther behind the others on CPUs that it
    /// may use: what it did not want then is not owed to it now.
    #[inline]
    fn lift(&mut self, slot: Slot) {
        self.units[slot].had = self.near_the_clock(slot, self.units[slot].had, self.credit);
    }

    /// Who must look at the queue now that a vCPU has come into it: one idle CPU if there is one,
    /// or else the CPU of which it can take most, and every CPU that runs without a tick, so that
    /// its vCPU gives way at the end of its slice.
    #[inline]
    fn call_for(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        let unit = &self.units[slot];
        let idle = self.idle.without(self.kicked);
        let free = idle.and(unit.affinity);
        if !free.is_empty() {
            return if free.contains(unit.last) { CpuSet::only(unit.last) } else { free.lowest() };
        }
        let busy = self.online.without(self.idle).and(unit.affinity).without(self.kicked);
        let mut kick = self.make_room(busy);
        if kick.is_empty()
            && let Some((cpu, had)) = self.richest(busy, now)
            && self.takes_over(slot, had)
        {
            kick.insert(cpu);
        }
        // That one may choose another, and whom it gives up waits then.
        kick.extend(self.tickless().and(busy));
        kick
    }

    /// Who must look at the queue now that a CPU has chosen another than this vCPU.
    #[inline]
    pub(super) fn call_for_again(&mut self, slot: Slot, cpu: CpuId) -> CpuSet {
        let affinity = self.units[slot].affinity;
        let others = affinity.without(CpuSet::only(cpu)).without(self.kicked);
        let free = self.idle.and(others);
        if !free.is_empty() {
            return free.lowest();
        }
        let mut kick = self.make_room(others.without(self.idle));
        kick.extend(self.tickless().and(others));
        kick
    }

    /// If a CPU is idle for which nobody waits: has one of others give its vCPU away, which can go
    /// on there. Returns it, to be kicked.
    #[inline]
    fn make_room(&mut self, others: CpuSet) -> CpuSet {
        let idle = self.idle.without(self.kicked);
        if idle.is_empty() { CpuSet::EMPTY } else { self.displace_one(others, idle) }
    }

    #[cold]
    fn displace_one(&mut self, mut of: CpuSet, to: CpuSet) -> CpuSet {
        of.find(|&cpu| self.displace(cpu, to)).map_or(CpuSet::EMPTY, CpuSet::only)
    }

    /// CPUs whose vCPU may run without end.
    #[inline]
    fn tickless(&self) -> CpuSet {
        self.online.without(self.idle).without(self.ticking)
    }

    /// Has a CPU's vCPU give way, if it can go on at one of others. Returns whether it can.
    pub(super) fn displace(&mut self, cpu: CpuId, others: CpuSet) -> bool {
        let state = &mut self.cpus[cpu];
        let affinity = state.current.map(|slot| self.units[slot].affinity);
        let movable = affinity.is_some_and(|affinity| !affinity.and(others).is_empty());
        if movable {
            state.slice = Slice::Displaced;
        }
        movable
    }

    /// For a CPU that has nothing to do: has another CPU, for which somebody waits who cannot run
    /// here, give its vCPU away, which can. Returns that CPU, to be kicked.
    #[cold]
    pub(super) fn pull(&mut self, cpu: CpuId) -> CpuSet {
        let here = CpuSet::only(cpu);
        let busy = self.online.without(self.idle).without(self.kicked).without(here);
        let gives = |&other: &CpuId| self.queue.has_pinned(other) && self.displace(other, here);
        { busy }.find(gives).map_or(CpuSet::EMPTY, CpuSet::only)
    }

    /// The CPU whose vCPU has had most by now, and how much that is.
    #[inline]
    fn richest(&self, cpus: CpuSet, now: Ticks) -> Option<(CpuId, VirtualTime)> {
        let had = |cpu: CpuId| {
            let state = &self.cpus[cpu];
            let slot = state.current?;
            Some((cpu, self.units[slot].had.plus(self.charge_of(slot, state.charged, now))))
        };
        let richer = |one: (CpuId, VirtualTime), other: (CpuId, VirtualTime)| {
            if one.1.max(other.1) == one.1 { one } else { other }
        };
        cpus.filter_map(had).reduce(richer)
    }
}
