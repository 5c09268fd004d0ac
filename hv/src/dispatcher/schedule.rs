//! Giving the CPU from one vCPU to another, and what a CPU does when none wants it.

#![expect(unsafe_code, reason = "the registers of one vCPU replace those of another")]

use abi::Errno;
use abi::device_tree::VIRTUAL_TIMER_PPI;

use super::vcpu::publish_runstate;
use super::{MONITOR, interrupt, monitor, settle};
use crate::allocator::Monitor;
use crate::allocator::domain::Domain;
use crate::allocator::interrupt::{Loaded, fill};
use crate::machine::context::{self, Context, IdentityState};
use crate::machine::lock::Guard;
use crate::machine::{percpu, power, timer};
use crate::types::{CpuId, Ticks, VcpuKey};

/// MPIDR_EL1 bit 31 reads as one.
const MPIDR_RES1: u64 = 1 << 31;

/// Called by the vectors when a handler gave up the CPU and kept the lock: the vCPU's registers are
/// all in its context but for those that `switch_out` saves.
#[unsafe(no_mangle)]
extern "C" fn reschedule() -> ! {
    // SAFETY: the vectors come here when a handler has answered `Resume::Another`, which only
    // `give_up` does, after it has kept the lock.
    run(unsafe { MONITOR.kept() })
}

/// Enters the first vCPU on this CPU.
pub fn enter_first() -> ! {
    run(monitor())
}

/// Runs what is to run on this CPU.
#[inline(always)]
fn run(mut monitor: Guard<'static, Monitor>) -> ! {
    let cpu = percpu::this_cpu();
    match next(&mut monitor, cpu) {
        Some(context) => go(monitor, context),
        None => wait(monitor, cpu),
    }
}

/// Waits for interrupts and handles them until there is something to run. The vCPU that ran last
/// stays in the CPU meanwhile, unless the scheduler gives it away.
#[inline(never)]
fn wait(mut monitor: Guard<'static, Monitor>, cpu: CpuId) -> ! {
    loop {
        stand_idle(&mut monitor, cpu);
        if !settle(&mut monitor) {
            drop(monitor);
            power::wait_for_interrupt();
            monitor = interrupt::handle_pending(cpu);
        }
        if let Some(context) = next(&mut monitor, cpu) {
            go(monitor, context)
        }
    }
}

/// Puts the vCPU that is to run into this CPU, and returns its context.
#[inline(always)]
fn next(monitor: &mut Monitor, cpu: CpuId) -> Option<*mut Context> {
    let key = pick(monitor, cpu)?;
    enter(monitor, cpu, key)
}

/// Lets the vCPU that [`next`] returned go on.
#[inline(always)]
fn go(mut monitor: Guard<'static, Monitor>, context: *mut Context) -> ! {
    settle(&mut monitor);
    drop(monitor);
    // SAFETY: `next` put its vCPU into this CPU, and no lock is held.
    unsafe { context::enter(context) }
}

/// Decides what runs on this CPU, and when it must decide again.
#[inline(always)]
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
    let until = monitor.scheduler.goes_on_until(cpu, timer::now());
    if let Some(until) = until {
        look_again_at(monitor, until);
    }
    until.is_none()
}

/// Sets the timer for when this CPU must decide again, or a watchdog runs out.
#[inline(always)]
fn look_again_at(monitor: &Monitor, deadline: Ticks) {
    timer::set_deadline(deadline.min(monitor.watchdogs.next()));
}

