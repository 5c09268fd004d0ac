//! What the toolstack sees of domains.

use core::mem::offset_of;

use abi::DomId;
use abi::domctl::{DomainInfo, DomainState, ExitCounts};
use abi::shared_info::Runstate;
use zerocopy::{FromZeros, IntoBytes};

use super::Monitor;
use super::domain::Domain;
use super::vcpu::Vcpu;
use crate::machine::context::Context;
use crate::types::Ticks;

impl Monitor {
    /// What the toolstack sees of a domain, or of what is left of one whose frames others still
    /// hold. `to_nanoseconds` converts counter ticks.
    pub fn domain_info(
        &self,
        id: DomId,
        now: Ticks,
        to_nanoseconds: impl Fn(Ticks) -> u64,
    ) -> Option<DomainInfo> {
        let account = self.frames.account(id);
        if account.domain != id || account.is_vacant() {
            return None;
        }
        let memory = DomainInfo {
            domain: id,
            state: DomainState::DYING.bits(),
            frames: account.frames,
            max_frames: account.max_frames,
            overhead_frames: account.overhead,
            ..DomainInfo::default()
        };
        let Some(domain) = self.domains.get(id) else { return Some(memory) };
        let times = domain.all_vcpus().filter_map(|vcpu| self.scheduler.times(vcpu.key));
        Some(DomainInfo {
            state: self.domain_state(domain).bits(),
            cpu_time: times.map(|times| to_nanoseconds(times.running(now))).sum(),
            online_vcpus: domain.all_vcpus().map(|vcpu| u32::from(vcpu.online)).sum(),
            max_vcpus: domain.max_vcpus(),
            exits: exits(domain),
            granted_mappings: domain.grants.mappings_by_others(),
            ..memory
        })
    }

    /// The domain with the lowest identifier that is not below `first`: to list them all.
    pub fn next_domain(&self, first: DomId) -> Option<DomId> {
        let accounts = self.frames.accounts().iter().filter(|account| !account.is_vacant());
        accounts.map(|account| account.domain).filter(|&id| id >= first).min()
    }

    fn domain_state(&self, domain: &Domain) -> DomainState {
        let is = |wanted: Runstate| {
            let scheduler = &self.scheduler;
            move |key| scheduler.times(key).is_some_and(|times| times.state == wanted)
        };
        let mut online = domain.all_vcpus().filter(|vcpu| vcpu.online).map(|vcpu| vcpu.key);
        let mut state = DomainState::empty();
        state.set(DomainState::DYING, domain.is_dying());
        state.set(DomainState::PAUSED, domain.paused);
        if let Some(reason) = domain.shutdown {
            state |= DomainState::SHUTDOWN | DomainState::from_bits_retain(reason.raw() << 16);
        }
        let running = domain.all_vcpus().map(|vcpu| vcpu.key).any(is(Runstate::Running));
        state.set(DomainState::RUNNING, running);
        state.set(DomainState::BLOCKED, online.all(is(Runstate::Blocked)));
        state
    }
}

/// What left the domain's own code, over all its vCPUs.
fn exits(domain: &Domain) -> ExitCounts {
    domain.all_vcpus().map(vcpu_exits).fold(ExitCounts::default(), |sum, exits| ExitCounts {
        hypercalls: sum.hypercalls.wrapping_add(exits.hypercalls),
        mmio: sum.mmio.wrapping_add(exits.mmio),
        system_registers: sum.system_registers.wrapping_add(exits.system_registers),
        floating_point: sum.floating_point.wrapping_add(exits.floating_point),
        firmware_calls: sum.firmware_calls.wrapping_add(exits.firmware_calls),
        waits: sum.waits.wrapping_add(exits.waits),
        interrupts: sum.interrupts.wrapping_add(exits.interrupts),
        events: sum.events.wrapping_add(exits.events),
    })
}

/// Copies a vCPU's counters out of its context, which a CPU may be counting in meanwhile.
fn vcpu_exits(vcpu: &Vcpu) -> ExitCounts {
    let mut exits = ExitCounts::new_zeroed();
    vcpu.context.read(offset_of!(Context, exits), exits.as_mut_bytes());
    ExitCounts { events: vcpu.events, ..exits }
}
