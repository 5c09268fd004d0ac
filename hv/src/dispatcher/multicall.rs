//! `multicall`: several hypercalls for the price of one trap.

use core::mem::offset_of;

use abi::Errno;
use abi::hypercall::{MulticallEntry, Number};

use super::call::{Call, Handler, Outcome};
use super::{console, event, sched, vcpu, version};
use crate::guest::{Place, Run};
use crate::machine::vectors::HYPERCALL_TABLE_SIZE as TABLE_SIZE;
use crate::types::GuestVa;

/// `multicall(entries, count)`. It stops between two entries when an interrupt waits or when an
/// entry gave up the CPU, and goes on with the rest. An entry that wants to be continued itself is
/// written back with its new arguments. `handlers` finds the handler of a number.
#[inline(always)]
pub fn multicall(call: &mut Call<'_>, handlers: fn(u64) -> Option<Handler>) -> Outcome {
    let [entries, left, ..] = *call.args;
    let mut rest = Rest { entries: GuestVa(entries), left };
    let mut inner = Call { monitor: call.monitor, caller: call.caller, args: &mut [0; 5] };
    let stop = loop {
        let step = match perform_run(&mut inner, &mut rest) {
            None if rest.left == 0 => return Outcome::Return(0),
            None => perform_one(&mut inner, handlers, &mut rest),
            Some((outcome, place)) => answer(&inner, place, outcome, &mut rest),
        };
        match step {
            Ok(Step::Done) if rest.left == 0 || !inner.preempt_pending() => {}
            stop => break stop,
        }
    };
    match stop {
        Ok(Step::GaveWay) if rest.left == 0 => Outcome::Reschedule(0),
        Ok(_) => call.proceed([rest.entries.0, rest.left, 0, 0, 0]),
        Err(errno) => errno.into(),
    }
}

/// The entries that are to be performed.
#[derive(Debug)]
struct Rest {
    entries: GuestVa,
    left: u64,
}

impl Rest {
    fn skip(&mut self, count: u64) {
        let bytes = count.wrapping_mul(size_of::<MulticallEntry>() as u64);
        self.entries = GuestVa(self.entries.0.wrapping_add(bytes));
        self.left = self.left.saturating_sub(count);
    }
}

/// What came of an entry.
#[derive(Debug)]
enum Step {
    /// It is done.
    Done,
    /// It is done, and gave up the CPU.
    GaveWay,
    /// It is to be continued.
    Again,
}

const ARGS: usize = offset_of!(MulticallEntry, args);
const RESULT: usize = offset_of!(MulticallEntry, result);

/// Performs entries that follow each other in one page, up to the first that is not done with its
/// result. Returns what came of that one, if it was begun.
#[inline(always)]
fn perform_run(call: &mut Call<'_>, rest: &mut Rest) -> Option<(Outcome, Place<MulticallEntry>)> {
    let mut run = Run::<MulticallEntry>::find(call.monitor, rest.entries, rest.left)?;
    while let Some(found) = run.next() {
        let entry = found.read();
        set_arguments(call, &entry);
        match quick(entry.op)(call) {
            Outcome::Return(result) => found.write(RESULT, result),
            outcome => {
                rest.skip(run.taken() - 1);
                return keeps_pages(entry.op).then(|| (outcome, found.at(rest.entries)));
            }
        }
        if call.preempt_pending() {
            break;
        }
    }
    rest.skip(run.taken());
    None
}

/// Performs an entry after which it may be elsewhere, if it is anywhere.
#[inline(never)]
fn perform_one(
    call: &mut Call<'_>,
    handlers: fn(u64) -> Option<Handler>,
    rest: &mut Rest,
) -> Result<Step, Errno> {
    let (place, entry) = Place::<MulticallEntry>::find(call.monitor, rest.entries)?;
    set_arguments(call, &entry);
    let outcome = handlers(entry.op).map_or(Errno::ENOSYS.into(), |handler| handler(call));
    answer(call, place.anew(), outcome, rest)
}

/// Writes what came of an entry.
#[inline(never)]
fn answer(
    call: &Call<'_>,
    place: Place<MulticallEntry>,
    outcome: Outcome,
    rest: &mut Rest,
) -> Result<Step, Errno> {
    let (step, result) = match outcome {
        Outcome::Return(result) => (Step::Done, result),
        Outcome::Reschedule(result) => (Step::GaveWay, result),
        Outcome::Continue => {
            place.write(call.monitor, ARGS, *call.args)?;
            return Ok(Step::Again);
        }
    };
    place.write(call.monitor, RESULT, result)?;
    rest.skip(1);
    Ok(step)
}

#[inline(always)]
fn set_arguments(call: &mut Call<'_>, entry: &MulticallEntry) {
    let [a0, a1, a2, a3, a4, _] = entry.args;
    *call.args = [a0, a1, a2, a3, a4];
}

/// The handlers of which it is known that no page of the caller's is mapped elsewhere when they are
/// done: then the entries are where they were.
const KEEPING_PAGES: [(Number, Handler); 5] = [
    (Number::XenVersion, version::xen_version),
    (Number::ConsoleIo, console::console_io),
    (Number::VcpuOp, vcpu::vcpu_op),
    (Number::SchedOp, sched::sched_op),
    (Number::EventChannelOp, event::event_channel_op),
];

#[cold]
fn keeps_pages(number: u64) -> bool {
    KEEPING_PAGES.iter().any(|(keeping, _)| keeping.raw() == number)
}

/// They by their number; for others, what does nothing.
static QUICK: [Handler; TABLE_SIZE] = {
    let mut table: [Handler; TABLE_SIZE] = [begin_later; TABLE_SIZE];
    let mut index = 0;
    while index < KEEPING_PAGES.len() {
        let (number, handler) = KEEPING_PAGES[index];
        table[number as usize] = handler;
        index += 1;
    }
    table
};

/// Number 0, which does not exist on arm64, also serves those beyond the table.
#[inline(always)]
fn quick(number: u64) -> Handler {
    QUICK[if number < TABLE_SIZE as u64 { number as usize } else { 0 }]
}

fn begin_later(_call: &mut Call<'_>) -> Outcome {
    Outcome::Continue
}
