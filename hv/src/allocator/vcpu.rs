//! A virtual CPU's record.

use abi::shared_info::Runstate;
use abi::{DomId, Port, VcpuId};

use super::frame::{FramePool, Kind, OutOfFrames};
use super::interrupt::VcpuInterrupts;
use super::physical_timer::PhysicalTimer;
use crate::machine::memory::RamFrame;
use crate::types::{GuestVa, Ticks, VcpuKey};

/// Where a vCPU's `vcpu_info` lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InfoPlace {
    /// In which frame.
    pub frame: RamFrame,
    /// At which byte of it: 8-aligned, and the record ends in the same frame.
    pub offset: usize,
    /// Whether the guest chose the place. Then the vCPU holds the frame.
    pub registered: bool,
}

/// What a vCPU that sleeps in `SCHEDOP_poll` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Polling {
    /// It does not poll.
    #[default]
    No,
    /// For one port.
    Port(Port),
    /// For several: any event of the domain wakes it, and it looks again.
    Any,
}

/// What a vCPU has done with its time, and what it is doing.
#[derive(Debug, Clone, Copy)]
pub struct RunTimes {
    /// What it is doing.
    pub state: Runstate,
    /// Since when.
    pub since: Ticks,
    /// How long it has been in each state before, indexed by [`Runstate`]'s numbers.
    pub total: [Ticks; 4],
}

impl RunTimes {
    /// Offline since the beginning.
    pub const OFFLINE: RunTimes =
        RunTimes { state: Runstate::Offline, since: Ticks(0), total: [Ticks(0); 4] };

    /// Goes over to another state.
    #[inline(always)]
    pub fn change(&mut self, state: Runstate, now: Ticks) {
        let total = &mut self.total[self.state.raw() as usize];
        // Nothing is lost if this CPU read the counter a little before another one did.
        total.0 = total.0.wrapping_add(now.0.wrapping_sub(self.since.0));
        (self.state, self.since) = (state, now);
    }

    /// Time on a CPU until now.
    pub fn running(&self, now: Ticks) -> Ticks {
        let mut copy = *self;
        copy.change(self.state, now);
        copy.total[Runstate::Running.raw() as usize]
    }
}

/// A virtual CPU.
#[derive(Debug)]
pub struct Vcpu {
    /// Which.
    pub key: VcpuKey,
    /// Whether it was started (by the toolstack or by PSCI CPU_ON) and not stopped since.
    pub online: bool,
    /// Its `vcpu_info`; none until registered, but for vCPU 0.
    pub info: Option<InfoPlace>,
    /// Where the guest wants its run state written.
    pub runstate_area: Option<GuestVa>,
    /// Whether it sleeps in `SCHEDOP_poll`.
    pub polling: Polling,
    /// Its SGIs and PPIs.
    pub interrupts: VcpuInterrupts,
    /// Its physical timer.
    pub physical_timer: PhysicalTimer,
    /// Event interrupts that it was sent.
    pub events: u64,
    /// The frame that holds its `machine::context::Context`.
    pub context: RamFrame,
}

impl Vcpu {
    /// An offline vCPU. Its context's frame is charged to the domain.
    pub(super) fn new(
        pool: &mut FramePool,
        domain: DomId,
        id: VcpuId,
        info: Option<InfoPlace>,
    ) -> Result<Vcpu, OutOfFrames> {
        let context = pool.allocate(domain, Kind::Private, 0)?;
        Ok(Vcpu {
            key: VcpuKey { domain, vcpu: id },
            online: false,
            info,
            runstate_area: None,
            polling: Polling::No,
            interrupts: VcpuInterrupts::new(),
            physical_timer: PhysicalTimer::default(),
            events: 0,
            context,
        })
    }

    /// Gives back all frames that it has or holds.
    pub(super) fn free(self, pool: &mut FramePool) {
        if let Some(InfoPlace { frame, registered: true, .. }) = self.info {
            pool.release(frame);
        }
        pool.release(self.context);
    }
}
