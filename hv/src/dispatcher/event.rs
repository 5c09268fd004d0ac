//! `event_channel_op` (public/event_channel.h).

use abi::event::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Command, ExpandArray, InitControl,
    PortOnly, PortState, Reset, SetPriority, Status, Virq, fifo,
};
use abi::{DomId, Errno, Port};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::call::{Call, Outcome};
use super::quota;
use crate::allocator::Progress;
use crate::allocator::event::{Binding, Channel};
use crate::allocator::quota::Quota;
use crate::guest;
use crate::types::{GuestVa, VcpuKey};

/// x0: command, x1: pointer to its structure.
pub fn event_channel_op(call: &mut Call<'_>) -> Outcome {
    let [command, argument, ..] = *call.args;
    let argument = GuestVa(argument);
    match Command::from_raw(command) {
        Some(Command::Send) => send(call, argument).map(|()| 0).into(),
        Some(Command::Reset) => reset(call, argument),
        Some(command) => other_than_send(call, command, argument).map(|()| 0).into(),
        None => Errno::ENOSYS.into(),
    }
}

/// Out of line, so that sending does not pay for the registers and the stack that these need.
#[inline(never)]
fn other_than_send(call: &mut Call<'_>, command: Command, argument: GuestVa) -> Result<(), Errno> {
    match command {
        Command::Unmask => unmask(call, argument),
        Command::Close => close(call, argument),
        Command::AllocUnbound => answer(call, argument, alloc_unbound),
        Command::BindInterdomain => answer(call, argument, bind_interdomain),
        Command::BindVirq => answer(call, argument, bind_virq),
        Command::BindIpi => answer(call, argument, bind_ipi),
        Command::Status => answer(call, argument, status),
        Command::BindVcpu => bind_vcpu(call, argument),
        Command::InitControl => answer(call, argument, init_control),
        Command::ExpandArray => expand_array(call, argument),
        Command::SetPriority => set_priority(call, argument),
        // No physical interrupts as events on arm64. The others have been taken before.
        Command::BindPirq | Command::Send | Command::Reset => Err(Errno::ENOSYS),
    }
}

