//! `multicall`: several hypercalls for the price of one trap.

use core::mem::offset_of;

use abi::Errno;
use abi::hypercall::{MulticallEntry, Number};

use super::call::{Call, Handler, Outcome};
use crate::guest::Place;
use crate::types::GuestVa;

/// `multicall(entries, count)`. It stops between two entries when an interrupt waits or when an
/// entry gave up the CPU, and goes on with the rest. An entry that wants to be continued itself is
/// written back with its new arguments. `handlers` finds the handler of a number.
pub fn multicall(call: &mut Call<'_>, handlers: fn(u64) -> Option<Handler>) -> Outcome {
    perform(call, handlers).unwrap_or_else(Outcome::from)
}

#[inline(always)]
fn perform(call: &mut Call<'_>, handlers: fn(u64) -> Option<Handler>) -> Result<Outcome, Errno> {
    let [entries, mut left, ..] = *call.args;
    let mut here = GuestVa(entries);
    let mut args = [0; 5];
    let mut inner = Call { monitor: call.monitor, caller: call.caller, args: &mut args };
    let mut found = None;
    while left > 0 {
        let (place, entry) = match found {
            Some(found) => found,
            None => Place::<MulticallEntry>::find(inner.monitor, here)?,
        };
        let [a0, a1, a2, a3, a4, _] = entry.args;
        *inner.args = [a0, a1, a2, a3, a4];
        let outcome = match handlers(entry.op) {
            Some(handler) => handler(&mut inner),
            None => Errno::ENOSYS.into(),
        };
        let place = if keeps_pages(entry.op) { place } else { place.anew() };
        let result = match outcome {
            Outcome::Return(result) | Outcome::Reschedule(result) => result,
            Outcome::Continue => {
                place.write(inner.monitor, offset_of!(MulticallEntry, args), *inner.args)?;
                return Ok(go_on(call, here, left));
            }
        };
        place.write(inner.monitor, offset_of!(MulticallEntry, result), result)?;
        left -= 1;
        here = GuestVa(here.0.wrapping_add(size_of::<MulticallEntry>() as u64));
        let gives_way = matches!(outcome, Outcome::Reschedule(_));
        if gives_way && left == 0 {
            return Ok(Outcome::Reschedule(0));
        }
        if gives_way || (left > 0 && inner.preempt_pending()) {
            return Ok(go_on(call, here, left));
        }
        found = place.next();
    }
    Ok(Outcome::Return(0))
}

/// The outcome that makes the caller go on with the entries that are left.
#[cold]
fn go_on(call: &mut Call<'_>, entries: GuestVa, left: u64) -> Outcome {
    call.proceed([entries.0, left, 0, 0, 0])
}

/// Whether it is known of a hypercall that no page of the caller's is mapped elsewhere after it:
/// then the entries are where they were.
#[inline(always)]
fn keeps_pages(number: u64) -> bool {
    const KEEPING: u64 = 1 << Number::XenVersion as u64
        | 1 << Number::ConsoleIo as u64
        | 1 << Number::VcpuOp as u64
        | 1 << Number::SchedOp as u64
        | 1 << Number::EventChannelOp as u64;
    number < u64::from(u64::BITS) && KEEPING >> number & 1 != 0
}
