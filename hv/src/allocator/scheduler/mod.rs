//! The scheduler: which vCPU runs on which CPU, and until when. docs/scheduler.md has the policy
//! and its figures.
//!
//! Each vCPU has a *virtual time*: how much CPU it has had, divided by what its domain's weight
//! entitles it to. Who has had least is served first. A vCPU that waits for a CPU is in a queue
//! that all CPUs share, or, if it is pinned, in those of the CPUs that it may use. So a CPU is idle
//! only while nobody waits who may run on it. A vCPU runs for a slice of [`SLICE_MILLISECONDS`]
//! when others wait, and without any tick when none does.
//!
//! This file owns who is where. [`queue`] owns the order in which vCPUs wait, [`share`] what a
//! domain may use, [`deadlines`] the times at which vCPUs go on by themselves, [`settings`] what
//! the toolstack sets and sees.
//!
//! What always holds:
//! - A vCPU is at one [`Place`]. It leaves a CPU only in that CPU's [`Scheduler::pick`]; the caller
//!   keeps the monitor's lock from `pick` until the vCPU's registers are saved, so no other CPU can
//!   run it with stale ones.
//! - A vCPU that is neither blocked nor paused is on a CPU, in the queue, or parked.
//! - A blocked vCPU stays on its CPU, which is idle, until that CPU has something else to run: its
//!   registers need not move if it wakes before.
//! - A vCPU has a deadline only while it is blocked or parked.
//! - While a vCPU waits, each CPU that it may use runs another until the end of a slice, or has
//!   been kicked (named in a [`CpuSet`]) since it last picked.

mod cpu_set;
mod deadlines;
mod heap;
mod queue;
mod settings;
mod share;
mod slots;
#[cfg(test)]
mod tests;
mod unit;
mod virtual_time;

use abi::{DomId, VcpuId};

pub use cpu_set::CpuSet;
pub use settings::VcpuPlace;
pub use share::Parameters;

use super::vcpu::RunTimes;
use crate::types::{CpuId, MAX_CPUS, Ticks, VcpuKey};
use deadlines::Deadlines;
use heap::Order;
use queue::RunQueue;
use share::Share;
use slots::{PerDomain, PerVcpu, Slot};
use unit::{Place, Unit};
use virtual_time::{Span, VirtualTime};

/// How long a vCPU may run while others wait, in milliseconds.
pub const SLICE_MILLISECONDS: u64 = 5;

/// When a vCPU gives its CPU to another that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slice {
    /// Then, if the other has had less; before, if it has had much less.
    Until(Ticks),
    /// Now: it wants to.
    Yielded,
    /// Now: it can go on elsewhere, and the other cannot.
    Displaced,
}

/// One physical CPU.
#[derive(Debug, Clone, Copy)]
struct Cpu {
    current: Option<Slot>,
    /// Until when the current vCPU was charged for its time.
    charged: Ticks,
    slice: Slice,
    /// The most that a vCPU had had when this CPU picked it.
    clock: VirtualTime,
}

/// What a CPU should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The vCPU to run, or `None` to wait for an interrupt.
    pub run: Option<VcpuKey>,
    /// When this CPU must look again: its slice ends or a deadline passes.
    pub preempt_at: Option<Ticks>,
    /// Other CPUs that have to pick too.
    pub kick: CpuSet,
}

/// All vCPUs and CPUs.
#[derive(Debug)]
pub struct Scheduler {
    units: PerVcpu<Option<Unit>>,
    shares: PerDomain<Share>,
    queue: RunQueue,
    deadlines: Deadlines,
    cpus: [Cpu; MAX_CPUS],
    /// The latest of the CPUs' clocks.
    clock: VirtualTime,
    online: CpuSet,
    idle: CpuSet,
    /// CPUs that were told to pick and have not done so yet.
    kicked: CpuSet,
    /// CPUs that will pick by themselves at the end of a slice.
    ticking: CpuSet,
    slice: Ticks,
    /// By how much a vCPU that wakes must have had less than one that runs, to take its CPU.
    advantage: Span,
    /// By how much a vCPU that slept may have had less than those that did not.
    credit: Span,
    /// By how much one that did not may: that happens where it has a CPU for itself and could not
    /// use its share if it tried, and, for a moment, beside domains of very little weight.
    arrears: Span,
}

