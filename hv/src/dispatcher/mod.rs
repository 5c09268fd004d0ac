//! Where the hardware traps to. The vectors hand over a vCPU's registers; here the cause is
//! decoded, the one lock is taken, and one of three tables says what to do: hypercalls
//! ([`hypercall`]), emulated instructions and accesses ([`trap`]), interrupts ([`interrupt`]).
//! What a handler leaves behind (CPUs to kick, a CPU given up) is settled in one place before the
//! guest runs again.

mod access;
pub mod call;
mod console;
mod debug_keys;
mod domctl;
pub mod event;
mod exit;
mod firmware;
pub mod grant;
mod hvm;
mod hypercall;
mod interrupt;
mod memory;
mod mmio;
mod multicall;
mod quota;
mod sched;
mod schedule;
mod scheduling;
mod sysctl;
mod trap;
mod uart;
mod vcpu;
mod version;

use spin::Once;

use crate::allocator::Monitor;
use crate::allocator::scheduler::CpuSet;
use crate::machine::gic::{self, Intid};
use crate::machine::lock::{Guard, Level, Lock};
use crate::machine::percpu;
use crate::machine::vectors::Resume;

pub use schedule::enter_first;
pub use schedule::start_vcpu;
pub use version::set_command_line;

/// Everything that the monitor knows, under its one lock.
static MONITOR: Lock<Monitor> = Lock::new(Level::Monitor, Monitor::new());

/// Takes the lock.
#[inline]
pub fn monitor() -> Guard<'static, Monitor> {
    MONITOR.lock()
}

/// The SGI by which one CPU asks another to look at its vCPU and at the run queue.
pub const KICK: Intid = Intid(0);

/// Interrupts of the machine that are the monitor's own.
#[derive(Debug, Clone, Copy)]
pub struct OwnInterrupts {
    /// Ends the monitor's waits and time slices.
    pub timer: Intid,
    /// The virtual timer of the running vCPU.
    pub virtual_timer: Intid,
    /// The physical timer of EL1, which stands in for the running vCPU's.
    pub physical_timer: Intid,
    /// List registers have become free.
    pub maintenance: Intid,
    /// The console.
    pub uart: Intid,
}

/// Which they are, on every CPU.
static OWN_INTERRUPTS: Once<OwnInterrupts> = Once::new();

/// Says which interrupts are the monitor's own, before any arrives.
pub fn set_own_interrupts(interrupts: OwnInterrupts) {
    OWN_INTERRUPTS.call_once(|| interrupts);
}

/// Interrupts the CPUs that have something to look at. Returns whether this one is among them: it
/// must decide anew what to run. Every path back to the guest ends here, with the lock held.
#[inline(always)]
fn settle(monitor: &mut Monitor) -> bool {
    !monitor.kicks.is_empty() && kick(monitor)
}

/// Settles what a handler left behind, and returns to the vCPU that is in this CPU unless it must
/// give it up.
#[inline(always)]
fn finish(mut monitor: Guard<'static, Monitor>) -> Resume {
    if settle(&mut monitor) { give_up(monitor) } else { Resume::Guest }
}

/// The vCPU that is in this CPU gives it up. The lock is kept until `reschedule` has put another
/// one there: what the handler found cannot change until then. There is no other way to
/// [`Resume::Another`].
#[inline(always)]
fn give_up(monitor: Guard<'static, Monitor>) -> Resume {
    monitor.keep();
    Resume::Another
}

#[inline(never)]
fn kick(monitor: &mut Monitor) -> bool {
    let this = percpu::this_cpu();
    let kicks = core::mem::take(&mut monitor.kicks);
    for cpu in kicks.without(CpuSet::only(this)) {
        monitor.ipis = monitor.ipis.wrapping_add(1);
        gic::send_sgi(cpu, KICK.0 as u8);
    }
    kicks.contains(this) && schedule::must_pick(monitor, this)
}
