//! Giving the CPU from one vCPU to another, and what a CPU does when none wants it.

#![expect(unsafe_code, reason = "the registers of one vCPU replace those of another")]

use abi::Errno;
use abi::shared_info::RunstateInfo;
use zerocopy::IntoBytes;

use super::{interrupt, monitor, settle};
use crate::allocator::Monitor;
use crate::guest;
#[cfg(target_os = "none")]
use crate::machine::context;
use crate::machine::context::{Context, IdentityState};
use crate::machine::lock::Guard;
use crate::machine::{percpu, power, timer};
use crate::types::{CpuId, VcpuKey};

/// MPIDR_EL1 bit 31 reads as one.
const MPIDR_RES1: u64 = 1 << 31;

/// Called by the vectors when a handler gave up the CPU: the vCPU's registers are all in `context`
/// but for those that `switch_out` saves. Returns the context of the vCPU to run.
#[unsafe(no_mangle)]
extern "C" fn reschedule(context: &mut Context) -> *mut Context {
    let cpu = percpu::this_cpu();
    let mut monitor = monitor();
    let next = pick(&mut monitor, cpu);
    let running = percpu::running();
    if next == Some(running) {
        monitor.fill_list_registers(running);
        settle(&mut monitor);
        return context;
    }
    // SAFETY: the vectors came here with the vCPU whose context this is.
    unsafe { context.switch_out() };
    percpu::set_running(VcpuKey::NONE, false);
    run(monitor, cpu, next)
}

/// Enters the first vCPU on this CPU.
#[cfg(target_os = "none")]
pub fn enter_first() -> ! {
    let cpu = percpu::this_cpu();
    let mut monitor = monitor();
    let next = pick(&mut monitor, cpu);
    let context = run(monitor, cpu, next);
    // SAFETY: `run` switched the context in and dropped the lock.
    unsafe { context::enter(context) }
}

/// Decides what runs on this CPU, and when it must decide again.
fn pick(monitor: &mut Monitor, cpu: CpuId) -> Option<VcpuKey> {
    let decision = monitor.scheduler.pick(cpu, timer::now());
    timer::set_deadline(decision.preempt_at);
    decision.run
}

/// Makes `next` the vCPU in this CPU. While there is none, waits for interrupts and handles them.
fn run(
    mut monitor: Guard<'static, Monitor>,
    cpu: CpuId,
    mut next: Option<VcpuKey>,
) -> *mut Context {
    loop {
        if let Some(context) = next.and_then(|key| load(&mut monitor, key)) {
            return context;
        }
        if !settle(&mut monitor) {
            drop(monitor);
            power::wait_for_interrupt();
            monitor = interrupt::handle_pending(cpu);
        }
        next = pick(&mut monitor, cpu);
    }
}

/// Switches a vCPU in. `None` if it is gone, which the scheduler would have to be wrong about.
fn load(monitor: &mut Monitor, key: VcpuKey) -> Option<*mut Context> {
    let domain = monitor.domains.get(key.domain)?;
    let vcpu = domain.vcpu(key.vcpu)?;
    let context = vcpu.context.pointer().cast::<Context>();
    let runstate_area = vcpu.runstate_area;
    let only_ram = !domain.maps_devices;
    // SAFETY: the frame holds this vCPU's context, which `start_vcpu` wrote before it came
    // online; the scheduler runs a vCPU on one CPU at a time, and the vCPU that was in this CPU
    // has been switched out. Its domain cannot be destroyed while it is on a CPU.
    unsafe { (*context).switch_in() };
    percpu::set_running(key, only_ram);
    monitor.fill_list_registers(key);
    if let Some(area) = runstate_area {
        let info = runstate(monitor, key);
        // A guest that unmaps its own record goes without.
        let _ = guest::write_bytes(monitor, area, info.as_bytes());
    }
    settle(monitor);
    Some(context)
}

/// How a vCPU has spent its time, as it may read it.
pub(super) fn runstate(monitor: &Monitor, key: VcpuKey) -> RunstateInfo {
    let Some(times) = monitor.scheduler.times(key) else { return RunstateInfo::default() };
    RunstateInfo {
        state: times.state.raw(),
        padding: 0,
        entry_time: timer::to_nanoseconds(times.since),
        time: times.total.map(timer::to_nanoseconds),
    }
}

/// Brings an offline vCPU online, at `pc` with `x0`, in the state in which Xen starts one.
pub fn start_vcpu(monitor: &mut Monitor, key: VcpuKey, pc: u64, x0: u64) -> Result<(), Errno> {
    let domain = monitor.domains.get(key.domain).ok_or(Errno::ESRCH)?;
    let vcpu = domain.vcpu(key.vcpu).ok_or(Errno::ENOENT)?;
    if vcpu.online {
        return Err(Errno::EEXIST);
    }
    if monitor.scheduler.running_on(key).is_some() {
        return Err(Errno::EAGAIN);
    }
    let identity = IdentityState {
        vmpidr: MPIDR_RES1 | u64::from(key.vcpu.0),
        vttbr: domain.stage2.vttbr(),
        // The virtual counter is the physical one: a guest's time is the machine's.
        cntvoff: 0,
        gicd_base: domain.gicd_base.0,
    };
    let start = Context::reset(pc, x0, identity);
    // SAFETY: the frame is the vCPU's own and large enough for a context (asserted in `context`);
    // it is offline and on no CPU, so nobody uses it.
    unsafe { vcpu.context.pointer().cast::<Context>().write(start) }
    monitor.start_vcpu(key)
}
