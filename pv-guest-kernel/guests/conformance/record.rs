//! The run-state record: what a vCPU has done with its time.

use core::mem::offset_of;
use core::sync::atomic::Ordering;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::shared_info::RunstateInfo;
use pv_guest_kernel::abi::vcpu::{Command, RegisterRunstateArea};
use pv_guest_kernel::shared::SharedPage;

use crate::call::{address, call};

/// An address that leads nowhere.
pub const NOWHERE: u64 = 8;

/// Has the record of a vCPU kept at an address.
pub fn register(vcpu: u64, place: u64) -> Result<u64, Errno> {
    let mut area = RegisterRunstateArea { address: place };
    let command = Command::RegisterRunstateMemoryArea.raw();
    call(Number::VcpuOp, [command, vcpu, address(&mut area), 0, 0])
}

/// Where a record in a page of its own is.
pub fn place(page: &SharedPage) -> u64 {
    page.as_ptr().expose_provenance().get() as u64
}

/// What the record says.
pub fn read(page: &SharedPage) -> RunstateInfo {
    let word = |offset| page.load_u64(offset, Ordering::Acquire);
    let times = offset_of!(RunstateInfo, time);
    RunstateInfo {
        state: page.load_u32(0, Ordering::Acquire),
        padding: 0,
        entry_time: word(offset_of!(RunstateInfo, entry_time)),
        time: core::array::from_fn(|index| word(times + index * 8)),
    }
}
