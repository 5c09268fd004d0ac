//! Physical interrupts: the monitor's own (timer, kicks, UART, maintenance) and those that it
//! passes on (the running vCPU's virtual timer, the privileged domain's devices).

#![expect(unsafe_code, reason = "the vectors call an entry by its name")]

use abi::DomId;
use abi::device_tree::VIRTUAL_TIMER_PPI;
use abi::event::Virq;

use super::{KICK, fill_list_registers, monitor, settle};
use crate::allocator::Monitor;
use crate::allocator::scheduler::CpuSet;
use crate::machine::context::Context;
use crate::machine::gic::{self, Intid};
use crate::machine::lock::Guard;
use crate::machine::{percpu, timer, uart};
use crate::types::{CpuId, VcpuKey};

/// Called by the vectors when an interrupt arrives while a vCPU runs. Returns whether the CPU must
/// decide anew what to run.
#[unsafe(no_mangle)]
extern "C" fn irq_entry(context: &mut Context) -> u64 {
    context.exits.interrupts = context.exits.interrupts.wrapping_add(1);
    let cpu = percpu::this_cpu();
    let running = percpu::running();
    let mut monitor = monitor();
    let reschedule = handle_all(&mut monitor, cpu, running);
    settle(&mut monitor);
    u64::from(reschedule)
}

/// Handles the interrupts that wait for this CPU, and keeps the lock.
pub(super) fn handle_pending(cpu: CpuId, running: Option<VcpuKey>) -> Guard<'static, Monitor> {
    let mut monitor = monitor();
    handle_all(&mut monitor, cpu, running);
    monitor
}

/// Interrupts the other CPUs that have something to look at.
pub(super) fn kick_others(monitor: &mut Monitor, cpu: CpuId) {
    super::kick(core::mem::take(&mut monitor.kicks).without(CpuSet::only(cpu)));
}

fn handle_all(monitor: &mut Monitor, cpu: CpuId, running: Option<VcpuKey>) -> bool {
    let mut reschedule = false;
    while let Some(intid) = gic::acknowledge() {
        gic::end(intid);
        reschedule |= handle(monitor, cpu, running, intid);
    }
    reschedule
}

/// Handles one interrupt whose priority was dropped. It stays active, hence does not come again,
/// until it is deactivated: by the monitor, or by the guest that it is passed on to.
fn handle(monitor: &mut Monitor, cpu: CpuId, running: Option<VcpuKey>, intid: Intid) -> bool {
    let Some(own) = super::OWN_INTERRUPTS.get() else { return false };
    if intid == own.virtual_timer {
        timer::virtual_timer::mask();
        gic::deactivate(intid);
        if let Some(key) = running {
            monitor.raise_private(key, VIRTUAL_TIMER_PPI);
        }
        return false;
    }
    if intid == own.timer {
        gic::deactivate(intid);
        timer::set_deadline(None);
        // A vCPU whose virtual timer is due takes that interrupt as soon as it runs again.
        while let Some(key) = monitor.scheduler.expired(cpu, timer::now()) {
            monitor.expire_vcpu(key);
        }
        return true;
    }
    if intid == KICK {
        gic::deactivate(intid);
        return true;
    }
    if intid == own.maintenance {
        if let Some(key) = running {
            fill_list_registers(monitor, key);
        }
        gic::deactivate(intid);
        return false;
    }
    if intid == own.uart {
        uart::receive();
        gic::deactivate(intid);
        monitor.raise_virq(DomId::DOM0, Virq::Console);
        return false;
    }
    // What is left are the devices of the privileged domain, which deactivates them itself.
    monitor.raise_shared(DomId::DOM0, intid.0);
    false
}
