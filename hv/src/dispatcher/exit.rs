//! A guest's exit in progress: its registers, and what comes of it.

use crate::interpreter::exception::{Entry, Fault};
use crate::machine::context::{self, Context};
use crate::machine::guest_exception;
use crate::machine::vectors::Resume;

/// Has the guest take an exception when it goes on.
#[inline(never)]
pub(super) fn take(fault: Fault) -> Resume {
    let entry = Entry::synchronous(fault, context::spsr());
    guest_exception::enter(entry.vector, entry.syndrome, context::far(), entry.pstate);
    Resume::Guest
}

/// Counts an exit.
#[inline(always)]
pub(super) fn count(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}

/// Moves on behind the trapped instruction, which is four bytes long. An HVC needs none of this:
/// it returns behind itself.
#[inline(always)]
pub(super) fn skip_instruction() {
    context::set_elr(context::elr().wrapping_add(4));
}

/// The value of a general register that a trapped instruction names; number 31 is the zero
/// register.
#[inline(always)]
pub(super) fn register(context: &Context, number: usize) -> u64 {
    context.x.get(number).copied().unwrap_or(0)
}

/// Sets a general register, and goes on behind the instruction that loads it.
#[inline(always)]
pub(super) fn load_register(context: &mut Context, number: usize, value: u64) -> Resume {
    if let Some(register) = context.x.get_mut(number) {
        *register = value;
    }
    skip_instruction();
    // The vectors restore the others in any case.
    if (20..=28).contains(&number) { Resume::GuestWithAll } else { Resume::Guest }
}
