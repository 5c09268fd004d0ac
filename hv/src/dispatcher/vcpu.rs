//! `vcpu_op` and `vm_assist`: where a vCPU keeps the records that it shares with the monitor.

use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};

use abi::shared_info::RunstateInfo;
use abi::vcpu::{
    ASSIST_DISABLE, ASSIST_ENABLE, ASSIST_RUNSTATE_UPDATE_FLAG, Command, RegisterRunstateArea,
    RegisterVcpuInfo,
};
use abi::{Errno, VcpuId};

use super::call::{Call, Outcome};
use crate::allocator::Monitor;
use crate::guest;
use crate::machine::timer;
use crate::types::{GuestVa, VcpuKey};

/// `vcpu_op(command, vcpu, argument)`. Starting and stopping is PSCI's matter on Arm: Xen, too,
/// answers those commands `EINVAL`.
pub fn vcpu_op(call: &mut Call<'_>) -> Outcome {
    let [command, vcpu, argument, ..] = *call.args;
    let argument = GuestVa(argument);
    let target = match target(call, vcpu) {
        Ok(target) => target,
        Err(errno) => return errno.into(),
    };
    match Command::from_raw(command) {
        Some(Command::RegisterVcpuInfo) => register_info(call, target, argument).into(),
        Some(Command::RegisterRunstateMemoryArea) => {
            register_runstate(call, target, argument).into()
        }
        None => Errno::EINVAL.into(),
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

/// Notes where the guest wants a vCPU's run state. The address is looked up in the vCPU's own
/// tables whenever the record is written, so nothing is wrong with one that leads nowhere now.
fn register_runstate(
    call: &mut Call<'_>,
    target: VcpuKey,
    argument: GuestVa,
) -> Result<u64, Errno> {
    let area: RegisterRunstateArea = guest::read(call.monitor, argument)?;
    let place = GuestVa(area.address);
    let vcpu = call.domain()?.vcpu_mut(target.vcpu).ok_or(Errno::ENOENT)?;
    vcpu.runstate_area = Some(place);
    let _ = guest::write(call.monitor, place, &runstate(call.monitor, target));
    Ok(0)
}

/// Writes the run state of the vCPU that is loaded on this CPU to where it wants it, if it does.
#[inline(always)]
pub(super) fn publish_runstate(monitor: &Monitor, key: VcpuKey) {
    let Some(domain) = monitor.domains.get(key.domain) else { return };
    if let Some(place) = domain.vcpu(key.vcpu).and_then(|vcpu| vcpu.runstate_area) {
        publish_at(monitor, key, place, domain.runstate_update_flag);
    }
}

/// One that has unmapped its record goes without.
#[inline(never)]
fn publish_at(monitor: &Monitor, key: VcpuKey, place: GuestVa, announced: bool) {
    let _ = write_runstate(monitor, place, &runstate(monitor, key), announced);
}

/// Another vCPU may read the record meanwhile. If the guest asked for it (`vm_assist`), it learns
/// by the highest bit of the entry time that it must read again.
fn write_runstate(
    monitor: &Monitor,
    place: GuestVa,
    info: &RunstateInfo,
    announced: bool,
) -> Result<(), Errno> {
    if !announced {
        return guest::write(monitor, place, info);
    }
    let entry_time = GuestVa(place.0.wrapping_add(offset_of!(RunstateInfo, entry_time) as u64));
    let updating = RunstateInfo { entry_time: info.entry_time | RunstateInfo::UPDATE, ..*info };
    guest::write(monitor, entry_time, &updating.entry_time)?;
    fence(Ordering::Release);
    guest::write(monitor, place, &updating)?;
    fence(Ordering::Release);
    guest::write(monitor, entry_time, &info.entry_time)
}

/// How a vCPU has spent its time, as it may read it.
fn runstate(monitor: &Monitor, key: VcpuKey) -> RunstateInfo {
    let Some(times) = monitor.scheduler.times(key) else { return RunstateInfo::default() };
    RunstateInfo {
        state: times.state.raw(),
        padding: 0,
        entry_time: timer::to_nanoseconds(times.since),
        time: times.total.map(timer::to_nanoseconds),
    }
}

/// `vm_assist(command, type)`. One type exists on Arm.
pub fn vm_assist(call: &mut Call<'_>) -> Outcome {
    let [command, kind, ..] = *call.args;
    if kind != ASSIST_RUNSTATE_UPDATE_FLAG {
        return Errno::EINVAL.into();
    }
    let wanted = match command {
        ASSIST_ENABLE => true,
        ASSIST_DISABLE => false,
        _ => return Errno::ENOSYS.into(),
    };
    match call.domain() {
        Ok(domain) => {
            domain.runstate_update_flag = wanted;
            Outcome::Return(0)
        }
        Err(errno) => errno.into(),
    }
}