impl Scheduler {
    /// No CPU and no vCPU.
    pub const fn new() -> Self {
        let cpu = Cpu {
            current: None,
            charged: Ticks(0),
            slice: Slice::Until(Ticks(0)),
            clock: VirtualTime::ZERO,
        };
        Scheduler {
            units: PerVcpu::filled(None),
            shares: PerDomain::filled(Share::DEFAULT),
            queue: RunQueue::new(),
            deadlines: Deadlines::new(),
            cpus: [cpu; MAX_CPUS],
            clock: VirtualTime::ZERO,
            online: CpuSet::EMPTY,
            idle: CpuSet::EMPTY,
            kicked: CpuSet::EMPTY,
            ticking: CpuSet::EMPTY,
            slice: Ticks(0),
            advantage: Span::ZERO,
            credit: Span::ZERO,
            arrears: Span::ZERO,
        }
    }

    /// A CPU begins to take part; `slice` is the length of a time slice in ticks, the same for all.
    pub fn start_cpu(&mut self, cpu: CpuId, slice: Ticks) {
        self.slice = slice;
        self.advantage = Span::of(Ticks(slice.0 / 8));
        self.credit = Span::of(Ticks(slice.0.saturating_mul(2)));
        self.arrears = Span::of(Ticks(slice.0.saturating_mul(64)));
        if !self.online.contains(cpu) {
            self.online.insert(cpu);
            self.idle.insert(cpu);
        }
    }

    /// The CPUs that take part.
    pub fn online(&self) -> CpuSet {
        self.online
    }

    /// Takes in a new domain, whose vCPUs are offline.
    pub fn add_domain(&mut self, domain: DomId, vcpus: u32, now: Ticks) {
        for (slot, vcpu) in Slot::all_of(domain).zip(0..vcpus) {
            debug_assert!(self.units[slot].is_none(), "{domain} takes the place of another");
            self.shares[slot] = Share::DEFAULT;
            self.units[slot] = Some(Unit::new(VcpuKey { domain, vcpu: VcpuId(vcpu) }, now));
        }
    }

    /// Begins to schedule a vCPU that is offline. It is blocked: [`Scheduler::wake`] starts it.
    /// `Err` names the CPU on which it still is, with registers of its former life.
    pub fn start(&mut self, key: VcpuKey, now: Ticks) -> Result<(), CpuId> {
        if let Some(cpu) = self.running_on(key) {
            return Err(cpu);
        }
        self.block(key, None, now);
        // Nobody to kick: it is blocked.
        let _ = self.unpause(key, now);
        Ok(())
    }

    /// Forgets a vCPU. `Err` names the CPU on which it still is: it will not run again; kick that
    /// CPU and retry once it has picked.
    pub fn remove(&mut self, key: VcpuKey, now: Ticks) -> Result<(), CpuId> {
        if let Some(cpu) = self.pause(key, now) {
            return Err(cpu);
        }
        if let Some(slot) = self.find(key) {
            self.deadlines.cancel(slot);
            self.units[slot] = None;
        }
        Ok(())
    }

    /// Ends a vCPU's block, or its wait for its domain's income if that time has come. Returns the
    /// CPUs to kick.
    #[inline]
    pub fn wake(&mut self, key: VcpuKey, now: Ticks) -> CpuSet {
        match self.unit(key) {
            Some((slot, unit)) if unit.blocked => self.unblock(slot, now),
            Some((slot, unit))
                if unit.place == Place::Parked && self.deadlines.of(slot).is_none() =>
            {
                self.update(slot, now, |unit| unit.place = Place::Aside);
                self.go_on(slot, now)
            }
            _ => CpuSet::EMPTY,
        }
    }

    /// Blocks a vCPU until it is woken, or until the deadline `until` has passed. The CPU that it
    /// is on must pick; CPU 0 if it is on none, and has a deadline.
    #[inline]
    pub fn block(&mut self, key: VcpuKey, until: Option<Ticks>, now: Ticks) {
        let Some((slot, unit)) = self.unit(key) else { return };
        let cpu = match unit.place {
            Place::On(cpu) => cpu,
            Place::Queued | Place::Parked | Place::Aside => CpuId(0),
        };
        self.set_aside(slot, now, |unit| unit.blocked = true);
        self.deadlines.cancel(slot);
        if let Some(until) = until {
            self.deadlines.set(cpu, slot, until);
        }
    }

    /// Keeps a vCPU from running, blocked or not. Returns the CPU on which it still is, to kick.
    pub fn pause(&mut self, key: VcpuKey, now: Ticks) -> Option<CpuId> {
        let slot = self.find(key)?;
        self.set_aside(slot, now, |unit| unit.paused = true);
        self.running_on(key)
    }

