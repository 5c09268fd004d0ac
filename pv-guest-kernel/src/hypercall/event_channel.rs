//! `event_channel_op`. [`crate::event::Channel`] is the owned form of what these hand out.

use abi::event::{
    AllocUnbound, BindInterdomain, BindIpi, BindVirq, Command, PortOnly, Status, Virq,
};
use abi::hypercall::Number;
use abi::{DomId, Errno, Port, VcpuId};

#[inline]
fn operate<T>(command: Command, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: each function below pairs the command with its structure; none names memory.
    unsafe { super::with_argument(Number::EventChannelOp, command.raw(), argument) }.map(drop)
}

/// Allocates a port of `domain` that `remote` may bind. Only the privileged domain may name
/// another domain than itself.
///
/// # Errors
/// What the monitor answers.
pub fn alloc_unbound(domain: DomId, remote: DomId) -> Result<Port, Errno> {
    let mut argument = AllocUnbound { dom: domain, remote, port: Port(0) };
    operate(Command::AllocUnbound, &mut argument)?;
    Ok(argument.port)
}

/// Binds a new local port to a port that `remote` allocated for this domain.
///
/// # Errors
/// What the monitor answers.
pub fn bind_interdomain(remote: DomId, remote_port: Port) -> Result<Port, Errno> {
    let mut argument = BindInterdomain { remote, remote_port, ..Default::default() };
    operate(Command::BindInterdomain, &mut argument)?;
    Ok(argument.local_port)
}

/// Binds a local port to a virtual interrupt of vCPU 0.
///
/// # Errors
/// What the monitor answers.
pub fn bind_virq(virq: Virq) -> Result<Port, Errno> {
    let mut argument = BindVirq { virq: virq.raw(), vcpu: VcpuId(0), port: Port(0) };
    operate(Command::BindVirq, &mut argument)?;
    Ok(argument.port)
}

/// Binds a local port by which any vCPU of this domain signals `vcpu`.
///
/// # Errors
/// What the monitor answers.
pub fn bind_ipi(vcpu: VcpuId) -> Result<Port, Errno> {
    let mut argument = BindIpi { vcpu, port: Port(0) };
    operate(Command::BindIpi, &mut argument)?;
    Ok(argument.port)
}

/// Closes a local port.
///
/// # Errors
/// What the monitor answers.
pub fn close(port: Port) -> Result<(), Errno> {
    operate(Command::Close, &mut PortOnly { port })
}

/// Signals the other end.
///
/// # Errors
/// What the monitor answers.
#[inline]
pub fn send(port: Port) -> Result<(), Errno> {
    operate(Command::Send, &mut PortOnly { port })
}

/// Says what a port is bound to.
///
/// # Errors
/// What the monitor answers.
pub fn status(domain: DomId, port: Port) -> Result<Status, Errno> {
    let mut argument = Status { dom: domain, port, ..Default::default() };
    operate(Command::Status, &mut argument)?;
    Ok(argument)
}
