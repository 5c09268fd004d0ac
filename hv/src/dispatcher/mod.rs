//! Where the hardware traps to. The vectors hand over a vCPU's registers; here the cause is
//! decoded, the one lock is taken, and one of three tables says what to do: hypercalls
//! ([`hypercall`]), emulated instructions and accesses ([`trap`]), interrupts ([`interrupt`]).
//! What a handler leaves behind (interrupts for this vCPU, CPUs to kick, a CPU given up) is
//! settled in one place before the guest runs again.

pub mod call;
mod console;
mod domctl;
pub mod event;
mod exit;
pub mod grant;
mod hvm;
mod hypercall;
mod interrupt;
mod memory;
mod mmio;
mod multicall;
mod sched;
mod schedule;
mod sysctl;
mod trap;
mod vcpu;
mod version;

use spin::Once;

use crate::allocator::Monitor;
use crate::allocator::interrupt::ListRegisters;
use crate::allocator::scheduler::CpuSet;
use crate::machine::gic::{self, Intid};
use crate::machine::list_register::{self, ListRegister, Request};
use crate::machine::lock::{Guard, Level, Lock};
use crate::machine::percpu;
use crate::types::VcpuKey;

#[cfg(target_os = "none")]
pub use schedule::enter_first;
pub use schedule::start_vcpu;

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

/// The list registers of this CPU, with the state of the vCPU that runs on it.
#[derive(Debug)]
struct LoadedListRegisters;

impl ListRegisters for LoadedListRegisters {
    #[inline]
    fn count(&self) -> usize {
        list_register::count()
    }

    #[inline]
    fn empty(&self) -> u32 {
        list_register::empty_mask().into()
    }

    #[inline]
    fn read(&self, index: usize) -> ListRegister {
        list_register::read(index)
    }

    #[inline]
    fn write(&mut self, index: usize, register: ListRegister) {
        list_register::write(index, register);
    }

    #[inline]
    fn notify_when_drained(&mut self, wanted: bool) {
        list_register::request(if wanted { Request::UNDERFLOW } else { Request::empty() });
    }
}

/// Does what a handler left to do: fills this vCPU's list registers and interrupts other CPUs.
/// Every path back to the guest ends here, with the lock held.
#[inline]
fn settle(monitor: &mut Monitor) {
    if !monitor.kicks.is_empty() {
        deliver(monitor);
    }
}

/// Interrupts the CPUs that have something to look at; this one looks itself.
#[inline(never)]
fn deliver(monitor: &mut Monitor) {
    let cpu = percpu::this_cpu();
    let kicks = core::mem::take(&mut monitor.kicks);
    if kicks.contains(cpu)
        && let Some(key) = percpu::running()
    {
        fill_list_registers(monitor, key);
    }
    kick(kicks.without(CpuSet::only(cpu)));
}

/// Interrupts CPUs so that they look at what changed.
fn kick(cpus: CpuSet) {
    for cpu in cpus {
        gic::send_sgi(cpu, KICK.0 as u8);
    }
}

/// Moves the pending interrupts of the vCPU that is loaded on this CPU to its list registers.
fn fill_list_registers(monitor: &mut Monitor, key: VcpuKey) {
    let Some(domain) = monitor.domains.get_mut(key.domain) else { return };
    let interrupts = &mut domain.interrupts;
    let vcpu = domain.vcpus.get_mut(key.vcpu.0 as usize).and_then(Option::as_mut);
    if let Some(vcpu) = vcpu {
        crate::allocator::interrupt::fill(
            &mut vcpu.interrupts,
            key.vcpu,
            interrupts,
            &mut LoadedListRegisters,
        );
    }
}
