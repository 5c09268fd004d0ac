//! What the toolstack sets and sees: weights, caps, and where vCPUs may run.

use abi::{DomId, Errno, VcpuId};

use super::{CpuSet, Parameters, Place, Scheduler, Slot};
use crate::types::{CpuId, MAX_VCPUS, Ticks, VcpuKey};

/// Where a vCPU is and may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuPlace {
    /// The CPU on which it runs or ran last.
    pub cpu: CpuId,
    /// Where it may run.
    pub affinity: CpuSet,
}

impl Scheduler {
    /// A domain's weight and cap; `None` if it has no vCPUs.
    pub fn parameters(&self, domain: DomId) -> Option<Parameters> {
        self.slots(domain).next().map(|slot| self.shares[slot].parameters)
    }

    /// Sets them. Returns the CPUs to kick. `EINVAL` for a weight of zero; `ESRCH` if the domain
    /// has no vCPUs.
    pub fn set_parameters(
        &mut self,
        domain: DomId,
        parameters: Parameters,
        now: Ticks,
    ) -> Result<CpuSet, Errno> {
        if parameters.weight == 0 {
            return Err(Errno::EINVAL);
        }
        let slot = self.slots(domain).next().ok_or(Errno::ESRCH)?;
        // What was used until now is charged by the old ones.
        let mut kick = CpuSet::EMPTY;
        for cpu in self.online.without(self.idle) {
            if let Some(slot) = self.cpus[cpu].current
                && self.units[slot].key.domain == domain
            {
                self.charge(cpu, slot, now);
                kick.insert(cpu);
            }
        }
        let period = Ticks(self.slice.0.saturating_mul(2));
        let mut share = self.shares[slot];
        share.set(parameters, period, now);
        self.set_share(slot, share);
        self.kicked.extend(kick);
        Ok(kick)
    }

    /// Where a vCPU is and may be.
    pub fn place(&self, key: VcpuKey) -> Option<VcpuPlace> {
        let unit = &self.units[self.find(key)?];
        Some(VcpuPlace { cpu: unit.last, affinity: unit.affinity })
    }

    /// Sets where a vCPU may run. Returns the CPUs to kick. `EINVAL` if that is on no CPU that there
    /// is; `ESRCH` if there is no such vCPU.
    pub fn set_affinity(
        &mut self,
        key: VcpuKey,
        affinity: CpuSet,
        now: Ticks,
    ) -> Result<CpuSet, Errno> {
        let slot = self.find(key).ok_or(Errno::ESRCH)?;
        if affinity.and(self.online).is_empty() {
            return Err(Errno::EINVAL);
        }
        let everywhere = self.online.without(affinity).is_empty();
        let affinity = if everywhere { CpuSet::ALL } else { affinity };
        self.withdraw(slot);
        if let Place::On(cpu) = self.units[slot].place
            && !self.idle.contains(cpu)
        {
            self.charge(cpu, slot, now);
        }
        let clock = self.clock_of(slot);
        self.units[slot].affinity = affinity;
        // Virtual time may pass at another speed there.
        let had = self.units[slot].had.moved(clock, self.clock_of(slot));
        let unit = &mut self.units[slot];
        unit.had = had;
        let place = unit.place;
        let kick = match place {
            Place::Queued | Place::Parked => {
                unit.place = Place::Aside;
                return Ok(self.go_on(slot, now));
            }
            Place::On(cpu) if self.must_move(cpu, affinity) => CpuSet::only(cpu),
            Place::On(_) | Place::Aside => CpuSet::EMPTY,
        };
        self.kicked.extend(kick);
        Ok(kick)
    }

    /// Whether a CPU's vCPU, which may now use these, must leave it: it may not stay, or somebody
    /// waits who can run nowhere else while it could.
    fn must_move(&mut self, cpu: CpuId, affinity: CpuSet) -> bool {
        let idle = self.idle.without(self.kicked);
        !affinity.contains(cpu) || self.queue.has_pinned(cpu) && self.displace(cpu, idle)
    }

    /// How many vCPUs of a vCPU's domain want to run.
    #[cfg(test)]
    pub(super) fn runnable(&self, key: VcpuKey) -> u8 {
        self.find(key).map_or(0, |slot| self.shares[slot].runnable)
    }

    fn slots(&self, domain: DomId) -> impl Iterator<Item = Slot> {
        let keys = (0..MAX_VCPUS as u32).map(move |vcpu| VcpuKey { domain, vcpu: VcpuId(vcpu) });
        keys.filter_map(|key| self.find(key))
    }
}
