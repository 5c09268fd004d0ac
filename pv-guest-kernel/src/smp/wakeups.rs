//! Tasks of vCPU 0 that other vCPUs have woken.

use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Port, VcpuId};
use async_task::Runnable;

use super::mailbox::Mailbox;
use crate::hypercall::event_channel;
use crate::local::HOME;
use crate::machine;
use crate::time::Ticks;

static WOKEN: Mailbox<Runnable> = Mailbox::new();

/// The port that interrupts vCPU 0; [`NO_PORT`] as long as there are no other vCPUs.
static PORT: AtomicU32 = AtomicU32::new(NO_PORT);
/// Never a valid port.
const NO_PORT: u32 = 0;

/// Makes it possible to wake vCPU 0 from another vCPU.
pub(super) fn connect() -> Result<(), Errno> {
    if PORT.load(Ordering::Relaxed) == NO_PORT {
        PORT.store(event_channel::bind_ipi(VcpuId(HOME))?.0, Ordering::Release);
    }
    Ok(())
}

/// Gives a task that was woken on another vCPU to vCPU 0.
pub(crate) fn push(task: Runnable) {
    if WOKEN.push(task) {
        // It cannot fail: the port is this domain's own, and never closed.
        let _ = event_channel::send(Port(PORT.load(Ordering::Acquire)));
    }
}

/// Takes the tasks that were woken elsewhere. Costs one load if there are no other vCPUs.
pub(crate) fn collect(mut make_ready: impl FnMut(Runnable)) {
    if PORT.load(Ordering::Relaxed) != NO_PORT {
        core::iter::from_fn(|| WOKEN.pop()).for_each(&mut make_ready);
    }
}

/// Sleeps until there is something for vCPU 0 to look at.
pub(crate) fn wait(deadline: Option<Ticks>) {
    match PORT.load(Ordering::Relaxed) {
        NO_PORT => machine::wait(deadline),
        _ => WOKEN.sleep_if_empty(|| machine::wait(deadline)),
    }
}
