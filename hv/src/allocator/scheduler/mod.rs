//! The scheduler: which vCPU runs on which CPU, and until when. docs/scheduler.md has the policy
//! and its figures.
//!
//! Each vCPU has a *virtual time*: how much CPU it has had, divided by what its domain's weight
//! entitles it to. Who has had least is served first. A vCPU that waits for a CPU is in a queue
//! that all CPUs share, or, if it is pinned, in those of the CPUs that it may use. So a CPU is idle
//! only while nobody waits who may run on it. A vCPU runs for a slice of [`SLICE_MILLISECONDS`]
//! when others wait, and without any tick when none does.
//!
//! This file owns what vCPUs want, [`place`] which CPU one gets that wants to run, [`pick`] what a
//! CPU runs. [`queue`] owns the order in which vCPUs wait, [`share`] what a domain may use,
//! [`deadlines`] the times at which vCPUs go on by themselves, [`settings`] what the toolstack sets
//! and sees.
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
//!   been kicked (named in a [`CpuSet`]) since it last picked. A CPU that was kicked picks, unless
//!   [`Scheduler::goes_on_until`] says that setting its timer is enough.
//! - A vCPU that stops wanting to run has been charged for what it has used.

mod cpu_set;
mod deadlines;
mod heap;
mod pick;
mod place;
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
pub use pick::Decision;
pub use settings::VcpuPlace;
pub use share::Parameters;

use super::vcpu::RunTimes;
use crate::types::{CpuId, MAX_CPUS, MAX_VCPUS, Ticks, VcpuKey};
use deadlines::Deadlines;
use queue::RunQueue;
use share::Share;
use slots::{PerCpu, PerDomain, PerVcpu, Slot};
use unit::{Place, Unit};
use virtual_time::{Rate, Span, VirtualTime};

/// How long a vCPU may run while others wait, in milliseconds.
pub const SLICE_MILLISECONDS: u64 = 5;

/// When a vCPU gives its CPU to another that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slice {
    /// Then, if the other has had less.
    Until(Ticks),
    /// Now: it wants to.
    Yielded,
    /// Now: it can go on elsewhere, and the other cannot.
    Displaced,
}

/// One physical CPU. Aligned, so that one is found by a shift.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Cpu {
    current: Option<Slot>,
    /// Until when the current vCPU was charged for its time.
    charged: Ticks,
    slice: Slice,
    /// The most that a vCPU had had when this CPU picked it.
    clock: VirtualTime,
}