    /// Undoes [`Scheduler::pause`]. Returns the CPUs to kick.
    pub fn unpause(&mut self, key: VcpuKey, now: Ticks) -> CpuSet {
        let Some(slot) = self.find(key) else { return CpuSet::EMPTY };
        self.update(slot, now, |unit| unit.paused = false);
        self.go_on(slot, now)
    }

    /// Whether a vCPU waits that may run on this CPU.
    #[inline]
    pub fn someone_waits(&self, cpu: CpuId) -> bool {
        !self.queue.is_empty(cpu)
    }

    /// Ends the slice of the vCPU on this CPU, in favour of whoever is next. The CPU must pick.
    #[inline]
    pub fn yield_slice(&mut self, cpu: CpuId) {
        if let Some(state) = self.cpus.get_mut(cpu.0) {
            state.slice = Slice::Yielded;
        }
    }

    /// Takes a vCPU whose deadline on this CPU has passed. It has no deadline any more but still
    /// waits for it: the caller must wake it. Call until `None`.
    #[must_use = "a vCPU that is not woken now may sleep for ever"]
    pub fn expired(&mut self, cpu: CpuId, now: Ticks) -> Option<VcpuKey> {
        let slot = self.deadlines.take_due(cpu, now)?;
        self.units[slot].map(|unit| unit.key)
    }

    /// Decides what this CPU runs now. The vCPU that it ran so far leaves it if it may not go on
    /// there, or if another one is to have its turn.
    pub fn pick(&mut self, cpu: CpuId, now: Ticks) -> Decision {
        self.kicked.remove(cpu);
        if self.idle.contains(cpu) {
            self.begin_slice(cpu, now);
        } else {
            self.charge(cpu, now);
        }
        let next = self.next(cpu, now);
        let dropped = self.drop_current(cpu, next, now);
        // Who waits now, or still, although it may have counted on this CPU.
        let left = match (self.current(cpu), next) {
            (None, Some(next)) => {
                self.run(cpu, next, now);
                dropped
            }
            (None, None) => dropped,
            (Some(_), next) => next,
        };
        if let Some(slot) = dropped {
            self.enqueue(slot, now);
        }
        let unit = self.current(cpu).and_then(|slot| self.units[slot].as_ref());
        let run = unit.filter(|unit| unit.runnable()).map(|unit| unit.key);
        self.idle.set(cpu, run.is_none());
        self.ticking.set(cpu, run.is_some() && self.someone_waits(cpu));
        let mut kick = left.map_or(CpuSet::EMPTY, |slot| self.call_for_again(slot, cpu));
        if run.is_none() {
            kick.extend(self.pull(cpu));
        }
        self.kicked.extend(kick);
        Decision { run, preempt_at: self.preempt_at(cpu, now), kick }
    }

    /// Has a blocked vCPU, which is about to leave this CPU, wake when `until` has passed. Returns
    /// when this CPU must look again.
    pub fn wake_at(&mut self, cpu: CpuId, key: VcpuKey, until: Ticks, now: Ticks) -> Option<Ticks> {
        if let Some((slot, unit)) = self.unit(key)
            && unit.blocked
        {
            let until = self.deadlines.of(slot).map_or(until, |deadline| deadline.min(until));
            self.deadlines.cancel(slot);
            self.deadlines.set(cpu, slot, until);
        }
        self.preempt_at(cpu, now)
    }

    /// The CPU on which a vCPU is.
    #[inline]
    pub fn running_on(&self, key: VcpuKey) -> Option<CpuId> {
        match self.unit(key)?.1.place {
            Place::On(cpu) => Some(cpu),
            Place::Queued | Place::Parked | Place::Aside => None,
        }
    }

    /// How a vCPU has spent its time.
    pub fn times(&self, key: VcpuKey) -> Option<&RunTimes> {
        self.unit(key).map(|(_, unit)| &unit.times)
    }

    fn find(&self, key: VcpuKey) -> Option<Slot> {
        self.unit(key).map(|(slot, _)| slot)
    }

    /// A slot is shared by domains whose numbers differ by a multiple of the table's size, of
    /// which one exists at a time: a stale key finds nothing.
    #[inline]
    fn unit(&self, key: VcpuKey) -> Option<(Slot, &Unit)> {
        let slot = Slot::of(key)?;
        self.units[slot].as_ref().filter(|unit| unit.key == key).map(|unit| (slot, unit))
    }

