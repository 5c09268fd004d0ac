//! `sched_op`: watchdogs, and the reason for a shutdown that comes later.

use pv_guest_kernel::abi::Errno::{self, EFAULT, EINVAL, ENOSPC};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::sched::{Command, Shutdown, ShutdownReason, Watchdog};
use pv_guest_kernel::println;

use crate::call::{Answers, address, call};

fn set(id: u32, timeout: u32) -> Result<u64, Errno> {
    let mut argument = Watchdog { id, timeout };
    call(Number::SchedOp, [Command::Watchdog.raw(), address(&mut argument), 0, 0, 0])
}

/// Asks.
pub fn ask(answers: &mut Answers) {
    answers.equal("a watchdog that was not set", set(1, 10), Err(EINVAL));
    answers.equal("a first one", set(0, 100), Ok(1));
    answers.equal("a second one", set(0, 100), Ok(2));
    answers.equal("a third one", set(0, 100), Err(ENOSPC));
    answers.equal("one beyond all", set(3, 100), Err(EINVAL));
    answers.equal("wind it up", set(2, 100), Ok(0));
    answers.equal("stop it", set(1, 0), Ok(0));
    answers.equal("stop it again", set(1, 0), Err(EINVAL));
    answers.equal("stop the other", set(2, 0), Ok(0));
    let nowhere = call(Number::SchedOp, [Command::Watchdog.raw(), 8, 0, 0, 0]);
    answers.equal("a watchdog from nowhere", nowhere, Err(EFAULT));
}

/// Sets a watchdog and does nothing for it any more.
pub fn starve() {
    println!("starving the watchdog: {:?}", set(0, 1));
    loop {
        core::hint::spin_loop();
    }
}

/// Says why the domain will have stopped, and contradicts itself, which does not count.
pub fn note_reason(answers: &mut Answers) {
    for reason in [ShutdownReason::Crash, ShutdownReason::Poweroff] {
        let mut argument = Shutdown { reason: reason.raw() };
        let command = Command::ShutdownCode.raw();
        let result = call(Number::SchedOp, [command, address(&mut argument), 0, 0, 0]);
        answers.equal("note a reason", result, Ok(0));
    }
}
