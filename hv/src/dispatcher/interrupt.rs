//! Physical interrupts: the monitor's own (timer, kicks, UART, maintenance) and those that it
//! passes on (the running vCPU's virtual timer, the privileged domain's devices).

#![expect(unsafe_code, reason = "the vectors call an entry by its name")]

use abi::DomId;
use abi::device_tree::{PHYSICAL_TIMER_PPI, VIRTUAL_TIMER_PPI};
use abi::event::Virq;
use abi::sched::ShutdownReason;

use super::{KICK, OwnInterrupts, exit, give_up, monitor, sched, settle};
use crate::allocator::Monitor;
use crate::machine::context::Context;
use crate::machine::gic::{self, Intid};
use crate::machine::lock::Guard;
use crate::machine::vectors::Resume;
use crate::machine::{percpu, timer, uart};
use crate::types::{CpuId, Ticks, VcpuKey};

/// Called by the vectors when an interrupt arrives while a vCPU runs. Handles one: if there are
/// more, the next arrives as soon as the guest is resumed.
#[unsafe(no_mangle)]
extern "C" fn irq_entry(context: &mut Context) -> Resume {
    exit::count(&mut context.exits.interrupts);
    let (Some(own), Some(intid)) = (super::OWN_INTERRUPTS.get(), gic::acknowledge()) else {
        return Resume::Guest;
    };
    if intid == own.virtual_timer {
        let fires = timer::virtual_timer::take();
        gic::end_and_deactivate(intid);
        if fires {
            monitor().raise_private(percpu::running(), VIRTUAL_TIMER_PPI);
        }
        return Resume::Guest;
    }
    let mut monitor = monitor();
    let reschedule = handle(&mut monitor, percpu::this_cpu(), own, intid);
    if settle(&mut monitor) || reschedule { give_up(monitor) } else { Resume::Guest }
}

/// Handles the interrupts that wait for this CPU while no vCPU is in it, and keeps the lock. The
/// CPU must then decide what to run.
pub(super) fn handle_pending(cpu: CpuId) -> Guard<'static, Monitor> {
    let mut monitor = monitor();
    if let Some(own) = super::OWN_INTERRUPTS.get() {
        while gic::interrupt_pending()
            && let Some(intid) = gic::acknowledge()
        {
            handle(&mut monitor, cpu, own, intid);
        }
    }
    monitor
}

/// Handles one interrupt. Returns whether the CPU must decide anew what to run.
#[inline(never)]
fn handle(monitor: &mut Monitor, cpu: CpuId, own: &OwnInterrupts, intid: Intid) -> bool {
    if intid == KICK {
        gic::end_and_deactivate(intid);
        return true;
    }
    if intid == own.timer {
        gic::end_and_deactivate(intid);
        timer::set_deadline(Ticks::NEVER);
        while let Some(domain) = monitor.watchdogs.expired(timer::now()) {
            sched::stop_domain(monitor, domain, ShutdownReason::Watchdog);
        }
        // A vCPU whose virtual timer is due takes that interrupt as soon as it runs again.
        while let Some(key) = monitor.scheduler.expired(cpu, timer::now()) {
            monitor.expire_vcpu(key);
        }
        return true;
    }
    if intid == own.virtual_timer {
        let fires = timer::virtual_timer::take();
        gic::end_and_deactivate(intid);
        if fires {
            monitor.raise_private(percpu::resident(), VIRTUAL_TIMER_PPI);
        }
    } else if intid == own.physical_timer {
        timer::set_physical_timer(None);
        gic::end_and_deactivate(intid);
        fire_physical_timer(monitor, percpu::resident());
    } else if intid == own.maintenance {
        monitor.fill_list_registers(percpu::resident());
        gic::end_and_deactivate(intid);
    } else if intid == own.uart {
        uart::receive();
        gic::end_and_deactivate(intid);
        monitor.raise_virq(DomId::DOM0, Virq::Console);
    } else {
        // What is left are the devices of the privileged domain. One stays active, hence does not
        // come again, until that domain deactivates it.
        gic::end(intid);
        monitor.raise_shared(DomId::DOM0, intid.0);
    }
    false
}

fn fire_physical_timer(monitor: &mut Monitor, key: VcpuKey) {
    let vcpu = monitor.domains.get_mut(key.domain).and_then(|domain| domain.vcpu_mut(key.vcpu));
    if let Some(vcpu) = vcpu {
        vcpu.physical_timer.fire();
        monitor.raise_private(key, PHYSICAL_TIMER_PPI);
    }
}
