//! `sched_op`: giving up the CPU, for a moment or for ever.

use abi::sched::{Command, POLL_MAX_PORTS, Poll, RemoteShutdown, Shutdown, ShutdownReason};
use abi::{DomId, Errno, Port};

use super::call::{Call, Outcome};
use crate::allocator::Monitor;
use crate::allocator::vcpu::Polling;
use crate::guest;
use crate::machine::{percpu, power, timer};
use crate::types::GuestVa;

/// `sched_op(command, argument)`
pub fn sched_op(call: &mut Call<'_>) -> Outcome {
    let [command, argument, ..] = *call.args;
    let argument = GuestVa(argument);
    match Command::from_raw(command) {
        Some(Command::Yield) if !call.monitor.scheduler.someone_waits(percpu::this_cpu()) => {
            Outcome::Return(0)
        }
        Some(Command::Yield) => {
            call.monitor.scheduler.yield_slice(percpu::this_cpu());
            Outcome::Reschedule(0)
        }
        Some(Command::Block) => {
            call.monitor.block_vcpu(call.caller, None);
            Outcome::Reschedule(0)
        }
        Some(Command::Shutdown) => shutdown(call, argument),
        Some(Command::Poll) => poll(call, argument).unwrap_or_else(Outcome::from),
        Some(Command::RemoteShutdown) => remote_shutdown(call, argument).into(),
        None => Errno::ENOSYS.into(),
    }
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
        ShutdownReason::Reboot => power::system_reset(),
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
    let deadline = match poll.timeout {
        0 => None,
        // A guest's system time is the system counter: its virtual offset is zero.
        nanoseconds => Some(timer::from_nanoseconds(nanoseconds)),
    };
    if deadline.is_some_and(|deadline| deadline <= timer::now()) {
        return Ok(Outcome::Return(0));
    }
    call.monitor.set_polling(call.caller, polling);
    call.monitor.block_vcpu(call.caller, deadline);
    Ok(Outcome::Reschedule(0))
}
