//! `vcpu_op` and `vm_assist`: where a vCPU keeps the records that it shares with the monitor.

use abi::vcpu::{
    ASSIST_DISABLE, ASSIST_ENABLE, ASSIST_RUNSTATE_UPDATE_FLAG, Command, RegisterRunstateArea,
    RegisterVcpuInfo,
};
use abi::{Errno, VcpuId};

use super::call::{Call, Outcome};
use super::schedule;
use crate::guest;
use crate::types::{GuestVa, VcpuKey};

/// `vcpu_op(command, vcpu, argument)`
pub fn vcpu_op(call: &mut Call<'_>) -> Outcome {
    let [command, vcpu, argument, ..] = *call.args;
    let argument = GuestVa(argument);
    let Some(command) = Command::from_raw(command) else { return Errno::ENOSYS.into() };
    let target = match target(call, vcpu) {
        Ok(target) => target,
        Err(errno) => return errno.into(),
    };
    match command {
        Command::RegisterVcpuInfo => register_info(call, target, argument).into(),
        Command::RegisterRunstateMemoryArea => register_runstate(call, target, argument).into(),
    }
}

/// A vCPU of the caller's domain.
fn target(call: &mut Call<'_>, vcpu: u64) -> Result<VcpuKey, Errno> {
    let vcpu = VcpuId(u32::try_from(vcpu).map_err(|_| Errno::ENOENT)?);
    call.domain()?.vcpu(vcpu).ok_or(Errno::ENOENT)?;
    Ok(VcpuKey { domain: call.caller.domain, vcpu })
}

fn register_info(call: &mut Call<'_>, target: VcpuKey, argument: GuestVa) -> Result<u64, Errno> {
    let place: RegisterVcpuInfo = guest::read(call.monitor, argument)?;
    call.monitor.register_vcpu_info(target, place.gfn, place.offset)?;
    call.monitor.replay_events(target);
    Ok(0)
}

/// The record is written by the vCPU's address: it must be the caller itself, whose tables are in
/// use. It is written now, and whenever the vCPU gets a CPU.
fn register_runstate(
    call: &mut Call<'_>,
    target: VcpuKey,
    argument: GuestVa,
) -> Result<u64, Errno> {
    if target != call.caller {
        return Err(Errno::EOPNOTSUPP);
    }
    let area: RegisterRunstateArea = guest::read(call.monitor, argument)?;
    let place = GuestVa(area.address);
    guest::write(call.monitor, place, &schedule::runstate(call.monitor, target))?;
    if let Some(vcpu) = call.domain()?.vcpu_mut(target.vcpu) {
        vcpu.runstate_area = Some(place);
    }
    Ok(0)
}

/// `vm_assist(command, type)`. The run-state flag is accepted and has nothing to announce: a record
/// is written only while its vCPU is not running, so no reader sees half of it.
pub fn vm_assist(call: &mut Call<'_>) -> Outcome {
    let [command, kind, ..] = *call.args;
    match (command, kind) {
        (ASSIST_ENABLE | ASSIST_DISABLE, ASSIST_RUNSTATE_UPDATE_FLAG) => Outcome::Return(0),
        (ASSIST_ENABLE | ASSIST_DISABLE, _) => Errno::EINVAL.into(),
        _ => Errno::ENOSYS.into(),
    }
}
