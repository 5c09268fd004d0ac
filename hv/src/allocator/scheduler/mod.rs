//! The scheduler: which vCPU runs on which CPU, and until when.
//!
//! Round robin over one run queue for all CPUs, hence work-conserving: a CPU is idle only while
//! the queue is empty. A vCPU runs for a slice of [`SLICE_MILLISECONDS`] when others wait, and
//! without any tick when none does. This file owns the vCPUs' scheduling state and the time that
//! they spent in each; [`queue`] owns the order in which they wait for a CPU, [`deadlines`] the
//! times at which blocked ones wake by themselves.
//!
//! What always holds:
//! - A vCPU is at one place: on one CPU, in the run queue, or neither. It leaves a CPU only in
//!   that CPU's [`Scheduler::pick`]; the caller keeps the monitor's lock from `pick` until the
//!   vCPU's registers are saved, so no other CPU can run it with stale ones.
//! - A vCPU that is neither blocked nor paused is on a CPU or in the queue.
//! - A blocked vCPU stays on its CPU, which is idle, until that CPU has something else to run: its
//!   registers need not move if it wakes before.
//! - A vCPU has a deadline only while it is blocked.
//! - When the queue is not empty, each CPU runs a vCPU until the end of a slice or has been kicked
//!   (named in a [`CpuSet`]) since it last picked.

mod cpu_set;
mod deadlines;
mod queue;
mod slots;
#[cfg(test)]
mod tests;

use abi::shared_info::Runstate;

pub use cpu_set::CpuSet;

use super::vcpu::RunTimes;
use crate::types::{CpuId, MAX_CPUS, Ticks, VcpuKey};
use deadlines::Deadlines;
use queue::RunQueue;
use slots::{PerVcpu, Slot};

/// How long a vCPU may run while others wait, in milliseconds.
pub const SLICE_MILLISECONDS: u64 = 10;

/// Where a vCPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Neither on a CPU nor waiting for one.
    Aside,
    Queued,
    On(CpuId),
}

/// What the scheduler knows of one vCPU.
#[derive(Debug, Clone, Copy)]
struct Unit {
    key: VcpuKey,
    place: Place,
    blocked: bool,
    paused: bool,
    times: RunTimes,
}

impl Unit {
    fn runnable(&self) -> bool {
        !self.blocked && !self.paused
    }

    fn runstate(&self) -> Runstate {
        match self.place {
            Place::On(_) if !self.blocked => Runstate::Running,
            Place::Queued => Runstate::Runnable,
            Place::On(_) | Place::Aside if self.paused => Runstate::Offline,
            Place::On(_) | Place::Aside => Runstate::Blocked,
        }
    }
}

/// One physical CPU.
#[derive(Debug, Clone, Copy)]
struct Cpu {
    /// Ticks in a slice.
    slice: u64,
    current: Option<Slot>,
    slice_end: Ticks,
}

/// What a CPU should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The vCPU to run, or `None` to wait for an interrupt.
    pub run: Option<VcpuKey>,
    /// When this CPU must look again: its slice ends or a deadline passes.
    pub preempt_at: Option<Ticks>,
}

/// All vCPUs and CPUs.
#[derive(Debug)]
pub struct Scheduler {
    units: PerVcpu<Option<Unit>>,
    queue: RunQueue,
    deadlines: Deadlines,
    cpus: [Cpu; MAX_CPUS],
    online: CpuSet,
    idle: CpuSet,
    /// CPUs that were told to pick and have not done so yet.
    kicked: CpuSet,
    /// CPUs that will pick by themselves at the end of a slice.
    ticking: CpuSet,
}

impl Scheduler {
    /// No CPU and no vCPU.
    pub const fn new() -> Self {
        Scheduler {
            units: PerVcpu::filled(None),
            queue: RunQueue::new(),
            deadlines: Deadlines::new(),
            cpus: [Cpu { slice: 0, current: None, slice_end: Ticks(0) }; MAX_CPUS],
            online: CpuSet::EMPTY,
            idle: CpuSet::EMPTY,
            kicked: CpuSet::EMPTY,
            ticking: CpuSet::EMPTY,
        }
    }

    /// A CPU begins to take part; `slice` is the length of a time slice in ticks.
    pub fn start_cpu(&mut self, cpu: CpuId, slice: Ticks) {
        let Some(state) = self.cpus.get_mut(cpu.0) else { return };
        state.slice = slice.0;
        if !self.online.contains(cpu) {
            self.online.insert(cpu);
            self.idle.insert(cpu);
        }
    }