/// All vCPUs and CPUs. What every decision needs comes first, within reach of one base address.
#[derive(Debug)]
#[repr(C)]
pub struct Scheduler {
    cpus: PerCpu<Cpu>,
    /// The latest of the CPUs' clocks.
    clock: VirtualTime,
    online: CpuSet,
    idle: CpuSet,
    /// CPUs that were told to pick and have not done so yet.
    kicked: CpuSet,
    /// CPUs that will pick by themselves at the end of a slice, or were told to set their timer so.
    ticking: CpuSet,
    /// How many domains have a cap.
    capped: u16,
    slice: Ticks,
    /// The most that a vCPU is charged for at a time: it runs for longer only while nobody waits,
    /// and then its time costs it nothing.
    chargeable: Ticks,
    /// By how much a vCPU that slept may have had less than those that did not.
    credit: Span,
    /// By how much one that did not may: that happens where it has a CPU for itself and could not
    /// use its share if it tried, and, for a moment, beside domains of very little weight.
    arrears: Span,
    /// Within which all lie: the largest charge, and twice the arrears.
    reach: Span,
    units: PerVcpu<Unit>,
    shares: PerDomain<Share>,
    queue: RunQueue,
    deadlines: Deadlines,
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
            units: PerVcpu::filled(Unit::VACANT),
            shares: PerDomain::filled(Share::DEFAULT),
            queue: RunQueue::new(),
            deadlines: Deadlines::new(),
            cpus: PerCpu([cpu; MAX_CPUS]),
            clock: VirtualTime::ZERO,
            online: CpuSet::EMPTY,
            idle: CpuSet::EMPTY,
            kicked: CpuSet::EMPTY,
            ticking: CpuSet::EMPTY,
            capped: 0,
            slice: Ticks(0),
            chargeable: Ticks(0),
            credit: Span::ZERO,
            arrears: Span::ZERO,
            reach: Span::ZERO,
        }
    }

    /// A CPU begins to take part; `slice` is the length of a time slice in ticks, the same for all.
    pub fn start_cpu(&mut self, cpu: CpuId, slice: Ticks) {
        self.slice = slice;
        self.chargeable = Ticks(slice.0.saturating_mul(2));
        self.credit = Span::of(Ticks(slice.0.saturating_mul(2)));
        self.arrears = Span::of(Ticks(slice.0.saturating_mul(64)));
        let largest = Rate::of_weight(1).charge(self.chargeable, MAX_VCPUS as u8);
        self.reach = largest.plus(self.arrears).plus(self.arrears);
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
        for key in (0..vcpus).map(|vcpu| VcpuKey { domain, vcpu: VcpuId(vcpu) }) {
            let Some(slot) = Slot::of(key) else { return };
            let vacant = self.units[slot].key == Unit::VACANT.key;
            debug_assert!(vacant, "{domain} takes the place of another");
            self.set_share(slot, Share::DEFAULT);
            let had = self.clock.minus(self.credit);
            self.units[slot] = Unit { had, ..Unit::new(key, now) };
        }
    }

    /// Begins to schedule a vCPU that is offline. It is blocked: [`Scheduler::wake`] starts it.
    /// `Err` names the CPU on which it still is, with registers of its former life.
    pub fn start(&mut self, key: VcpuKey, now: Ticks) -> Result<(), CpuId> {
        if let Some(cpu) = self.running_on(key) {
            return Err(cpu);
        }
        if let Some(slot) = self.find(key) {
            self.deadlines.cancel(slot);
            self.units[slot].blocked = true;
        }
        // Nobody to kick: it is blocked.
        let _ = self.unpause(key, now);
        Ok(())
    }

    /// Forgets a vCPU of a domain that is being destroyed. `Err` names the CPU on which it still is: it will not run again; kick that
    /// CPU and retry once it has picked.
    pub fn remove(&mut self, key: VcpuKey, now: Ticks) -> Result<(), CpuId> {
        if let Some(cpu) = self.pause(key, now) {
            return Err(cpu);
        }
        if let Some(slot) = self.find(key) {
            self.deadlines.cancel(slot);
            self.units[slot] = Unit::VACANT;
            self.set_share(slot, Share { budget: None, ..self.shares[slot] });
        }
        Ok(())
    }

    /// Ends a vCPU's block, or its wait for its domain's income if that time has come. Returns the
    /// CPUs to kick, among them the one that it is on: there it shall look what is new.
    pub fn wake(&mut self, key: VcpuKey, now: Ticks) -> CpuSet {
        let Some(slot) = self.find(key) else { return CpuSet::EMPTY };
        let unit = &self.units[slot];
        if unit.blocked {
            self.deadlines.cancel(slot);
            self.release(slot, now, |unit| unit.blocked = false);
        } else if unit.place == Place::Parked && self.deadlines.of(slot).is_none() {
            self.units[slot].place = Place::Aside;
        }
        self.go_on(slot, now)
    }

    /// The vCPU that this CPU runs sleeps until it is woken, or until the deadline `until` has
    /// passed. The CPU must pick.
    #[inline(always)]
    pub fn sleep(&mut self, cpu: CpuId, until: Option<Ticks>, now: Ticks) {
        let Some(slot) = self.cpus[cpu].current else { return };
        self.charge(cpu, slot, now);
        self.stop(slot, now, |unit| unit.blocked = true);
        if let Some(until) = until {
            self.deadlines.set(cpu, slot, until);
        }
    }

    /// Keeps a vCPU from running, blocked or not. Returns the CPU on which it still is, to kick.
    pub fn pause(&mut self, key: VcpuKey, now: Ticks) -> Option<CpuId> {
        let slot = self.find(key)?;
        let on = self.units[slot].cpu();
        match on {
            Some(cpu) if !self.idle.contains(cpu) => self.charge(cpu, slot, now),
            Some(_) => {}
            None => {
                self.withdraw(slot);
                self.units[slot].place = Place::Aside;
            }
        }
        self.stop(slot, now, |unit| unit.paused = true);
        self.kicked.extend(on.map_or(CpuSet::EMPTY, CpuSet::only));
        on
    }

    /// Undoes [`Scheduler::pause`]. Returns the CPUs to kick.
    pub fn unpause(&mut self, key: VcpuKey, now: Ticks) -> CpuSet {
        let Some(slot) = self.find(key) else { return CpuSet::EMPTY };
        self.release(slot, now, |unit| unit.paused = false);
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
        self.cpus[cpu].slice = Slice::Yielded;
    }

    /// Takes a vCPU whose deadline on this CPU has passed. It has no deadline any more but still
    /// waits for it: the caller must wake it. Call until `None`.
    #[must_use = "a vCPU that is not woken now may sleep for ever"]
    pub fn expired(&mut self, cpu: CpuId, now: Ticks) -> Option<VcpuKey> {
        let slot = self.deadlines.take_due(cpu, now)?;
        Some(self.units[slot].key)
    }

    /// Has a blocked vCPU, which is about to leave this CPU, wake when `until` has passed. Returns
    /// when this CPU must look again.
    pub fn wake_at(&mut self, cpu: CpuId, key: VcpuKey, until: Ticks, now: Ticks) -> Ticks {
        if let Some(slot) = self.find(key)
            && self.units[slot].blocked
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
        self.units[self.find(key)?].cpu()
    }

    /// How a vCPU has spent its time.
    pub fn times(&self, key: VcpuKey) -> Option<&RunTimes> {
        self.find(key).map(|slot| &self.units[slot].times)
    }

    /// A slot is shared by domains whose numbers differ by a multiple of the table's size, of
    /// which one exists at a time: a stale key finds nothing.
    #[inline(always)]
    fn find(&self, key: VcpuKey) -> Option<Slot> {
        Slot::of(key).filter(|&slot| self.units[slot].key == key)
    }

    /// Applies a change after which a vCPU may be runnable. The caller has it go on.
    #[inline(always)]
    fn release(&mut self, slot: Slot, now: Ticks, change: impl FnOnce(&mut Unit)) {
        let unit = &mut self.units[slot];
        let was_runnable = unit.runnable();
        change(unit);
        if !unit.runnable() {
            unit.book(now);
        } else if !was_runnable {
            let share = &mut self.shares[slot];
            share.runnable = share.runnable.wrapping_add(1);
        }
    }

    /// Applies a change that makes a vCPU not runnable. If it runs, it must have been charged for
    /// what it has used: afterwards its domain counts one vCPU less.
    #[inline(always)]
    fn stop(&mut self, slot: Slot, now: Ticks, change: impl FnOnce(&mut Unit)) {
        let unit = &mut self.units[slot];
        if unit.runnable() {
            let share = &mut self.shares[slot];
            share.runnable = share.runnable.wrapping_sub(1);
        }
        change(unit);
        unit.book(now);
    }

    #[inline(never)]
    fn set_share(&mut self, slot: Slot, share: Share) {
        let was_capped = self.shares[slot].budget.is_some();
        let is_capped = share.budget.is_some();
        self.capped = self.capped.wrapping_add(is_capped.into()).wrapping_sub(was_capped.into());
        self.shares[slot] = share;
    }

    /// Whether a vCPU's domain has a cap. Mostly none has.
    #[inline(always)]
    fn is_capped(&self, slot: Slot) -> bool {
        self.capped != 0 && self.shares[slot].budget.is_some()
    }

    /// Takes a vCPU from where it waits for a CPU, if it does.
    fn withdraw(&mut self, slot: Slot) {
        let unit = &self.units[slot];
        match unit.place {
            Place::Queued => self.queue.remove(slot, unit.affinity),
            Place::Parked => self.deadlines.cancel(slot),
            Place::Aside | Place::On(_) => {}
        }
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}
