//! A domain's share of the CPUs, and where its vCPUs run.

use alloc::{string::String, vec::Vec};

use abi::{
    DomId, VcpuId,
    domctl::{SchedulerOp, VcpuState},
};
use pv_guest_kernel::hypercall::{domctl, sysctl};

use super::{
    Summary, Toolstack,
    config::DomainConfig,
    cpus::Cpus,
    error::{Error, failed},
};

/// A vCPU as `xl vcpu-list` shows it.
#[derive(Debug, Clone)]
pub struct Vcpu {
    /// Its domain's name.
    pub name: String,
    /// Its domain.
    pub domain: DomId,
    /// What it does, and where.
    pub state: VcpuState,
    /// Where it may run.
    pub affinity: Cpus,
}

/// Which of a domain's vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vcpus {
    /// Every one.
    All,
    /// One.
    One(VcpuId),
}

impl Toolstack {
    /// A domain's weight and cap.
    ///
    /// # Errors
    /// The monitor's.
    pub fn share(&self, domain: DomId) -> Result<SchedulerOp, Error> {
        domctl::scheduler_parameters(domain).map_err(failed("read the domain's share"))
    }

    /// Sets a domain's weight or its cap, or both.
    ///
    /// # Errors
    /// There is no such domain; the monitor's.
    pub fn set_share(
        &self,
        name: &str,
        weight: Option<u16>,
        cap: Option<u16>,
    ) -> Result<(), Error> {
        let domain = self.find(name)?.info.domain;
        let now = self.share(domain)?;
        let (weight, cap) = (weight.unwrap_or(now.weight), cap.unwrap_or(now.cap));
        domctl::set_scheduler_parameters(domain, weight, cap)
            .map_err(failed("set the domain's share"))
    }

    /// All vCPUs of a domain.
    ///
    /// # Errors
    /// The monitor's.
    pub fn vcpus(&self, Summary { name, info }: &Summary) -> Result<Vec<Vcpu>, Error> {
        let domain = info.domain;
        let describe = |number| {
            let state = domctl::vcpu_state(domain, VcpuId(number))?;
            let affinity = Cpus::from_bits(domctl::affinity(domain, VcpuId(number))?);
            Ok(Vcpu { name: name.clone(), domain, state, affinity })
        };
        let vcpus: Result<Vec<_>, _> = (0..info.max_vcpus).map(describe).collect();
        vcpus.map_err(failed("read the state of a vCPU"))
    }

    /// Sets where a domain's vCPUs may run.
    ///
    /// # Errors
    /// There is no such domain, vCPU or CPU; the monitor's.
    pub fn pin(&self, name: &str, vcpus: Vcpus, cpus: Cpus) -> Result<(), Error> {
        let Summary { name, info } = self.find(name)?;
        match vcpus {
            Vcpus::One(VcpuId(vcpu)) if vcpu >= info.max_vcpus => {
                Err(Error::UnknownVcpu { name, vcpu, count: info.max_vcpus })
            }
            Vcpus::One(vcpu) => pin(info.domain, vcpu, cpus),
            Vcpus::All => pin_all(info.domain, info.max_vcpus, cpus),
        }
    }
}

/// Gives a new domain the share and the CPUs that its domain file says.
///
/// # Errors
/// The machine does not have these CPUs; the monitor's.
pub fn apply(domain: DomId, config: &DomainConfig) -> Result<(), Error> {
    domctl::set_scheduler_parameters(domain, config.cpu_weight, config.cap)
        .map_err(failed("set the domain's share"))?;
    if config.cpus == Cpus::ALL {
        return Ok(());
    }
    pin_all(domain, config.max_vcpus(), config.cpus)
}

fn pin_all(domain: DomId, vcpus: u32, cpus: Cpus) -> Result<(), Error> {
    (0..vcpus).try_for_each(|vcpu| pin(domain, VcpuId(vcpu), cpus))
}

fn pin(domain: DomId, vcpu: VcpuId, cpus: Cpus) -> Result<(), Error> {
    let count = sysctl::phys_info().map_err(failed("ask for the number of CPUs"))?.cpus;
    if !cpus.meets_first(count) {
        return Err(Error::NoSuchCpus { cpus, count });
    }
    domctl::set_affinity(domain, vcpu, cpus.bits()).map_err(failed("pin a vCPU"))
}
