//! Hypercalls: from `HVC #0xEA1` through the table of handlers to the result in x0.

#![expect(unsafe_code, reason = "the vectors call an entry by its name")]

use abi::Errno;
use abi::hypercall::Number;

use super::call::{Call, Outcome};
use super::{
    console, domctl, event, grant, hvm, memory, multicall, sched, settle, sysctl, vcpu, version,
};
use crate::machine::context::{self, Context};
use crate::machine::percpu;

/// What does a hypercall's work. The monitor's lock is held.
type Handler = fn(&mut Call<'_>) -> Outcome;

/// Numbers are looked up in a table of this many entries; Xen's lie below.
const TABLE_SIZE: usize = 64;

/// The handler for each number.
static HANDLERS: [Option<Handler>; TABLE_SIZE] = {
    let mut table: [Option<Handler>; TABLE_SIZE] = [None; TABLE_SIZE];
    table[Number::MemoryOp as usize] = Some(memory::memory_op);
    table[Number::Multicall as usize] = Some(multicall::multicall);
    table[Number::XenVersion as usize] = Some(version::xen_version);
    table[Number::ConsoleIo as usize] = Some(console::console_io);
    table[Number::GrantTableOp as usize] = Some(grant::grant_table_op);
    table[Number::VmAssist as usize] = Some(vcpu::vm_assist);
    table[Number::VcpuOp as usize] = Some(vcpu::vcpu_op);
    table[Number::SchedOp as usize] = Some(sched::sched_op);
    table[Number::EventChannelOp as usize] = Some(event::event_channel_op);
    table[Number::HvmOp as usize] = Some(hvm::hvm_op);
    table[Number::Sysctl as usize] = Some(sysctl::sysctl);
    table[Number::Domctl as usize] = Some(domctl::domctl);
    table
};

/// The handler of a hypercall, if it exists.
#[inline]
pub(super) fn handler(number: u64) -> Option<Handler> {
    HANDLERS.get(usize::try_from(number).ok()?).copied().flatten()
}

/// Called by the vectors. x0 to x4 and x16 are in `context`; the result goes to its x0. Returns
/// whether the vCPU gives up the CPU.
#[unsafe(no_mangle)]
extern "C" fn hypercall_entry(context: &mut Context) -> u64 {
    context.exits.hypercalls = context.exits.hypercalls.wrapping_add(1);
    let Some(handler) = handler(context.x[16]) else {
        context.x[0] = Errno::ENOSYS.to_return().cast_unsigned();
        return 0;
    };
    let [x0, x1, x2, x3, x4, ..] = context.x;
    let cpu = percpu::this_cpu();
    let Some(caller) = percpu::running() else { return 1 };
    let mut monitor = super::monitor();
    let mut call = Call { monitor: &mut monitor, caller, args: [x0, x1, x2, x3, x4], cpu };
    let outcome = handler(&mut call);
    settle(&mut monitor, cpu, caller);
    finish(context, outcome)
}

/// Puts the outcome where the guest finds it. Returns whether the vCPU gives up the CPU.
#[inline]
fn finish(context: &mut Context, outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Return(result) => {
            context.x[0] = to_register(result);
            0
        }
        Outcome::Reschedule(result) => {
            context.x[0] = to_register(result);
            1
        }
        Outcome::Continue(args) => {
            context.x[..args.len()].copy_from_slice(&args);
            // The guest executes the HVC, four bytes long, again.
            context::set_elr(context::elr().wrapping_sub(4));
            1
        }
    }
}

/// A result as x0 has it.
#[inline]
pub(super) fn to_register(result: Result<u64, Errno>) -> u64 {
    match result {
        Ok(value) => value,
        Err(errno) => errno.to_return().cast_unsigned(),
    }
}
