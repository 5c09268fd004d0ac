//! `domctl`: what the toolstack does to one domain (privileged).

use abi::domctl::{
    Command, CreateDomain, DomainInfo, Domctl, INTERFACE_VERSION, MaxMemory, SchedulerCommand,
    SchedulerOp, VcpuAffinity, VcpuContext, VcpuState,
};
use abi::hypercall::Number;
use abi::{DomId, Errno, VcpuId};
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

/// The same for a payload that the monitor answers in.
fn exchange<T: IntoBytes + FromBytes + Immutable>(
    command: Command,
    domain: DomId,
    payload: &T,
) -> Result<T, Errno> {
    let answer = operate_with(command, domain, payload)?;
    T::read_from_prefix(&answer.payload).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
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

/// Tells that characters were moved in a domain's console ring: its UART may have to interrupt.
///
/// # Errors
/// What the monitor answers.
pub fn uart_moved(domain: DomId) -> Result<(), Errno> {
    operate(Command::UartOp, domain, &[]).map(drop)
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

/// Reads a domain's weight and cap: a [`SchedulerOp`] with both.
///
/// # Errors
/// What the monitor answers.
pub fn scheduler_parameters(domain: DomId) -> Result<SchedulerOp, Errno> {
    let question = SchedulerOp { command: SchedulerCommand::GetInfo.raw(), ..Default::default() };
    exchange(Command::SchedulerOp, domain, &question)
}

/// Sets a domain's weight, and its cap in percent of one CPU (0: none).
///
/// # Errors
/// What the monitor answers.
pub fn set_scheduler_parameters(domain: DomId, weight: u16, cap: u16) -> Result<(), Errno> {
    let operation = SchedulerOp { command: SchedulerCommand::PutInfo.raw(), weight, cap };
    operate_with(Command::SchedulerOp, domain, &operation).map(drop)
}

/// What a vCPU does, and where.
///
/// # Errors
/// What the monitor answers.
pub fn vcpu_state(domain: DomId, vcpu: VcpuId) -> Result<VcpuState, Errno> {
    exchange(Command::GetVcpuInfo, domain, &VcpuState { vcpu, ..VcpuState::default() })
}

/// The physical CPUs that a vCPU may use: bit n for CPU n, all ones for any.
///
/// # Errors
/// What the monitor answers.
pub fn affinity(domain: DomId, vcpu: VcpuId) -> Result<u64, Errno> {
    let question = VcpuAffinity { vcpu, ..VcpuAffinity::default() };
    exchange(Command::GetVcpuAffinity, domain, &question).map(|answer| answer.cpus)
}

/// Sets them.
///
/// # Errors
/// What the monitor answers.
pub fn set_affinity(domain: DomId, vcpu: VcpuId, cpus: u64) -> Result<(), Errno> {
    let affinity = VcpuAffinity { vcpu, cpus, padding: 0 };
    operate_with(Command::SetVcpuAffinity, domain, &affinity).map(drop)
}
