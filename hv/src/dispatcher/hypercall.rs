//! Hypercalls: from `HVC #0xEA1` through the table of handlers to the result in x0.

#![expect(unsafe_code, reason = "the vectors call an entry by its name")]

use abi::Errno;
use abi::event::PortOnly;
use abi::grant::{Command, Copy, MapGrantRef, UnmapGrantRef};
use abi::hypercall::Number;

use super::call::{Call, Handler, Outcome};
use super::{
    console, domctl, event, finish, give_up, grant, hvm, memory, multicall, sched, settle, sysctl,
    vcpu, version,
};
use crate::allocator::Monitor;
use crate::allocator::event::Announcement;
use crate::guest;
use crate::machine::context::{self, Context};
use crate::machine::lock::{Guard, Waiter};
use crate::machine::percpu;
use crate::machine::vectors::{HYPERCALL_TABLE_SIZE as TABLE_SIZE, Resume};
use crate::types::GuestVa;

/// What the vectors jump to. x0 to x4 and x16 are in the context; the result goes to its x0. Takes
/// the lock if it must.
type Entry = extern "C" fn(&mut Context) -> Resume;

/// The handler and the entry for each number.
macro_rules! tables {
    ($($number:ident => $handler:path $(, $entry:path)?;)*) => {
        static HANDLERS: [Option<Handler>; TABLE_SIZE] = {
            let mut table: [Option<Handler>; TABLE_SIZE] = [None; TABLE_SIZE];
            $(table[Number::$number as usize] = Some($handler);)*
            table
        };

        /// Entry 0, a number that does not exist on arm64, also serves those beyond the table.
        #[unsafe(no_mangle)]
        static HYPERCALL_ENTRIES: [Entry; TABLE_SIZE] = {
            let mut table: [Entry; TABLE_SIZE] = [unknown; TABLE_SIZE];
            $(table[Number::$number as usize] = tables!(@entry $handler $(, $entry)?);)*
            table
        };
    };
    (@entry $handler:path) => {{
        extern "C" fn entry(context: &mut Context) -> Resume {
            locked(context, $handler)
        }
        entry
    }};
    (@entry $handler:path, $entry:path) => { $entry };
}

tables! {
    MemoryOp => memory::memory_op;
    Multicall => nested_multicall, multicall;
    XenVersion => version::xen_version, xen_version;
    ConsoleIo => console::console_io;
    GrantTableOp => grant::grant_table_op, grant_table_op;
    VmAssist => vcpu::vm_assist;
    VcpuOp => vcpu::vcpu_op;
    SchedOp => sched::sched_op, sched_op;
    EventChannelOp => event::event_channel_op, event_channel_op;
    HvmOp => hvm::hvm_op;
    Sysctl => sysctl::sysctl;
    Domctl => domctl::domctl;
}

/// `multicall`, which needs to find the handlers of others.
extern "C" fn multicall(context: &mut Context) -> Resume {
    locked(context, |call| multicall::multicall(call, handler))
}

/// A multicall within a multicall would nest without bound.
fn nested_multicall(_call: &mut Call<'_>) -> Outcome {
    Errno::ENOSYS.into()
}

/// The handler of a hypercall that is part of a multicall, if it exists.
#[inline(always)]
fn handler(number: u64) -> Option<Handler> {
    HANDLERS.get(usize::try_from(number).ok()?).copied().flatten()
}

extern "C" fn unknown(context: &mut Context) -> Resume {
    context.x[0] = Errno::ENOSYS.to_return().cast_unsigned();
    Resume::Guest
}

/// Answers without the lock what can be so answered.
extern "C" fn xen_version(context: &mut Context) -> Resume {
    match version::immediate(context.x[0]) {
        Some(answer) => {
            context.x[0] = answer;
            Resume::Guest
        }
        None if context.x[0] == abi::version::Command::GetFeatures.raw() => get_features(context),
        None => other_xen_version(context),
    }
}

#[inline(never)]
fn get_features(context: &mut Context) -> Resume {
    let argument = GuestVa(context.x[1]);
    let result = version::get_features(&mut super::monitor(), percpu::running().domain, argument);
    context.x[0] = result.map_or_else(|errno| errno.to_return().cast_unsigned(), |()| 0);
    Resume::Guest
}

