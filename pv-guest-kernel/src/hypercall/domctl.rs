//! `domctl`: what the toolstack does to one domain (privileged).

use abi::domctl::{
    Command, CreateDomain, DomainInfo, Domctl, INTERFACE_VERSION, MaxMemory, VcpuContext,
};
use abi::hypercall::Number;
use abi::{DomId, Errno};
use zerocopy::{FromBytes, Immutable, IntoBytes};

fn operate(command: Command, domain: DomId, payload: &[u8]) -> Result<Domctl, Errno> {
    let mut argument = Domctl {
        command: command.raw(),
        interface_version: INTERFACE_VERSION,
        domain,
        padding: [0; 3],
        payload: [0; 128],
    };
    argument.payload.get_mut(..payload.len()).ok_or(Errno::E2BIG)?.copy_from_slice(payload);
    let pointer = core::ptr::from_mut(&mut argument).expose_provenance() as u64;
    // SAFETY: the structure of this hypercall; no payload used below names memory.
    unsafe { super::raw(Number::Domctl, [pointer, 0, 0, 0, 0]) }?;
    Ok(argument)
}

fn operate_with<T: IntoBytes + Immutable>(
    command: Command,
    domain: DomId,
    payload: &T,
) -> Result<Domctl, Errno> {
    operate(command, domain, payload.as_bytes())
}

/// Makes a domain; it is paused and has no memory yet.
///
/// # Errors
/// What the monitor answers.
pub fn create(parameters: &CreateDomain) -> Result<DomId, Errno> {
    operate_with(Command::CreateDomain, DomId::INVALID, parameters).map(|answer| answer.domain)
}

/// Destroys a domain.
///
/// # Errors
/// What the monitor answers.
pub fn destroy(domain: DomId) -> Result<(), Errno> {
    operate(Command::DestroyDomain, domain, &[]).map(drop)
}

/// Stops a domain's vCPUs for now.
///
/// # Errors
/// What the monitor answers.
pub fn pause(domain: DomId) -> Result<(), Errno> {
    operate(Command::PauseDomain, domain, &[]).map(drop)
}

/// Lets them go on.
///
/// # Errors
/// What the monitor answers.
pub fn unpause(domain: DomId) -> Result<(), Errno> {
    operate(Command::UnpauseDomain, domain, &[]).map(drop)
}

/// Describes a domain.
///
/// # Errors
/// What the monitor answers.
pub fn info(domain: DomId) -> Result<DomainInfo, Errno> {
    let answer = operate(Command::GetDomainInfo, domain, &[])?;
    DomainInfo::read_from_prefix(&answer.payload).map(|(info, _)| info).map_err(|_| Errno::EINVAL)
}

/// Sets how many frames a domain may have.
///
/// # Errors
/// What the monitor answers.
pub fn set_max_memory(domain: DomId, max_frames: u64) -> Result<(), Errno> {
    operate_with(Command::MaxMemory, domain, &MaxMemory { max_frames }).map(drop)
}

/// Sets where a vCPU starts, and brings it online.
///
/// # Errors
/// What the monitor answers.
pub fn set_vcpu_context(domain: DomId, context: &VcpuContext) -> Result<(), Errno> {
    operate_with(Command::SetVcpuContext, domain, context).map(drop)
}
