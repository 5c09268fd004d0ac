//! Numbers that name nothing.

use pv_guest_kernel::abi::Errno::{EINVAL, ENOENT, ENOSYS};
use pv_guest_kernel::abi::hypercall::{MulticallEntry, Number};

use crate::border::{Border, address};

/// No hypercall has any of these.
const NUMBERS: [u64; 6] = [0, 1, 19, 63, 64, u64::MAX];
/// No command has this.
const COMMAND: u64 = 4711;

/// Tries them.
pub fn attempts(border: &mut Border) {
    for number in NUMBERS {
        border.call("unknown hypercall", number, [0; 5], &[ENOSYS]);
    }
    let with_commands = [
        ("version command", Number::XenVersion),
        ("event command", Number::EventChannelOp),
        ("grant command", Number::GrantTableOp),
        ("scheduler command", Number::SchedOp),
        ("parameter command", Number::HvmOp),
    ];
    for (what, number) in with_commands {
        border.call(what, number.raw(), [COMMAND, 0, 0, 0, 0], &[ENOSYS]);
    }
    // Xen on Arm answers these otherwise than most.
    border.call("vCPU command", Number::VcpuOp.raw(), [COMMAND, 0, 0, 0, 0], &[EINVAL]);
    border.call("assist type", Number::VmAssist.raw(), [0, COMMAND, 0, 0, 0], &[EINVAL]);
    border.call("assist command", Number::VmAssist.raw(), [COMMAND, 5, 0, 0, 0], &[ENOSYS]);
    border.call("memory command", Number::MemoryOp.raw(), [63, 0, 0, 0, 0], &[ENOSYS]);
    border.call("someone's vCPU", Number::VcpuOp.raw(), [10, COMMAND, 0, 0, 0], &[ENOENT]);
    border.call("vCPU 2^32", Number::VcpuOp.raw(), [10, 1 << 32, 0, 0, 0], &[ENOENT, EINVAL]);
    nested_multicall(border);
}

fn nested_multicall(border: &mut Border) {
    let op = Number::Multicall.raw();
    let mut entry = MulticallEntry { op, ..Default::default() };
    let arguments = [address(&mut entry), 1, 0, 0, 0];
    crate::border::hypercall(op, arguments);
    let result = entry.result.cast_signed();
    border.note("multicall within a multicall", result, result == ENOSYS.to_return());
}
