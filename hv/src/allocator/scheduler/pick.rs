//! What a CPU runs, until when, and what it costs.

use super::heap::Order;
use super::virtual_time::{Span, VirtualTime};
use super::{CpuSet, Place, Scheduler, Slice, Slot, Unit};
use crate::types::{CpuId, Ticks, VcpuKey};

/// What a CPU should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The vCPU to run, or `None` to wait for an interrupt.
    pub run: Option<VcpuKey>,
    /// When this CPU must look again: its slice ends or a deadline passes; or [`Ticks::NEVER`].
    pub preempt_at: Ticks,
    /// Other CPUs that have to pick too.
    pub kick: CpuSet,
}

impl Scheduler {
    /// Decides what this CPU runs now. The vCPU that it ran so far leaves it if it may not go on
    /// there, or if another one is to have its turn.
    #[inline(always)]
    pub fn pick(&mut self, cpu: CpuId, now: Ticks) -> Decision {
        // The compiler knows where the one scheduler is, and would compute the address of each
        // field anew: that costs more than what is done with them.
        core::hint::black_box(self).decide(cpu, now)
    }

    #[inline(always)]
    fn decide(&mut self, cpu: CpuId, now: Ticks) -> Decision {
        self.kicked.remove(cpu);
        let next = self.next(cpu, now);
        match self.cpus[cpu].current {
            Some(slot) if self.units[slot].runnable() => self.contend(cpu, slot, next, now),
            // It stays in the registers of an idle CPU.
            Some(slot) if next.is_none() && self.may_sleep_on(cpu, slot) => self.rests(cpu),
            current => {
                if let Some(slot) = current {
                    self.units[slot].lie_aside(now);
                }
                self.turn_to(cpu, next, now)
            }
        }
    }

    /// A CPU's vCPU wants to go on, and perhaps another one to have its turn.
    #[inline(always)]
    fn contend(&mut self, cpu: CpuId, slot: Slot, next: Option<Slot>, now: Ticks) -> Decision {
        if self.idle.contains(cpu) {
            self.begin_slice(cpu, slot, now);
        } else {
            self.charge(cpu, slot, now);
        }
        if !self.units[slot].affinity.contains(cpu) || self.is_out_of_budget(slot, now) {
            return self.send_away(cpu, slot, next, now);
        }
        match next {
            Some(next) if self.gives_way(cpu, slot, next, now) => {
                self.exchange(cpu, slot, next, now);
                self.runs(cpu, next, Some(slot), now)
            }
            Some(next) => self.runs(cpu, slot, Some(next), now),
            None => {
                // A wish to yield is over when nobody takes it up.
                let slice = &mut self.cpus[cpu].slice;
                if !matches!(slice, Slice::Until(_)) {
                    *slice = Slice::Until(now);
                }
                self.runs(cpu, slot, None, now)
            }
        }
    }

    /// A CPU's vCPU wants to go on, and may not do so here, or not now.
    #[cold]
    #[inline(never)]
    fn send_away(&mut self, cpu: CpuId, slot: Slot, next: Option<Slot>, now: Ticks) -> Decision {
        if self.is_out_of_budget(slot, now) {
            self.park(cpu, slot, now);
            return self.turn_to(cpu, next, now);
        }
        let mut decision = self.turn_to(cpu, next, now);
        let Unit { affinity, had, .. } = self.units[slot];
        self.queue.insert(slot, had, affinity);
        self.units[slot].wait(Place::Queued, now);
        decision.kick.extend(self.call_for_again(slot, cpu));
        decision
    }

    /// Gives the CPU to a vCPU that waits for it, or to none.
    #[inline(always)]
    fn turn_to(&mut self, cpu: CpuId, next: Option<Slot>, now: Ticks) -> Decision {
        self.cpus[cpu].current = next;
        let Some(next) = next else { return self.rests(cpu) };
        self.queue.remove(next, self.units[next].affinity);
        self.settle_in(cpu, next, now);
        self.runs(cpu, next, None, now)
    }

    /// Gives the CPU to a vCPU that waits for it, and has the one that it ran wait.
    #[inline(always)]
    fn exchange(&mut self, cpu: CpuId, slot: Slot, next: Slot, now: Ticks) {
        let Unit { affinity, had, .. } = self.units[slot];
        let next_affinity = self.units[next].affinity;
        if affinity == CpuSet::ALL && next_affinity == CpuSet::ALL {
            self.queue.exchange_first(slot, had);
        } else {
            self.queue.remove(next, next_affinity);
            self.queue.insert(slot, had, affinity);
        }
        self.cpus[cpu].current = Some(next);
        self.settle_in(cpu, next, now);
        self.units[slot].wait(Place::Queued, now);
    }

