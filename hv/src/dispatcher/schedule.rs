//! Giving the CPU from one vCPU to another, and what a CPU does when none wants it.

#![expect(unsafe_code, reason = "the registers of one vCPU replace those of another")]

use abi::Errno;
use abi::device_tree::VIRTUAL_TIMER_PPI;

use super::vcpu::publish_runstate;
use super::{interrupt, monitor, settle};
use crate::allocator::Monitor;
#[cfg(target_os = "none")]
use crate::machine::context;
use crate::machine::context::{Context, IdentityState};
use crate::machine::lock::Guard;
use crate::machine::{percpu, power, timer};
use crate::types::{CpuId, Ticks, VcpuKey};

/// MPIDR_EL1 bit 31 reads as one.
const MPIDR_RES1: u64 = 1 << 31;

/// Called by the vectors when a handler gave up the CPU: the vCPU's registers are all in `context`
/// but for those that `switch_out` saves. Returns the context of the vCPU to run.
#[unsafe(no_mangle)]
extern "C" fn reschedule(context: &mut Context) -> *mut Context {
    let cpu = percpu::this_cpu();
    let mut monitor = monitor();
    let next = pick(&mut monitor, cpu);
    if next == Some(percpu::running()) {
        return resume(&mut monitor, context);
    }
    publish_runstate(&monitor, percpu::running());
    percpu::set_running(VcpuKey::NONE);
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
    monitor.kicks.extend(decision.kick);
    look_again_at(monitor, decision.preempt_at);
    decision.run
}

/// Whether this CPU, which was kicked, must decide anew what it runs. Otherwise it goes on, until
/// its vCPU's slice ends.
#[inline(always)]
pub(super) fn must_pick(monitor: &Monitor, cpu: CpuId) -> bool {
    let now = timer::now();
    let must_pick = monitor.scheduler.must_pick(cpu, now);
    if !must_pick {
        look_again_at(monitor, monitor.scheduler.preempt_at(cpu, now));
    }
    must_pick
}

/// Sets the timer for when this CPU must decide again, or a watchdog runs out.
#[inline(always)]
pub(super) fn look_again_at(monitor: &Monitor, deadline: Ticks) {
    timer::set_deadline(deadline.min(monitor.watchdogs.next()));
}

/// Makes `next` the vCPU that this CPU runs. While there is none, waits for interrupts and handles
/// them; the vCPU that ran last stays in the CPU meanwhile, unless the scheduler gives it away.
fn run(
    mut monitor: Guard<'static, Monitor>,
    cpu: CpuId,
    mut next: Option<VcpuKey>,
) -> *mut Context {
    loop {
        if let Some(key) = next
            && let Some(context) = enter(&mut monitor, cpu, key)
        {
            return context;
        }
        if monitor.scheduler.running_on(percpu::resident()) != Some(cpu) {
            evict(&mut monitor, cpu);
        }
        if !settle(&mut monitor) {
            drop(monitor);
            power::wait_for_interrupt();
            monitor = interrupt::handle_pending(cpu);
        }
        next = pick(&mut monitor, cpu);
    }
}

/// Gives the CPU to a vCPU. `None` if it is gone, which the scheduler would have to be wrong about.
fn enter(monitor: &mut Monitor, cpu: CpuId, key: VcpuKey) -> Option<*mut Context> {
    if percpu::resident() != key {
        evict(monitor, cpu);
        load(monitor, key)?;
    }
    percpu::set_running(key);
    if timer::virtual_timer::deadline().is_some_and(|deadline| deadline <= timer::now()) {
        // It would interrupt at once.
        timer::virtual_timer::mask();
        monitor.raise_private(key, VIRTUAL_TIMER_PPI);
    }
    let vcpu = monitor.domains.get(key.domain)?.vcpu(key.vcpu)?;
    let context = vcpu.context.pointer().cast::<Context>();
    publish_runstate(monitor, key);
    Some(resume(monitor, context))
}

/// Has the vCPU that is in this CPU go on, with the interrupts that wait for it.
fn resume(monitor: &mut Monitor, context: *mut Context) -> *mut Context {
    monitor.fill_list_registers(percpu::running());
    settle(monitor);
    context
}

/// Takes the registers of the vCPU that is in this CPU, if there is one, and sees to it that it
/// wakes when one of its timers is due.
fn evict(monitor: &mut Monitor, cpu: CpuId) {
    let key = percpu::resident();
    let domain = monitor.domains.get(key.domain);
    let Some(vcpu) = domain.and_then(|domain| domain.vcpu(key.vcpu)) else { return };
    let context = vcpu.context.pointer().cast::<Context>();
    let physical_timer = vcpu.physical_timer.deadline();
    if physical_timer.is_some() {
        timer::set_physical_timer(None);
    }
    if let Some(deadline) = Ticks::earlier(timer::virtual_timer::deadline(), physical_timer) {
        let look_at = monitor.scheduler.wake_at(cpu, key, deadline, timer::now());
        look_again_at(monitor, look_at);
    }
    // SAFETY: the frame holds this vCPU's context, and its state is in this CPU, whose own block
    // says so; a domain is not destroyed before its vCPUs have left the CPUs.
    unsafe { (*context).switch_out() };
    percpu::set_resident(VcpuKey::NONE, false);
}

/// Switches a vCPU in.
fn load(monitor: &mut Monitor, key: VcpuKey) -> Option<()> {
    let domain = monitor.domains.get(key.domain)?;
    let vcpu = domain.vcpu(key.vcpu)?;
    if let Some(deadline) = vcpu.physical_timer.deadline() {
        timer::set_physical_timer(Some(deadline));
    }
    let context = vcpu.context.pointer().cast::<Context>();
    // SAFETY: the frame holds this vCPU's context, which `start_vcpu` wrote before it came
    // online; the scheduler runs a vCPU on one CPU at a time, and the vCPU that was in this CPU
    // has been evicted. Its domain cannot be destroyed while it is on a CPU.
    unsafe { (*context).switch_in() };
    percpu::set_resident(key, !domain.maps_devices);
    Some(())
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
