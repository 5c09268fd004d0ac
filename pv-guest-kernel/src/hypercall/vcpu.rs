//! `vcpu_op`.

use abi::hypercall::Number;
use abi::vcpu::{Command, RegisterVcpuInfo};
use abi::{Errno, VcpuId};

/// Says where events for a vCPU are announced; possible once.
///
/// # Errors
/// What the monitor answers.
///
/// # Safety
/// The monitor writes there for the rest of the domain's life.
pub unsafe fn register_info(vcpu: VcpuId, mut place: RegisterVcpuInfo) -> Result<(), Errno> {
    let command = Command::RegisterVcpuInfo.raw();
    let pointer = core::ptr::from_mut(&mut place).expose_provenance() as u64;
    // SAFETY: the structure of that command; the place is the caller's promise.
    unsafe { super::raw(Number::VcpuOp, [command, vcpu.0.into(), pointer, 0, 0]) }.map(drop)
}
