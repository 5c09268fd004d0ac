//! How the domain ends.

use abi::sched::ShutdownReason;

use crate::{console, hypercall, machine};

/// Stops this domain and tells the toolstack why.
pub fn shutdown(reason: ShutdownReason) -> ! {
    console::flush();
    // If the monitor refuses, which it has no reason to, there is nothing left to do but wait.
    let _ = hypercall::sched::shutdown(reason);
    machine::halt()
}
