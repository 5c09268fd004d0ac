//! Which CPU a vCPU gets that wants to run.

use super::heap::Order;
use super::virtual_time::VirtualTime;
use super::{CpuSet, Place, Scheduler, Slice, Slot};
use crate::types::{CpuId, Ticks};

impl Scheduler {
    /// Has a vCPU run or wait for a CPU, if it may. Returns the CPUs to kick.
    #[inline(always)]
    pub(super) fn go_on(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        let unit = &self.units[slot];
        if !unit.runnable() {
            return CpuSet::EMPTY;
        }
        match unit.place {
            Place::Aside => self.enqueue(slot, now),
            // It never left this CPU, which may have nothing better to do.
            Place::On(cpu) => {
                self.units[slot].book(now);
                if self.idle.contains(cpu) {
                    self.lift(slot);
                }
                self.kicked.insert(cpu);
                CpuSet::only(cpu)
            }
            Place::Queued | Place::Parked => CpuSet::EMPTY,
        }
    }

    #[inline(always)]
    fn enqueue(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        self.lift(slot);
        let unit = &mut self.units[slot];
        unit.wait(Place::Queued, now);
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
    /// or else the CPU whose vCPU has had most, if that is more, which ends its slice; and every CPU
    /// that runs without a tick, so that its vCPU gives way at the end of its slice.
    #[inline(always)]
    fn call_for(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        let unit = &self.units[slot];
        let (affinity, last) = (unit.affinity.without(self.kicked), unit.last);
        let free = self.idle.and(affinity);
        if !free.is_empty() {
            let one = if free.contains(last) { CpuSet::only(last) } else { free.lowest() };
            self.kicked.extend(one);
            return one;
        }
        let busy = self.online.without(self.idle).and(affinity);
        let mut kick = self.make_room(busy);
        if kick.is_empty()
            && let Some((cpu, had)) = self.richest(busy, now)
            && self.units[slot].had.before(had)
        {
            self.cpus[cpu].slice = Slice::Until(now);
            kick.insert(cpu);
        }
        self.kicked.extend(kick);
        // That one may choose another, and whom it gives up waits then.
        kick.extend(self.begin_to_tick(busy));
        kick
    }

    /// Who must look at the queue now that a CPU has chosen another than this vCPU.
    #[inline(always)]
    pub(super) fn call_for_again(&mut self, slot: Slot, cpu: CpuId) -> CpuSet {
        let others = self.online.without(self.kicked).without(CpuSet::only(cpu));
        if others.is_empty() { CpuSet::EMPTY } else { self.call_others(slot, others) }
    }

    #[inline(never)]
    fn call_others(&mut self, slot: Slot, others: CpuSet) -> CpuSet {
        let others = self.units[slot].affinity.and(others);
        let free = self.idle.and(others);
        if !free.is_empty() {
            self.kicked.extend(free.lowest());
            return free.lowest();
        }
        let busy = others.without(self.idle);
        let mut kick = self.make_room(busy);
        self.kicked.extend(kick);
        kick.extend(self.begin_to_tick(busy));
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
    #[inline(never)]
    fn displace_one(&mut self, mut of: CpuSet, to: CpuSet) -> CpuSet {
        of.find(|&cpu| self.displace(cpu, to)).map_or(CpuSet::EMPTY, CpuSet::only)
    }

    /// Ends the slices of those of these CPUs, which are busy, whose vCPU might run without end.
    /// Returns them, to be kicked.
    #[inline]
    fn begin_to_tick(&mut self, busy: CpuSet) -> CpuSet {
        let tickless = busy.without(self.ticking);
        self.ticking.extend(tickless);
        tickless
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
    #[inline(never)]
    pub(super) fn pull(&mut self, cpu: CpuId) -> CpuSet {
        let here = CpuSet::only(cpu);
        let busy = self.online.without(self.idle).without(self.kicked).without(here);
        let gives = |&other: &CpuId| self.queue.has_pinned(other) && self.displace(other, here);
        let one = { busy }.find(gives).map_or(CpuSet::EMPTY, CpuSet::only);
        self.kicked.extend(one);
        one
    }

    /// The CPU whose vCPU has had most by now, and how much that is.
    #[inline]
    fn richest(&self, cpus: CpuSet, now: Ticks) -> Option<(CpuId, VirtualTime)> {
        let mut richest: Option<(CpuId, VirtualTime)> = None;
        for cpu in cpus {
            let state = &self.cpus[cpu];
            let Some(slot) = state.current else { continue };
            let had = self.units[slot].had.plus(self.charge_of(slot, state.charged, now));
            if richest.is_none_or(|(_, most)| most.before(had)) {
                richest = Some((cpu, had));
            }
        }
        richest
    }
}