/// Gives the CPU to a vCPU, with the interrupts that wait for it. `None` if it is gone, which the
/// scheduler would have to be wrong about.
#[inline(always)]
fn enter(monitor: &mut Monitor, cpu: CpuId, key: VcpuKey) -> Option<*mut Context> {
    let arrives = percpu::resident() != key;
    if arrives {
        leave(monitor, cpu);
    }
    let Domain { vcpus, interrupts, maps_devices, .. } = monitor.domains.get_mut(key.domain)?;
    let vcpu = vcpus.get_mut(key.vcpu.0 as usize)?.as_deref_mut()?;
    let context = vcpu.context.pointer().cast::<Context>();
    if arrives {
        if let Some(deadline) = vcpu.physical_timer.deadline() {
            timer::set_physical_timer(Some(deadline));
        }
        // SAFETY: the frame holds this vCPU's context, which `start_vcpu` wrote before it came
        // online; the scheduler runs a vCPU on one CPU at a time, and the vCPU that was in this CPU
        // has left it. Its domain cannot be destroyed while it is on a CPU.
        unsafe { (*context).switch_in() };
        percpu::set_resident(key, !*maps_devices);
    }
    let stays = !arrives && percpu::running() == key;
    percpu::set_running(key);
    if timer::virtual_timer::take() {
        // It would interrupt at once.
        vcpu.interrupts.present(interrupts.enabled, &mut Loaded, VIRTUAL_TIMER_PPI);
    }
    fill(&mut vcpu.interrupts, key.vcpu, interrupts, &mut Loaded);
    if !stays && vcpu.runstate_area.is_some() {
        publish_runstate(monitor, key);
    }
    Some(context)
}

/// Takes the registers of the vCPU that is in this CPU, if there is one, and sees to it that it
/// wakes when one of its timers is due. Its timer and list registers stay alive in the CPU.
#[inline(always)]
fn leave(monitor: &mut Monitor, cpu: CpuId) {
    let key = percpu::resident();
    let domain = monitor.domains.get(key.domain);
    let Some(vcpu) = domain.and_then(|domain| domain.vcpu(key.vcpu)) else { return };
    let context = vcpu.context.pointer().cast::<Context>();
    let listed = vcpu.interrupts.listed.filled();
    let physical_timer = vcpu.physical_timer.deadline();
    if vcpu.runstate_area.is_some() && percpu::running() == key {
        publish_runstate(monitor, key);
    }
    let virtual_timer = timer::virtual_timer::deadline();
    if virtual_timer.is_some() || physical_timer.is_some() {
        stand_in(monitor, cpu, key, [virtual_timer, physical_timer]);
    }
    // SAFETY: the frame holds this vCPU's context, and its state is in this CPU, whose own block
    // says so; a domain is not destroyed before its vCPUs have left the CPUs.
    unsafe { (*context).switch_out(listed) };
}

/// Has the scheduler wake a vCPU that leaves this CPU asleep when one of its timers is due.
#[inline(never)]
fn stand_in(monitor: &mut Monitor, cpu: CpuId, key: VcpuKey, timers: [Option<Ticks>; 2]) {
    let [virtual_timer, physical_timer] = timers;
    if physical_timer.is_some() {
        timer::set_physical_timer(None);
    }
    if let Some(deadline) = Ticks::earlier(virtual_timer, physical_timer) {
        let look_at = monitor.scheduler.wake_at(cpu, key, deadline, timer::now());
        look_again_at(monitor, look_at);
    }
}

/// There is nothing to run. Takes the vCPU that is in this CPU out of it if it may not stay.
#[inline(never)]
fn stand_idle(monitor: &mut Monitor, cpu: CpuId) {
    publish_runstate(monitor, percpu::running());
    if monitor.scheduler.running_on(percpu::resident()) != Some(cpu) {
        leave(monitor, cpu);
        context::silence();
        percpu::set_resident(VcpuKey::NONE, false);
    }
    percpu::set_running(VcpuKey::NONE);
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
        gicd_base: domain.gicd_base.0,
    };
    let start = Context::reset(pc, x0, identity);
    // SAFETY: the frame is the vCPU's own and large enough for a context (asserted in `context`);
    // it is offline and on no CPU, so nobody uses it.
    unsafe { vcpu.context.pointer().cast::<Context>().write(start) }
    monitor.start_vcpu(key)
}
