//! `hvm_op`: a domain's parameters.

use abi::hvm::{Command, Index, Param};
use abi::hypercall::Number;
use abi::{DomId, Errno};

fn operate(command: Command, argument: &mut Param) -> Result<(), Errno> {
    // SAFETY: both commands take this structure, which names no memory.
    unsafe { super::with_argument(Number::HvmOp, command.raw(), argument) }.map(drop)
}

/// Reads a parameter.
///
/// # Errors
/// What the monitor answers.
pub fn parameter(domain: DomId, index: Index) -> Result<u64, Errno> {
    let mut argument = Param { domid: domain, index: index.raw(), ..Default::default() };
    operate(Command::GetParam, &mut argument)?;
    Ok(argument.value)
}

/// Sets a parameter (privileged).
///
/// # Errors
/// What the monitor answers.
pub fn set_parameter(domain: DomId, index: Index, value: u64) -> Result<(), Errno> {
    let mut argument = Param { domid: domain, index: index.raw(), value, ..Default::default() };
    operate(Command::SetParam, &mut argument)
}