/// Runs an operation on a structure that it also answers in.
fn answer<T: FromBytes + IntoBytes + Immutable + Copy>(
    call: &mut Call<'_>,
    argument: GuestVa,
    operation: fn(&mut Call<'_>, &mut T) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let caller = call.caller;
    guest::update(call.monitor, argument, |monitor, request| {
        operation(&mut Call { monitor, caller, args: call.args }, request)
    })
}

fn send(call: &mut Call<'_>, argument: GuestVa) -> Result<(), Errno> {
    let PortOnly { port } = guest::read(call.monitor, argument)?;
    call.monitor.event_send(call.caller.domain, port)
}

fn unmask(call: &mut Call<'_>, argument: GuestVa) -> Result<(), Errno> {
    let PortOnly { port } = guest::read(call.monitor, argument)?;
    call.monitor.event_unmask(call.caller.domain, port)
}

fn close(call: &mut Call<'_>, argument: GuestVa) -> Result<(), Errno> {
    let PortOnly { port } = guest::read(call.monitor, argument)?;
    call.monitor.event_close(call.caller.domain, port)
}

fn bind_vcpu(call: &mut Call<'_>, argument: GuestVa) -> Result<(), Errno> {
    let BindVcpu { port, vcpu } = guest::read(call.monitor, argument)?;
    call.monitor.event_bind_vcpu(call.caller.domain, port, vcpu)
}

fn init_control(call: &mut Call<'_>, request: &mut InitControl) -> Result<(), Errno> {
    let key = VcpuKey { domain: call.caller.domain, vcpu: request.vcpu };
    call.monitor.event_init_control(key, request.control, request.offset)?;
    request.link_bits = fifo::LINK_BITS as u8;
    Ok(())
}

fn expand_array(call: &mut Call<'_>, argument: GuestVa) -> Result<(), Errno> {
    let ExpandArray { array } = guest::read(call.monitor, argument)?;
    call.monitor.event_expand_array(call.caller.domain, array)
}

fn set_priority(call: &mut Call<'_>, argument: GuestVa) -> Result<(), Errno> {
    let SetPriority { port, priority } = guest::read(call.monitor, argument)?;
    call.monitor.event_set_priority(call.caller.domain, port, priority)
}

fn alloc_unbound(call: &mut Call<'_>, request: &mut AllocUnbound) -> Result<(), Errno> {
    let owner = call.resolve(request.dom)?;
    let remote = own_if_self(call, request.remote);
    let port = call.monitor.event_alloc_unbound(owner, remote);
    request.port = opened(call, owner, port)?;
    Ok(())
}

fn bind_interdomain(call: &mut Call<'_>, request: &mut BindInterdomain) -> Result<(), Errno> {
    let remote = own_if_self(call, request.remote);
    let local = call.caller.domain;
    let port = call.monitor.event_bind_interdomain(local, remote, request.remote_port);
    request.local_port = opened(call, local, port)?;
    Ok(())
}

fn bind_virq(call: &mut Call<'_>, request: &mut BindVirq) -> Result<(), Errno> {
    let virq = Virq::from_raw(request.virq).ok_or(Errno::EINVAL)?;
    let port = call.monitor.event_bind_virq(call.caller.domain, virq, request.vcpu);
    request.port = opened(call, call.caller.domain, port)?;
    Ok(())
}

fn bind_ipi(call: &mut Call<'_>, request: &mut BindIpi) -> Result<(), Errno> {
    let port = call.monitor.event_bind_ipi(call.caller.domain, request.vcpu);
    request.port = opened(call, call.caller.domain, port)?;
    Ok(())
}

/// A new port of `owner`'s, if there could be one.
fn opened(call: &mut Call<'_>, owner: DomId, port: Result<Port, Errno>) -> Result<Port, Errno> {
    if port == Err(Errno::ENOSPC) {
        quota::exceeded(call.monitor, owner, Quota::EventChannels);
    }
    port
}

fn status(call: &mut Call<'_>, request: &mut Status) -> Result<(), Errno> {
    let id = call.resolve(request.dom)?;
    let Channel { binding, vcpu, .. } = call.monitor.event_status(id, request.port)?;
    request.vcpu = vcpu;
    let state = match binding {
        Binding::Closed { .. } => PortState::Closed,
        Binding::Unbound { remote } => {
            request.detail = u32::from(remote.0);
            PortState::Unbound
        }
        Binding::Interdomain { remote, port } => {
            request.detail = u32::from(remote.0);
            request.remote_port = port;
            PortState::Interdomain
        }
        Binding::Virq(virq) => {
            request.detail = virq.raw();
            PortState::Virq
        }
        Binding::Ipi => PortState::Ipi,
    };
    request.status = state.raw();
    Ok(())
}

/// Closes all ports of a domain, which gets the 2-level ABI again. Restarts itself with the same
/// arguments: what is closed by then does not come up again.
#[inline(never)]
fn reset(call: &mut Call<'_>, argument: GuestVa) -> Outcome {
    let id = match to_be_reset(call, argument) {
        Ok(id) => id,
        Err(errno) => return errno.into(),
    };
    while call.monitor.close_events(id) == Progress::More {
        if call.preempt_pending() {
            return Outcome::Continue;
        }
    }
    Ok(0).into()
}

/// The domain to be reset: the caller, or another one that is paused.
fn to_be_reset(call: &mut Call<'_>, argument: GuestVa) -> Result<DomId, Errno> {
    let Reset { dom } = guest::read(call.monitor, argument)?;
    let id = call.resolve(dom)?;
    let paused = call.monitor.domains.get(id).is_some_and(|domain| domain.paused);
    if id == call.caller.domain || paused { Ok(id) } else { Err(Errno::EINVAL) }
}

fn own_if_self(call: &Call<'_>, named: DomId) -> DomId {
    if named == DomId::SELF { call.caller.domain } else { named }
}