#[inline(never)]
fn other_xen_version(context: &mut Context) -> Resume {
    locked(context, version::xen_version)
}

/// Sending an event is what guests do most: if nobody need be told of it, it calls nothing, hence
/// saves no registers. What is not so simple begins again on the long way.
extern "C" fn event_channel_op(context: &mut Context) -> Resume {
    if context.x[0] != abi::event::Command::Send.raw() {
        return other_event_channel_op(context);
    }
    let mut monitor = match super::MONITOR.queue() {
        Ok(monitor) => monitor,
        Err(waiter) => return event_channel_op_later(context, waiter),
    };
    let Some(PortOnly { port }) = guest::peek(&monitor, GuestVa(context.x[1])) else {
        drop(monitor);
        return other_event_channel_op(context);
    };
    context.x[0] = match monitor.event_mark(percpu::running().domain, port) {
        Ok(None) => 0,
        Ok(Some(announcement)) => return announce(context, monitor, announcement),
        Err(errno) => errno.to_return().cast_unsigned(),
    };
    Resume::Guest
}

#[inline(never)]
fn event_channel_op_later(context: &mut Context, waiter: Waiter<'static, Monitor>) -> Resume {
    drop(waiter.wait());
    other_event_channel_op(context)
}

#[inline(never)]
fn announce(
    context: &mut Context,
    mut monitor: Guard<'static, Monitor>,
    announcement: Announcement,
) -> Resume {
    monitor.announce(announcement);
    context.x[0] = 0;
    finish(monitor)
}

#[inline(never)]
fn other_event_channel_op(context: &mut Context) -> Resume {
    locked(context, event::event_channel_op)
}

/// What moves data has an entry of its own for each command: input and output wait for it.
extern "C" fn grant_table_op(context: &mut Context) -> Resume {
    if context.x[0] == Command::Copy.raw() { copy_grants(context) } else { map_or_unmap(context) }
}

#[inline(never)]
extern "C" fn map_or_unmap(context: &mut Context) -> Resume {
    match Command::from_raw(context.x[0]) {
        Some(Command::MapGrantRef) => map_grants(context),
        Some(Command::UnmapGrantRef) => unmap_grants(context),
        _ => other_grant_table_op(context),
    }
}

#[inline(never)]
extern "C" fn copy_grants(context: &mut Context) -> Resume {
    locked(context, grant::each::<Copy>)
}

#[inline(never)]
extern "C" fn map_grants(context: &mut Context) -> Resume {
    locked(context, grant::each::<MapGrantRef>)
}

#[inline(never)]
extern "C" fn unmap_grants(context: &mut Context) -> Resume {
    locked(context, grant::each::<UnmapGrantRef>)
}

#[inline(never)]
extern "C" fn other_grant_table_op(context: &mut Context) -> Resume {
    locked(context, grant::grant_table_op)
}

/// Yielding is short when nobody waits, and leads to another vCPU otherwise.
extern "C" fn sched_op(context: &mut Context) -> Resume {
    if context.x[0] != abi::sched::Command::Yield.raw() {
        return other_sched_op(context);
    }
    context.x[0] = 0;
    let mut monitor = super::monitor();
    if sched::yields(&mut monitor) { give_up(monitor) } else { Resume::Guest }
}

#[inline(never)]
fn other_sched_op(context: &mut Context) -> Resume {
    locked(context, sched::sched_op)
}

/// Runs a handler under the monitor's lock, and settles what it left behind.
#[inline(always)]
fn locked(context: &mut Context, handler: impl FnOnce(&mut Call<'_>) -> Outcome) -> Resume {
    let mut monitor = super::monitor();
    let Some(args) = context.x.first_chunk_mut() else { return give_up(monitor) };
    let outcome = handler(&mut Call { monitor: &mut monitor, caller: percpu::running(), args });
    match outcome {
        Outcome::Return(result) => {
            context.x[0] = result;
            return finish(monitor);
        }
        Outcome::Reschedule(result) => context.x[0] = result,
        Outcome::Continue => execute_again(),
    }
    settle(&mut monitor);
    give_up(monitor)
}

/// Has the guest execute the HVC, which is four bytes long, again.
#[cold]
fn execute_again() {
    context::set_elr(context::elr().wrapping_sub(4));
}
