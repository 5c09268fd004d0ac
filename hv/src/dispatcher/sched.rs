//! `sched_op`: giving up the CPU, for a moment or for ever.

use abi::sched::{
    Command, POLL_MAX_PORTS, Poll, RemoteShutdown, Shutdown, ShutdownReason, Watchdog,
};
use abi::{DomId, Errno, Port};

use super::call::{Call, Outcome};
use crate::allocator::Monitor;
use crate::allocator::vcpu::Polling;
use crate::guest;
use crate::machine::{context, percpu, power, timer};
use crate::types::{GuestVa, Ticks};

/// PSTATE.I: interrupts are masked.
const PSTATE_IRQ_MASKED: u64 = 1 << 7;

/// `sched_op(command, argument)`
pub fn sched_op(call: &mut Call<'_>) -> Outcome {
    let [command, argument, ..] = *call.args;
    let argument = GuestVa(argument);
    match Command::from_raw(command) {
        Some(Command::Yield) if yields(call.monitor) => Outcome::Reschedule(0),
        Some(Command::Yield) => Outcome::Return(0),
        Some(Command::Block) => block(call),
        Some(Command::Shutdown) => shutdown(call, argument),
        Some(Command::Poll) => poll(call, argument).unwrap_or_else(Outcome::from),
        Some(Command::RemoteShutdown) => remote_shutdown(call, argument).into(),
        Some(Command::ShutdownCode) => shutdown_code(call, argument).into(),
        Some(Command::Watchdog) => watchdog(call, argument).unwrap_or_else(Outcome::from),
        None => Errno::ENOSYS.into(),
    }
}

/// Ends the caller's slice if somebody waits for this CPU. Returns whether it gives up the CPU.
#[inline(always)]
pub(super) fn yields(monitor: &mut Monitor) -> bool {
    let cpu = percpu::this_cpu();
    let yields = monitor.scheduler.someone_waits(cpu);
    if yields {
        monitor.scheduler.yield_slice(cpu);
    }
    yields
}

/// Unmasks interrupts and sleeps until one comes. Xen unmasks, too: the caller shall not have to
/// do it before, when the interrupt could come between the two.
fn block(call: &mut Call<'_>) -> Outcome {
    context::set_spsr(context::spsr() & !PSTATE_IRQ_MASKED);
    if call.monitor.interrupt_waits(call.caller) {
        return Outcome::Return(0);
    }
    sleep(call, None)
}

/// Puts the caller to sleep until something wakes it, be it its virtual timer, or until `deadline`.
fn sleep(call: &mut Call<'_>, deadline: Option<Ticks>) -> Outcome {
    let is_past = deadline.is_some_and(|deadline| deadline <= timer::now());
    if is_past || timer::virtual_timer::is_due() {
        return Outcome::Return(0);
    }
    call.monitor.sleep(deadline);
    Outcome::Reschedule(0)
}

fn shutdown(call: &mut Call<'_>, argument: GuestVa) -> Outcome {
    let shutdown: Shutdown = match guest::read(call.monitor, argument) {
        Ok(shutdown) => shutdown,
        Err(errno) => return errno.into(),
    };
    let Some(reason) = ShutdownReason::from_raw(shutdown.reason) else {
        return Errno::EINVAL.into();
    };
    stop_domain(call.monitor, call.caller.domain, reason);
    Outcome::Reschedule(0)
}

/// Stops the calling domain. The privileged domain takes the machine with it.
pub(super) fn stop_domain(monitor: &mut Monitor, domain: DomId, reason: ShutdownReason) {
    if domain == DomId::DOM0 {
        stop_machine(reason);
    }
    monitor.shut_down_domain(domain, reason);
}

fn stop_machine(reason: ShutdownReason) -> ! {
    match reason {
        ShutdownReason::Reboot | ShutdownReason::Watchdog => power::system_reset(),
        ShutdownReason::Crash => panic!("dom0 crashed; its own message stands above"),
        _ => {
            log::info!("dom0 has shut down ({reason:?}): powering off");
            power::system_off()
        }
    }
}

fn remote_shutdown(call: &mut Call<'_>, argument: GuestVa) -> Result<u64, Errno> {
    call.privileged()?;
    let shutdown: RemoteShutdown = guest::read(call.monitor, argument)?;
    let reason = ShutdownReason::from_raw(shutdown.reason).ok_or(Errno::EINVAL)?;
    let domain = call.resolve(shutdown.dom)?;
    call.monitor.shut_down_domain(domain, reason);
    Ok(0)
}

/// Sleeps until one of the ports is pending. Masked ports count: that is what polling is for.
fn poll(call: &mut Call<'_>, argument: GuestVa) -> Result<Outcome, Errno> {
    let poll: Poll = guest::read(call.monitor, argument)?;
    if poll.nr_ports > POLL_MAX_PORTS {
        return Err(Errno::EINVAL);
    }
    let mut polling = Polling::Any;
    for index in 0..poll.nr_ports {
        let port: Port = guest::read_element(call.monitor, GuestVa(poll.ports), u64::from(index))?;
        if call.monitor.event_pending(call.caller.domain, port)? {
            return Ok(Outcome::Return(0));
        }
        if poll.nr_ports == 1 {
            polling = Polling::Port(port);
        }
    }
    // Who takes interrupts shall take one that waits.
    let unmasked = context::spsr() & PSTATE_IRQ_MASKED == 0;
    if unmasked && call.monitor.interrupt_waits(call.caller) {
        return Ok(Outcome::Return(0));
    }
    let deadline = match poll.timeout {
        0 => None,
        // A guest's system time is the system counter: its virtual offset is zero.
        nanoseconds => Some(timer::from_nanoseconds(nanoseconds)),
    };
    let outcome = sleep(call, deadline);
    if let Outcome::Reschedule(_) = outcome {
        call.monitor.set_polling(call.caller, polling);
    }
    Ok(outcome)
}

/// Notes why the caller's domain will have stopped, once it does. The first word counts.
fn shutdown_code(call: &mut Call<'_>, argument: GuestVa) -> Result<u64, Errno> {
    let shutdown: Shutdown = guest::read(call.monitor, argument)?;
    let reason = ShutdownReason::from_raw(shutdown.reason).ok_or(Errno::EINVAL)?;
    call.domain()?.shutdown_code.get_or_insert(reason);
    Ok(0)
}

/// Sets, winds up or stops a watchdog of the caller's domain.
fn watchdog(call: &mut Call<'_>, argument: GuestVa) -> Result<Outcome, Errno> {
    const NANOSECONDS: u64 = 1_000_000_000;
    let Watchdog { id, timeout } = guest::read(call.monitor, argument)?;
    let ticks = timer::from_nanoseconds(u64::from(timeout) * NANOSECONDS);
    let at = Ticks(timer::now().0.saturating_add(ticks.0));
    let domain = call.caller.domain;
    let watchdogs = &mut call.monitor.watchdogs;
    let number = match (id, timeout) {
        (0, _) => watchdogs.set_new(domain, at)?,
        (_, 0) => watchdogs.set(domain, id, None).map(|()| 0)?,
        _ => watchdogs.set(domain, id, Some(at)).map(|()| 0)?,
    };
    // This CPU sets its timer for it when it decides what to run.
    Ok(Outcome::Reschedule(number.into()))
}
