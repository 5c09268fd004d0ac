//! Calls of firmware: `HVC #0` and SMC, to PSCI and to what else the SMC calling convention has.

use abi::psci::{Affinity, Error};
use abi::{DomId, VcpuId};

use super::exit::{count, skip_instruction, take};
use super::{finish, give_up, monitor, sched, schedule, settle};
use crate::allocator::Monitor;
use crate::interpreter::exception::Fault;
use crate::interpreter::psci::{self, Request};
use crate::interpreter::smccc;
use crate::machine::context::Context;
use crate::machine::percpu;
use crate::machine::vectors::Resume;
use crate::types::VcpuKey;

/// An HVC whose immediate is not that of hypercalls.
pub(super) extern "C" fn hvc(context: &mut Context, syndrome: u64) -> Resume {
    /// ISS: the immediate.
    const IMMEDIATE: u64 = 0xFFFF;
    if syndrome & IMMEDIATE != 0 {
        return take(Fault::Undefined);
    }
    call(context)
}

/// An SMC. Unlike an HVC it has not been executed when it traps.
pub(super) extern "C" fn smc(context: &mut Context, _syndrome: u64) -> Resume {
    skip_instruction();
    call(context)
}

fn call(context: &mut Context) -> Resume {
    count(&mut context.exits.firmware_calls);
    let [x0, x1, x2, x3, ..] = context.x;
    let Some(request) = psci::decode([x0, x1, x2, x3]) else {
        context.x[..4].copy_from_slice(&smccc::answer(x0, x1));
        return Resume::Guest;
    };
    let caller = percpu::running();
    context.x[0] = match request {
        Request::Answer(value) => value,
        Request::CpuOn { target, entry, context: argument } => {
            let mut monitor = monitor();
            let result = cpu_on(&mut monitor, caller.domain, target, entry, argument);
            context.x[0] = result.map_or_else(Error::to_register, |()| 0);
            return finish(monitor);
        }
        Request::AffinityInfo { target } => affinity_info(caller.domain, target),
        Request::CpuOff => {
            let mut monitor = monitor();
            monitor.stop_vcpu(caller);
            return give_up(monitor);
        }
        Request::Shutdown(reason) => {
            let mut monitor = monitor();
            sched::stop_domain(&mut monitor, caller.domain, reason);
            settle(&mut monitor);
            return give_up(monitor);
        }
    };
    Resume::Guest
}

/// The vCPU of a domain with this affinity, and whether it is on: it is, too, as long as it has not
/// left its CPU.
fn vcpu_with_affinity(monitor: &Monitor, domain: DomId, affinity: u64) -> Option<(VcpuKey, bool)> {
    let vcpu = VcpuId(u32::try_from(affinity).ok()?);
    let vcpu = monitor.domains.get(domain)?.vcpu(vcpu)?;
    Some((vcpu.key, vcpu.online || monitor.scheduler.running_on(vcpu.key).is_some()))
}

fn affinity_info(domain: DomId, target: u64) -> u64 {
    match vcpu_with_affinity(&monitor(), domain, target) {
        Some((_, true)) => Affinity::On.raw(),
        Some((_, false)) => Affinity::Off.raw(),
        None => Error::InvalidParameters.to_register(),
    }
}

fn cpu_on(
    monitor: &mut Monitor,
    domain: DomId,
    target: u64,
    entry: u64,
    argument: u64,
) -> Result<(), Error> {
    match vcpu_with_affinity(monitor, domain, target) {
        None => Err(Error::InvalidParameters),
        Some((_, true)) => Err(Error::AlreadyOn),
        Some((key, false)) => {
            schedule::start_vcpu(monitor, key, entry, argument).map_err(|_| Error::AlreadyOn)
        }
    }
}