    /// Changes a vCPU's state, books its time, and counts it if it wants to run.
    #[inline]
    fn update(&mut self, slot: Slot, now: Ticks, change: impl FnOnce(&mut Unit)) {
        let Some(unit) = &mut self.units[slot] else { return };
        let wanted = unit.runnable();
        change(unit);
        let runnable = &mut self.shares[slot].runnable;
        *runnable = runnable.wrapping_add(unit.runnable().into()).wrapping_sub(wanted.into());
        let state = unit.runstate();
        if state != unit.times.state {
            unit.times.change(state, now);
        }
    }

    /// Applies a change that makes a vCPU not runnable. On a CPU it stays until that CPU picks.
    #[inline]
    fn set_aside(&mut self, slot: Slot, now: Ticks, change: impl FnOnce(&mut Unit)) {
        self.withdraw(slot);
        self.update(slot, now, |unit| {
            change(unit);
            if !matches!(unit.place, Place::On(_)) {
                unit.place = Place::Aside;
            }
        });
    }

    /// Takes a vCPU from where it waits for a CPU, if it does.
    #[inline]
    fn withdraw(&mut self, slot: Slot) {
        let Some(unit) = &self.units[slot] else { return };
        match unit.place {
            Place::Queued => self.queue.remove(slot, unit.affinity),
            Place::Parked => self.deadlines.cancel(slot),
            Place::Aside | Place::On(_) => {}
        }
    }

    #[inline]
    fn unblock(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        self.deadlines.cancel(slot);
        self.update(slot, now, |unit| unit.blocked = false);
        self.go_on(slot, now)
    }

    /// Has a vCPU run or wait for a CPU, if it may. Returns the CPUs to kick.
    #[inline]
    fn go_on(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        let Some(unit) = &self.units[slot] else { return CpuSet::EMPTY };
        if !unit.runnable() {
            return CpuSet::EMPTY;
        }
        let kick = match unit.place {
            Place::Aside => {
                self.lift(slot, self.credit);
                self.enqueue(slot, now);
                self.call_for(slot, now)
            }
            // It never left this CPU, which has nothing better to do.
            Place::On(cpu) if self.idle.contains(cpu) => {
                self.lift(slot, self.credit);
                CpuSet::only(cpu)
            }
            // That CPU has not noticed that it was to stop, and never will know.
            Place::On(_) | Place::Queued | Place::Parked => CpuSet::EMPTY,
        };
        self.kicked.extend(kick);
        kick
    }

    #[inline]
    fn enqueue(&mut self, slot: Slot, now: Ticks) {
        self.update(slot, now, |unit| unit.place = Place::Queued);
        if let Some(unit) = &self.units[slot] {
            self.queue.insert(slot, unit.affinity);
        }
    }

    /// Keeps what a vCPU has had from lying farther behind the others on CPUs that it may use: what
    /// it could not or did not want to use then is not owed to it now.
    #[inline]
    fn lift(&mut self, slot: Slot, farthest: Span) {
        let Some(unit) = &self.units[slot] else { return };
        let clock = match unit.affinity {
            CpuSet::ALL => self.clock,
            some => {
                let clocks = some.filter_map(|cpu| Some(self.cpus.get(cpu.0)?.clock));
                clocks.reduce(VirtualTime::max).unwrap_or(self.clock)
            }
        };
        let had = &mut self.queue.had[slot];
        *had = had.at_least(clock.minus(farthest));
    }

    /// Who must look at the queue now that a vCPU has come into it: one idle CPU if there is one,
    /// or the CPU of which it can take most, or else every CPU that runs without a tick, so that
    /// its vCPU gives way at the end of its slice.
    #[inline]
    fn call_for(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        let Some(unit) = &self.units[slot] else { return CpuSet::EMPTY };
        let idle = self.idle.without(self.kicked);
        let free = idle.and(unit.affinity);
        if !free.is_empty() {
            return if free.contains(unit.last) { CpuSet::only(unit.last) } else { free.lowest() };
        }
        let busy = self.online.without(self.idle).and(unit.affinity).without(self.kicked);
        if !idle.is_empty()
            && let Some(cpu) = { busy }.find(|&cpu| self.displace(cpu, idle))
        {
            return CpuSet::only(cpu);
        }
        match self.richest(busy, now) {
            Some((cpu, had)) if self.takes_over(slot, had) => CpuSet::only(cpu),
            _ => self.tickless().and(busy),
        }
    }

