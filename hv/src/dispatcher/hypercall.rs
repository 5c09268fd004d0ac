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

/// What the vectors' entry goes on to: takes the lock if it must, and puts the result in place.
/// Returns whether the vCPU gives up the CPU.
type Entry = fn(&mut Context) -> u64;

/// Numbers are looked up in tables of this many entries; Xen's lie below.
const TABLE_SIZE: usize = 64;

/// The handler and the entry for each number.
macro_rules! tables {
    ($($number:ident => $handler:path $(, $entry:path)?;)*) => {
        static HANDLERS: [Option<Handler>; TABLE_SIZE] = {
            let mut table: [Option<Handler>; TABLE_SIZE] = [None; TABLE_SIZE];
            $(table[Number::$number as usize] = Some($handler);)*
            table
        };

        static ENTRIES: [Entry; TABLE_SIZE] = {
            let mut table: [Entry; TABLE_SIZE] = [unknown; TABLE_SIZE];
            $(table[Number::$number as usize] = tables!(@entry $handler $(, $entry)?);)*
            table
        };
    };
    (@entry $handler:path) => { |context| locked(context, $handler) };
    (@entry $handler:path, $entry:path) => { $entry };
}

tables! {
    MemoryOp => memory::memory_op;
    Multicall => multicall::multicall;
    XenVersion => version::xen_version, xen_version;
    ConsoleIo => console::console_io;
    GrantTableOp => grant::grant_table_op;
    VmAssist => vcpu::vm_assist;
    VcpuOp => vcpu::vcpu_op;
    SchedOp => sched::sched_op;
    EventChannelOp => event::event_channel_op;
    HvmOp => hvm::hvm_op;
    Sysctl => sysctl::sysctl;
    Domctl => domctl::domctl;
}

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
    let number = usize::try_from(context.x[16]).unwrap_or(usize::MAX);
    match ENTRIES.get(number) {
        Some(entry) => entry(context),
        None => unknown(context),
    }
}

fn unknown(context: &mut Context) -> u64 {
    context.x[0] = Errno::ENOSYS.to_return().cast_unsigned();
    0
}

/// Answers without the lock what can be so answered.
fn xen_version(context: &mut Context) -> u64 {
    match version::immediate(context.x[0]) {
        Some(answer) => {
            context.x[0] = answer;
            0
        }
        None => locked(context, version::xen_version),
    }
}

/// Runs a handler under the monitor's lock, and settles what it left behind.
#[inline(always)]
fn locked(context: &mut Context, handler: impl FnOnce(&mut Call<'_>) -> Outcome) -> u64 {
    let Some(caller) = percpu::running() else { return 1 };
    let mut monitor = super::monitor();
    let [x0, x1, x2, x3, x4, ..] = context.x;
    let mut call = Call { monitor: &mut monitor, caller, args: [x0, x1, x2, x3, x4] };
    let outcome = handler(&mut call);
    let args = call.args;
    settle(&mut monitor);
    match outcome {
        Outcome::Return(result) => {
            context.x[0] = result;
            0
        }
        Outcome::Reschedule(result) => {
            context.x[0] = result;
            1
        }
        Outcome::Continue => {
            execute_again(context, &args);
            1
        }
    }
}

/// Has the guest execute the HVC, which is four bytes long, again with other arguments.
#[cold]
fn execute_again(context: &mut Context, args: &[u64; 5]) {
    context.x[..args.len()].copy_from_slice(args);
    context::set_elr(context::elr().wrapping_sub(4));
}
