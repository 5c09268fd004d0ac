//! `multicall`: several hypercalls for the price of one trap.

use core::mem::offset_of;

use abi::Errno;
use abi::hypercall::MulticallEntry;

use super::call::{Call, Handler, Outcome};
use crate::guest;
use crate::types::GuestVa;

/// `multicall(entries, count)`. It stops between two entries when an interrupt waits or when an
/// entry gave up the CPU, and goes on with the rest. An entry that wants to be continued itself is
/// written back with its new arguments. `handlers` finds the handler of a number.
pub fn multicall(call: &mut Call<'_>, handlers: fn(u64) -> Option<Handler>) -> Outcome {
    let [entries, count, ..] = *call.args;
    for index in 0..count {
        let step = match one(call, handlers, GuestVa(entries), index) {
            Ok(step) => step,
            Err(errno) => return errno.into(),
        };
        let rest = match step {
            Step::Again => index,
            Step::DoneAndReschedule if index + 1 == count => return Outcome::Reschedule(0),
            Step::DoneAndReschedule => index + 1,
            Step::Done if index + 1 < count && call.preempt_pending() => index + 1,
            Step::Done => continue,
        };
        return match guest::element::<MulticallEntry>(GuestVa(entries), rest) {
            Ok(first) => call.proceed([first.0, count - rest, 0, 0, 0]),
            Err(errno) => errno.into(),
        };
    }
    Outcome::Return(0)
}

/// What became of one entry.
enum Step {
    Done,
    DoneAndReschedule,
    Again,
}

/// Performs entry `index`. What it changes is written back; the page may be another by then, so it
/// is looked up again.
fn one(
    call: &mut Call<'_>,
    handlers: fn(u64) -> Option<Handler>,
    entries: GuestVa,
    index: u64,
) -> Result<Step, Errno> {
    let place = guest::element::<MulticallEntry>(entries, index)?;
    let MulticallEntry { op, args: [a0, a1, a2, a3, a4, _], .. } =
        guest::read(call.monitor, place)?;
    let args = &mut [a0, a1, a2, a3, a4];
    let mut inner = Call { monitor: call.monitor, caller: call.caller, args };
    let outcome = handlers(op).map_or(Errno::ENOSYS.into(), |handler| handler(&mut inner));
    let (step, result) = match outcome {
        Outcome::Return(result) => (Step::Done, result),
        Outcome::Reschedule(result) => (Step::DoneAndReschedule, result),
        Outcome::Continue => {
            let field = field(place, offset_of!(MulticallEntry, args))?;
            guest::write(call.monitor, field, args)?;
            return Ok(Step::Again);
        }
    };
    let field = field(place, offset_of!(MulticallEntry, result))?;
    guest::write(call.monitor, field, &result)?;
    Ok(step)
}

/// The address of a field of the entry at `place`.
fn field(place: GuestVa, offset: usize) -> Result<GuestVa, Errno> {
    place.0.checked_add(offset as u64).map(GuestVa).ok_or(Errno::EFAULT)
}