    /// Has a CPU's vCPU give way, if it can go on at one of others. Returns whether it can.
    fn displace(&mut self, cpu: CpuId, others: CpuSet) -> bool {
        let Some(state) = self.cpus.get_mut(cpu.0) else { return false };
        let unit = state.current.and_then(|slot| self.units[slot].as_ref());
        let movable = unit.is_some_and(|unit| !unit.affinity.and(others).is_empty());
        if movable {
            state.slice = Slice::Displaced;
        }
        movable
    }

    /// For a CPU that has nothing to do: has another CPU, for which somebody waits who cannot run
    /// here, give its vCPU away, which can. Returns that CPU, to be kicked.
    #[cold]
    fn pull(&mut self, cpu: CpuId) -> CpuSet {
        let here = CpuSet::only(cpu);
        let busy = self.online.without(self.idle).without(self.kicked).without(here);
        let gives = |&other: &CpuId| self.queue.has_pinned(other) && self.displace(other, here);
        { busy }.find(gives).map_or(CpuSet::EMPTY, CpuSet::only)
    }

    /// The CPU whose vCPU has had most by now, and how much that is.
    #[inline]
    fn richest(&self, cpus: CpuSet, now: Ticks) -> Option<(CpuId, VirtualTime)> {
        let had = |cpu: CpuId| {
            let state = self.cpus.get(cpu.0)?;
            let slot = state.current?;
            Some((cpu, self.queue.had[slot].plus(self.charge_of(slot, state.charged, now))))
        };
        cpus.filter_map(had).reduce(|most, other| if most.1.before(other.1) { other } else { most })
    }

    /// Whether a vCPU may interrupt the slice of one that has had so much.
    #[inline]
    fn takes_over(&self, slot: Slot, had: VirtualTime) -> bool {
        self.queue.had[slot].plus(self.advantage).before(had)
    }

    /// What a vCPU that has run since then is to be charged. It runs for longer than a slice only
    /// while nobody waits: then its time costs it nothing.
    #[inline]
    fn charge_of(&self, slot: Slot, since: Ticks, now: Ticks) -> Span {
        let ran = now.0.saturating_sub(since.0).min(self.slice.0.saturating_mul(2));
        let share = &self.shares[slot];
        share.rate.charge(Ticks(ran), share.runnable)
    }

    /// Charges the vCPU on this CPU for its time until now.
    #[inline]
    fn charge(&mut self, cpu: CpuId, now: Ticks) {
        let Some(&Cpu { current: Some(slot), charged, .. }) = self.cpus.get(cpu.0) else { return };
        let charge = self.charge_of(slot, charged, now);
        self.queue.had[slot] = self.queue.had[slot].plus(charge);
        if let Some(budget) = &mut self.shares[slot].budget {
            budget.spend(Ticks(now.0.saturating_sub(charged.0)));
        }
        if let Some(state) = self.cpus.get_mut(cpu.0) {
            state.charged = now;
        }
        self.lift(slot, self.arrears);
    }

    #[inline]
    fn current(&self, cpu: CpuId) -> Option<Slot> {
        self.cpus.get(cpu.0).and_then(|state| state.current)
    }

    /// Takes the current vCPU off its CPU unless it may go on. Returns it if it waits from now on.
    #[inline]
    fn drop_current(&mut self, cpu: CpuId, next: Option<Slot>, now: Ticks) -> Option<Slot> {
        let slot = self.current(cpu)?;
        let unit = self.units[slot].as_ref()?;
        let affinity = unit.affinity;
        if unit.blocked && !unit.paused && next.is_none() && affinity.contains(cpu) {
            // It may as well stay.
        } else if !unit.runnable() {
            self.leave(cpu);
            self.update(slot, now, |unit| unit.place = Place::Aside);
        } else if self.is_out_of_budget(slot, now) {
            self.leave(cpu);
            self.park(cpu, slot, now);
        } else if !affinity.contains(cpu) || self.gives_way(cpu, slot, next, now) {
            self.leave(cpu);
            return Some(slot);
        }
        None
    }

    /// Who must look at the queue now that a CPU has chosen another than this vCPU.
    #[inline]
    fn call_for_again(&self, slot: Slot, cpu: CpuId) -> CpuSet {
        let Some(unit) = &self.units[slot] else { return CpuSet::EMPTY };
        let others = unit.affinity.without(CpuSet::only(cpu)).without(self.kicked);
        let free = self.idle.and(others);
        if free.is_empty() { self.tickless().and(others) } else { free.lowest() }
    }

