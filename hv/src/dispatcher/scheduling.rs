//! What `domctl` sets and shows of the scheduler: weights, caps, and where vCPUs run.

use abi::domctl::{SchedulerCommand, SchedulerOp, VcpuAffinity, VcpuState};
use abi::shared_info::Runstate;
use abi::{DomId, Errno};

use crate::allocator::Monitor;
use crate::allocator::scheduler::{CpuSet, Parameters};
use crate::machine::timer;
use crate::types::VcpuKey;

/// Sets or reads a domain's weight and cap.
pub(super) fn operate(
    monitor: &mut Monitor,
    domain: DomId,
    operation: &mut SchedulerOp,
) -> Result<(), Errno> {
    match SchedulerCommand::from_raw(operation.command).ok_or(Errno::EINVAL)? {
        SchedulerCommand::PutInfo => {
            let parameters = Parameters { weight: operation.weight, cap: operation.cap };
            let now = timer::now();
            let kicks = monitor.scheduler.set_parameters(domain, parameters, now)?;
            monitor.kicks.extend(kicks);
        }
        SchedulerCommand::GetInfo => {
            let Parameters { weight, cap } =
                monitor.scheduler.parameters(domain).ok_or(Errno::ESRCH)?;
            (operation.weight, operation.cap) = (weight, cap);
        }
    }
    Ok(())
}

/// Sets where a vCPU may run.
pub(super) fn set_affinity(
    monitor: &mut Monitor,
    domain: DomId,
    affinity: &VcpuAffinity,
) -> Result<(), Errno> {
    let key = VcpuKey { domain, vcpu: affinity.vcpu };
    let cpus = CpuSet::from_bits(affinity.cpus);
    let kicks = monitor.scheduler.set_affinity(key, cpus, timer::now())?;
    monitor.kicks.extend(kicks);
    Ok(())
}

/// Reads where a vCPU may run.
pub(super) fn affinity(
    monitor: &Monitor,
    domain: DomId,
    affinity: &mut VcpuAffinity,
) -> Result<(), Errno> {
    let key = VcpuKey { domain, vcpu: affinity.vcpu };
    let cpus = monitor.scheduler.place(key).ok_or(Errno::ESRCH)?.affinity;
    affinity.cpus = if cpus == CpuSet::ALL { u64::MAX } else { cpus.bits() };
    Ok(())
}

/// Reads what a vCPU does, and where.
pub(super) fn vcpu_state(
    monitor: &Monitor,
    domain: DomId,
    state: &mut VcpuState,
) -> Result<(), Errno> {
    let vcpu = monitor.domains.get(domain).and_then(|domain| domain.vcpu(state.vcpu));
    let vcpu = vcpu.ok_or(Errno::ESRCH)?;
    let place = monitor.scheduler.place(vcpu.key).ok_or(Errno::ESRCH)?;
    let times = monitor.scheduler.times(vcpu.key).ok_or(Errno::ESRCH)?;
    *state = VcpuState {
        vcpu: state.vcpu,
        cpu: place.cpu.0 as u32,
        cpu_time: timer::to_nanoseconds(times.running(timer::now())),
        online: vcpu.online.into(),
        blocked: (times.state == Runstate::Blocked).into(),
        running: (times.state == Runstate::Running).into(),
        padding: [0; 5],
    };
    Ok(())
}
