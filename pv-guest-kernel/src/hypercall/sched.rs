//! `sched_op`.

use abi::hypercall::Number;
use abi::sched::{Command, RemoteShutdown, Shutdown, ShutdownReason};
use abi::{DomId, Errno};

/// Gives the CPU to other vCPUs for now.
#[inline]
pub fn yield_now() {
    // SAFETY: the command takes no argument. It cannot fail.
    let _ = unsafe { super::raw(Number::SchedOp, [Command::Yield.raw(), 0, 0, 0, 0]) };
}

/// Stops this domain; returns only on failure.
///
/// # Errors
/// What the monitor answers.
pub fn shutdown(reason: ShutdownReason) -> Result<(), Errno> {
    let mut argument = Shutdown { reason: reason.raw() };
    let command = Command::Shutdown.raw();
    // SAFETY: the structure of that command.
    unsafe { super::with_argument(Number::SchedOp, command, &mut argument) }.map(drop)
}

/// Stops another domain (privileged).
///
/// # Errors
/// What the monitor answers.
pub fn remote_shutdown(domain: DomId, reason: ShutdownReason) -> Result<(), Errno> {
    let mut argument = RemoteShutdown { dom: domain, padding: 0, reason: reason.raw() };
    let command = Command::RemoteShutdown.raw();
    // SAFETY: the structure of that command.
    unsafe { super::with_argument(Number::SchedOp, command, &mut argument) }.map(drop)
}