    /// This CPU runs this vCPU from now on, and one waits that may have counted on this CPU: who
    /// else must look at the queue therefore.
    #[inline(always)]
    fn runs(&mut self, cpu: CpuId, slot: Slot, waits: Option<Slot>, now: Ticks) -> Decision {
        self.idle.remove(cpu);
        let ticks = self.someone_waits(cpu);
        self.ticking.set(cpu, ticks);
        let kick = waits.map_or(CpuSet::EMPTY, |waits| self.call_for_again(waits, cpu));
        let preempt_at = self.look_again_at(cpu, slot, ticks, now);
        Decision { run: Some(self.units[slot].key), preempt_at, kick }
    }

    /// This CPU has nothing to run from now on.
    #[inline(always)]
    fn rests(&mut self, cpu: CpuId) -> Decision {
        self.idle.insert(cpu);
        self.ticking.remove(cpu);
        let pull = self.queue.has_any_pinned();
        let kick = if pull { self.pull(cpu) } else { CpuSet::EMPTY };
        Decision { run: None, preempt_at: self.deadlines.first(cpu), kick }
    }

    /// When this CPU must pick again: its slice ends, or a vCPU that waits for a time on it is due;
    /// or [`Ticks::NEVER`].
    pub fn preempt_at(&self, cpu: CpuId, now: Ticks) -> Ticks {
        match self.cpus[cpu].current {
            Some(slot) if !self.idle.contains(cpu) => {
                self.look_again_at(cpu, slot, self.ticking.contains(cpu), now)
            }
            _ => self.deadlines.first(cpu),
        }
    }

    /// The same for a CPU that runs this vCPU, until the end of its slice if it `ticks`.
    #[inline(always)]
    fn look_again_at(&self, cpu: CpuId, slot: Slot, ticks: bool, now: Ticks) -> Ticks {
        let mut at = self.deadlines.first(cpu);
        if let Slice::Until(end) = self.cpus[cpu].slice
            && ticks
        {
            at = at.min(end);
        }
        if self.is_capped(slot) { self.budget_end(slot, now).min(at) } else { at }
    }

    /// When a vCPU that runs has to be looked at because of its domain's budget, of which its
    /// domain's other vCPUs may want their parts. Not all too often: what is used too much is owed.
    #[cold]
    #[inline(never)]
    fn budget_end(&self, slot: Slot, now: Ticks) -> Ticks {
        let share = &self.shares[slot];
        let left = share.budget.and_then(|mut budget| budget.left(now)).map_or(0, |left| left.0);
        let part = left / u64::from(share.runnable.max(1));
        Ticks(now.0.saturating_add(part.max(self.slice.0 / 8)))
    }

    /// A CPU was kicked. `None` if it must pick. Otherwise it was only told that somebody waits for
    /// the end of its slice, which it has from now on: it must look again then, or before.
    #[inline(always)]
    pub fn goes_on_until(&self, cpu: CpuId, now: Ticks) -> Option<Ticks> {
        if self.kicked.contains(cpu) {
            return None;
        }
        let state = &self.cpus[cpu];
        let slot = state.current.filter(|&slot| self.units[slot].runnable())?;
        let in_slice = matches!(state.slice, Slice::Until(end) if now < end);
        in_slice.then(|| self.look_again_at(cpu, slot, true, now))
    }

    /// Whether a vCPU that is on this CPU and not runnable may stay there while nobody else comes.
    #[inline(always)]
    fn may_sleep_on(&self, cpu: CpuId, slot: Slot) -> bool {
        let unit = &self.units[slot];
        !unit.paused && unit.affinity.contains(cpu)
    }

    /// Whether the current vCPU has to make room for one that waits. If not, its slice begins anew
    /// should it have ended.
    #[inline(always)]
    fn gives_way(&mut self, cpu: CpuId, slot: Slot, next: Slot, now: Ticks) -> bool {
        let (had, others) = (self.units[slot].had, self.units[next].had);
        match self.cpus[cpu].slice {
            Slice::Yielded => {
                self.units[slot].had = had.max(others.next());
                true
            }
            Slice::Displaced => true,
            Slice::Until(end) if now < end => false,
            Slice::Until(_) if others.before(had) => true,
            Slice::Until(_) => {
                self.cpus[cpu].slice = self.slice_from(now);
                false
            }
        }
    }