    /// CPUs whose vCPU may run without end.
    #[inline]
    fn tickless(&self) -> CpuSet {
        self.online.without(self.idle).without(self.ticking)
    }

    #[inline]
    fn leave(&mut self, cpu: CpuId) {
        if let Some(state) = self.cpus.get_mut(cpu.0) {
            state.current = None;
        }
    }

    /// Whether the current vCPU has to make room for one that waits. If not, its slice begins anew
    /// should it have ended.
    #[inline]
    fn gives_way(&mut self, cpu: CpuId, slot: Slot, next: Option<Slot>, now: Ticks) -> bool {
        let Some(state) = self.cpus.get_mut(cpu.0) else { return false };
        let Some(next) = next else {
            if !matches!(state.slice, Slice::Until(_)) {
                state.slice = Slice::Until(now);
            }
            return false;
        };
        let (had, others) = (self.queue.had[slot], self.queue.had[next]);
        match state.slice {
            Slice::Until(end) if now < end => self.takes_over(next, had),
            Slice::Until(_) if others.before(had) => true,
            Slice::Until(_) => {
                state.slice = Slice::Until(Ticks(now.0.saturating_add(self.slice.0)));
                false
            }
            Slice::Yielded => {
                self.queue.had[slot] = had.max(others.next());
                true
            }
            Slice::Displaced => true,
        }
    }

    /// Who waits for this CPU and is served next. Those whose domain has used up its budget are
    /// parked on the way.
    #[inline]
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

    #[inline]
    fn is_out_of_budget(&mut self, slot: Slot, now: Ticks) -> bool {
        self.shares[slot].budget.as_mut().is_some_and(|budget| budget.left(now).is_none())
    }

    /// Has a vCPU, which is in no queue, wait for its domain's next income.
    #[cold]
    fn park(&mut self, cpu: CpuId, slot: Slot, now: Ticks) {
        self.update(slot, now, |unit| unit.place = Place::Parked);
        if let Some(budget) = &self.shares[slot].budget {
            self.deadlines.set(cpu, slot, budget.next_income());
        }
    }

    /// Gives the CPU to a vCPU that waits for it.
    #[inline]
    fn run(&mut self, cpu: CpuId, slot: Slot, now: Ticks) {
        self.withdraw(slot);
        let Some(state) = self.cpus.get_mut(cpu.0) else { return };
        state.current = Some(slot);
        self.begin_slice(cpu, now);
        self.update(slot, now, |unit| {
            unit.place = Place::On(cpu);
            unit.last = cpu;
        });
    }

    /// The current vCPU, if there is one, begins to run.
    #[inline]
    fn begin_slice(&mut self, cpu: CpuId, now: Ticks) {
        let Some(state) = self.cpus.get_mut(cpu.0) else { return };
        state.charged = now;
        state.slice = Slice::Until(Ticks(now.0.saturating_add(self.slice.0)));
        if let Some(slot) = state.current {
            let had = self.queue.had[slot];
            state.clock = state.clock.max(had);
            self.clock = self.clock.max(had);
        }
    }

    #[inline]
    fn preempt_at(&self, cpu: CpuId, now: Ticks) -> Option<Ticks> {
        let deadline = self.deadlines.first(cpu);
        if self.idle.contains(cpu) {
            return deadline;
        }
        let state = self.cpus.get(cpu.0)?;
        let mut first = deadline.unwrap_or(Ticks(u64::MAX));
        if let Slice::Until(end) = state.slice
            && self.ticking.contains(cpu)
        {
            first = first.min(end);
        }
        if let Some(end) = state.current.and_then(|slot| self.budget_end(slot, now)) {
            first = first.min(end);
        }
        (first != Ticks(u64::MAX)).then_some(first)
    }

    /// When a vCPU that runs has to be looked at because of its domain's budget, of which its
    /// domain's other vCPUs may want their parts. Not all too often: what is used too much is owed.
    #[inline]
    fn budget_end(&self, slot: Slot, now: Ticks) -> Option<Ticks> {
        let share = &self.shares[slot];
        let left = share.budget?.left(now)?.0 / u64::from(share.runnable.max(1));
        Some(Ticks(now.0.saturating_add(left.max(self.slice.0 / 8))))
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}