    /// The CPUs that take part.
    pub fn online(&self) -> CpuSet {
        self.online
    }

    /// Begins to schedule a vCPU, or one again that was paused. It is blocked: [`Scheduler::wake`]
    /// starts it. `Err` names the CPU on which it still is, with registers of its former life.
    pub fn add(&mut self, key: VcpuKey, now: Ticks) -> Result<(), CpuId> {
        if let Some(cpu) = self.running_on(key) {
            return Err(cpu);
        }
        if self.find(key).is_some() {
            self.block(key, None, now);
            // Nobody to kick: it is blocked.
            let _ = self.unpause(key, now);
        } else if let Some(slot) = Slot::of(key) {
            let times = RunTimes { state: Runstate::Blocked, since: now, ..RunTimes::OFFLINE };
            let unit = Unit { key, place: Place::Aside, blocked: true, paused: false, times };
            debug_assert!(self.units[slot].is_none(), "{key} takes the place of another");
            self.units[slot] = Some(unit);
        }
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

    /// Ends a vCPU's block, if it is blocked. Returns the CPUs to kick.
    #[inline]
    pub fn wake(&mut self, key: VcpuKey, now: Ticks) -> CpuSet {
        match self.unit(key) {
            Some((slot, unit)) if unit.blocked => self.unblock(slot, now),
            _ => CpuSet::EMPTY,
        }
    }

    /// Blocks a vCPU until it is woken, or until the deadline `until` has passed. The CPU that it
    /// is on must pick; CPU 0 if it is on none, and has a deadline.
    pub fn block(&mut self, key: VcpuKey, until: Option<Ticks>, now: Ticks) {
        let Some((slot, unit)) = self.unit(key) else { return };
        let cpu = match unit.place {
            Place::On(cpu) => cpu,
            Place::Queued | Place::Aside => CpuId(0),
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
        self.enqueue_if_ready(slot, now)
    }

    /// Whether a vCPU waits for a CPU.
    pub fn someone_waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Ends the slice of the vCPU on this CPU. The CPU must pick.
    pub fn yield_slice(&mut self, cpu: CpuId) {
        if let Some(state) = self.cpus.get_mut(cpu.0) {
            state.slice_end = Ticks(0);
        }
    }

    /// Takes a blocked vCPU whose deadline on this CPU has passed. It has no deadline any more
    /// but is still blocked: the caller must wake it. Call until `None`.
    #[must_use = "a vCPU that is not woken now may sleep for ever"]
    pub fn expired(&mut self, cpu: CpuId, now: Ticks) -> Option<VcpuKey> {
        let slot = self.deadlines.take_due(cpu, now)?;
        self.units[slot].map(|unit| unit.key)
    }

    /// Decides what this CPU runs now. The vCPU that it ran so far leaves it if it is blocked or
    /// paused, or if its slice is over while others wait.
    pub fn pick(&mut self, cpu: CpuId, now: Ticks) -> Decision {
        self.kicked.remove(cpu);
        self.drop_current(cpu, now);
        if self.current(cpu).is_none()
            && let Some(next) = self.queue.pop_front()
        {
            self.run(cpu, next, now);
        }
        let unit = self.current(cpu).and_then(|slot| self.units[slot]);
        let run = unit.filter(|unit| !unit.blocked).map(|unit| unit.key);
        self.idle.set(cpu, run.is_none());
        self.ticking.set(cpu, run.is_some() && !self.queue.is_empty());
        Decision { run, preempt_at: self.preempt_at(cpu) }
    }

    /// Has a blocked vCPU, which is about to leave this CPU, wake when `until` has passed.
    pub fn wake_at(&mut self, cpu: CpuId, key: VcpuKey, until: Ticks) {
        let Some((slot, unit)) = self.unit(key) else { return };
        if unit.blocked {
            let until = self.deadlines.of(slot).map_or(until, |deadline| deadline.min(until));
            self.deadlines.cancel(slot);
            self.deadlines.set(cpu, slot, until);
        }
    }

    /// The CPU on which a vCPU is.
    pub fn running_on(&self, key: VcpuKey) -> Option<CpuId> {
        match self.unit(key)?.1.place {
            Place::On(cpu) => Some(cpu),
            Place::Queued | Place::Aside => None,
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

    /// Changes a vCPU's state and books its time.
    fn update(&mut self, slot: Slot, now: Ticks, change: impl FnOnce(&mut Unit)) {
        let Some(unit) = &mut self.units[slot] else { return };
        change(unit);
        let state = unit.runstate();
        if state != unit.times.state {
            unit.times.change(state, now);
        }
    }

    /// Applies a change that makes a vCPU not runnable. On a CPU it stays until that CPU picks.
    fn set_aside(&mut self, slot: Slot, now: Ticks, change: impl FnOnce(&mut Unit)) {
        let queued = self.units[slot].is_some_and(|unit| unit.place == Place::Queued);
        if queued {
            self.queue.remove(slot);
        }
        self.update(slot, now, |unit| {
            change(unit);
            if queued {
                unit.place = Place::Aside;
            }
        });
    }

    fn unblock(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        self.deadlines.cancel(slot);
        self.update(slot, now, |unit| unit.blocked = false);
        if let Some(Unit { place: Place::On(cpu), .. }) = self.units[slot] {
            return self.resume_on(cpu);
        }
        self.enqueue_if_ready(slot, now)
    }

    /// A blocked vCPU that is still on a CPU wants to go on there. Returns the CPUs to kick.
    fn resume_on(&mut self, cpu: CpuId) -> CpuSet {
        if !self.idle.contains(cpu) {
            // It has not looked yet, and never will know.
            return CpuSet::EMPTY;
        }
        let mut kicks = CpuSet::only(cpu);
        self.kicked.extend(kicks);
        // If it was kicked for others before, they must look for another CPU.
        if !self.queue.is_empty() {
            kicks.extend(self.cpus_for_new_work());
            self.kicked.extend(kicks);
        }
        kicks
    }

    fn enqueue_if_ready(&mut self, slot: Slot, now: Ticks) -> CpuSet {
        if !self.units[slot].is_some_and(|unit| unit.runnable() && unit.place == Place::Aside) {
            return CpuSet::EMPTY;
        }
        self.enqueue(slot, now);
        let kicks = self.cpus_for_new_work();
        self.kicked.extend(kicks);
        kicks
    }

    fn enqueue(&mut self, slot: Slot, now: Ticks) {
        self.update(slot, now, |unit| unit.place = Place::Queued);
        self.queue.push_back(slot);
    }

    /// Who must look at the queue now that it has grown: one idle CPU if there is one, otherwise
    /// every CPU that runs without a tick, so that its vCPU gives way at the end of its slice.
    fn cpus_for_new_work(&self) -> CpuSet {
        match self.idle.without(self.kicked).first() {
            Some(cpu) => CpuSet::only(cpu),
            None => self.online.without(self.idle).without(self.ticking).without(self.kicked),
        }
    }

    fn current(&self, cpu: CpuId) -> Option<Slot> {
        self.cpus.get(cpu.0).and_then(|state| state.current)
    }

    /// Takes the current vCPU off its CPU unless it may go on.
    fn drop_current(&mut self, cpu: CpuId, now: Ticks) {
        let Some(state) = self.cpus.get_mut(cpu.0) else { return };
        let Some(slot) = state.current else { return };
        let Some(unit) = self.units[slot] else { return };
        let runnable = unit.runnable();
        let stays = !unit.paused && (self.queue.is_empty() || runnable && now < state.slice_end);
        if stays {
            return;
        }
        state.current = None;
        if runnable {
            self.enqueue(slot, now);
        } else {
            self.update(slot, now, |unit| unit.place = Place::Aside);
        }
    }

    fn run(&mut self, cpu: CpuId, slot: Slot, now: Ticks) {
        let Some(state) = self.cpus.get_mut(cpu.0) else { return };
        state.current = Some(slot);
        state.slice_end = Ticks(now.0.saturating_add(state.slice));
        self.update(slot, now, |unit| unit.place = Place::On(cpu));
    }

    fn preempt_at(&self, cpu: CpuId) -> Option<Ticks> {
        let slice_end = self.cpus.get(cpu.0).map(|state| state.slice_end);
        let slice_end = slice_end.filter(|_| self.ticking.contains(cpu));
        slice_end.into_iter().chain(self.deadlines.first(cpu)).min()
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}
