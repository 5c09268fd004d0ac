//! What the scheduler knows of one vCPU.

use abi::shared_info::Runstate;
use abi::{DomId, VcpuId};

use super::cpu_set::CpuSet;
use super::virtual_time::VirtualTime;
use crate::allocator::vcpu::RunTimes;
use crate::types::{CpuId, Ticks, VcpuKey};

/// Where a vCPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It does not want to run, or may not.
    Aside,
    /// It waits for a CPU.
    Queued,
    /// It waits for its domain's next income of CPU time.
    Parked,
    /// In a CPU's registers.
    On(CpuId),
}

/// One vCPU. Aligned, so that one is found by a shift.
#[derive(Debug, Clone, Copy)]
#[repr(align(128))]
pub(super) struct Unit {
    pub(super) key: VcpuKey,
    pub(super) place: Place,
    pub(super) blocked: bool,
    /// It is offline, or its domain is paused.
    pub(super) paused: bool,
    /// Where it may run.
    pub(super) affinity: CpuSet,
    /// Where it ran last.
    pub(super) last: CpuId,
    /// How much CPU it has had.
    pub(super) had: VirtualTime,
    pub(super) times: RunTimes,
}

impl Unit {
    /// The place of no vCPU: none has this number.
    pub(super) const VACANT: Unit = Unit::new(
        VcpuKey { domain: DomId::INVALID, vcpu: VcpuId(u32::MAX) },
        RunTimes::OFFLINE.since,
    );

    /// One that is offline and may run anywhere.
    pub(super) const fn new(key: VcpuKey, now: Ticks) -> Unit {
        Unit {
            key,
            place: Place::Aside,
            blocked: true,
            paused: true,
            affinity: CpuSet::ALL,
            last: CpuId(0),
            had: VirtualTime::ZERO,
            times: RunTimes { since: now, ..RunTimes::OFFLINE },
        }
    }

    /// The CPU that it is on.
    #[inline(always)]
    pub(super) fn cpu(&self) -> Option<CpuId> {
        match self.place {
            Place::On(cpu) => Some(cpu),
            Place::Queued | Place::Parked | Place::Aside => None,
        }
    }

    #[inline]
    pub(super) fn runnable(&self) -> bool {
        !self.blocked && !self.paused
    }

    /// It runs on a CPU from now on.
    #[inline(always)]
    pub(super) fn run(&mut self, cpu: CpuId, now: Ticks) {
        (self.place, self.last) = (Place::On(cpu), cpu);
        self.times.change(Runstate::Running, now);
    }

    /// It leaves its CPU, or its sleep, and waits in this place from now on.
    #[inline(always)]
    pub(super) fn wait(&mut self, place: Place, now: Ticks) {
        self.place = place;
        self.times.change(Runstate::Runnable, now);
    }

    /// It wants nothing from now on.
    #[inline(always)]
    pub(super) fn lie_aside(&mut self, now: Ticks) {
        self.place = Place::Aside;
        self.book(now);
    }

    /// Books its time if what it does has changed.
    #[inline(always)]
    pub(super) fn book(&mut self, now: Ticks) {
        let state = self.runstate();
        if state != self.times.state {
            self.times.change(state, now);
        }
    }

    #[inline(always)]
    fn runstate(&self) -> Runstate {
        match self.place {
            Place::On(_) if !self.blocked => Runstate::Running,
            Place::Queued | Place::Parked => Runstate::Runnable,
            Place::On(_) | Place::Aside if self.paused => Runstate::Offline,
            Place::On(_) | Place::Aside => Runstate::Blocked,
        }
    }
}