    /// Who waits for this CPU and is served next. Those whose domain has used up its budget are
    /// parked on the way.
    #[inline(always)]
    fn next(&mut self, cpu: CpuId, now: Ticks) -> Option<Slot> {
        loop {
            let slot = self.queue.first(cpu)?;
            if !self.is_out_of_budget(slot, now) {
                return Some(slot);
            }
            self.withdraw(slot);
            self.park(cpu, slot, now);
        }
    }

    #[inline(always)]
    fn is_out_of_budget(&mut self, slot: Slot, now: Ticks) -> bool {
        self.is_capped(slot) && self.has_spent_all(slot, now)
    }

    #[cold]
    #[inline(never)]
    fn has_spent_all(&mut self, slot: Slot, now: Ticks) -> bool {
        self.shares[slot].budget.as_mut().is_some_and(|budget| budget.left(now).is_none())
    }

    /// Has a vCPU, which is in no queue, wait for its domain's next income.
    #[cold]
    #[inline(never)]
    fn park(&mut self, cpu: CpuId, slot: Slot, now: Ticks) {
        self.units[slot].wait(Place::Parked, now);
        if let Some(budget) = &self.shares[slot].budget {
            self.deadlines.set(cpu, slot, budget.next_income());
        }
    }

    #[inline(always)]
    fn settle_in(&mut self, cpu: CpuId, slot: Slot, now: Ticks) {
        self.begin_slice(cpu, slot, now);
        self.units[slot].run(cpu, now);
    }

    /// The CPU's vCPU begins to run.
    #[inline(always)]
    fn begin_slice(&mut self, cpu: CpuId, slot: Slot, now: Ticks) {
        let had = self.units[slot].had;
        self.clock = self.clock.max(had);
        let slice = self.slice_from(now);
        let state = &mut self.cpus[cpu];
        (state.charged, state.slice) = (now, slice);
        state.clock = state.clock.max(had);
    }

    #[inline(always)]
    fn slice_from(&self, now: Ticks) -> Slice {
        Slice::Until(Ticks(now.0.saturating_add(self.slice.0)))
    }

    /// Charges the vCPU on this CPU for its time until now.
    #[inline(always)]
    pub(super) fn charge(&mut self, cpu: CpuId, slot: Slot, now: Ticks) {
        let since = core::mem::replace(&mut self.cpus[cpu].charged, now);
        let had = self.units[slot].had.plus(self.charge_of(slot, since, now));
        self.units[slot].had = self.near_the_clock(slot, had, self.arrears);
        if self.is_capped(slot) {
            self.spend(slot, Ticks(now.0.saturating_sub(since.0)));
        }
    }

    #[cold]
    #[inline(never)]
    fn spend(&mut self, slot: Slot, ran: Ticks) {
        if let Some(budget) = &mut self.shares[slot].budget {
            budget.spend(ran);
        }
    }

    /// What a vCPU that has run since then is to be charged.
    #[inline]
    pub(super) fn charge_of(&self, slot: Slot, since: Ticks, now: Ticks) -> Span {
        let ran = now.0.saturating_sub(since.0).min(self.chargeable.0);
        let share = &self.shares[slot];
        share.rate.charge(Ticks(ran), share.runnable)
    }

    /// What a vCPU has had, kept from lying farther behind the others on CPUs that it may use.
    #[inline]
    pub(super) fn near_the_clock(
        &self,
        slot: Slot,
        had: VirtualTime,
        farthest: Span,
    ) -> VirtualTime {
        had.near(self.clock_of(slot).minus(farthest), self.reach)
    }

    /// The most that a vCPU had had when it got one of the CPUs that this one may use.
    #[inline]
    pub(super) fn clock_of(&self, slot: Slot) -> VirtualTime {
        match self.units[slot].affinity {
            CpuSet::ALL => self.clock,
            some => self.clock_among(some),
        }
    }

    #[cold]
    #[inline(never)]
    fn clock_among(&self, cpus: CpuSet) -> VirtualTime {
        cpus.map(|cpu| self.cpus[cpu].clock).reduce(VirtualTime::max).unwrap_or(self.clock)
    }
}
