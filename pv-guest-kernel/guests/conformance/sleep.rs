//! `sched_op`: poll and block.

use core::time::Duration;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_TVAL_EL0};
use pv_guest_kernel::abi::Errno::{self, EFAULT, EINVAL, ENOSYS};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::sched::{Command, Poll};
use pv_guest_kernel::abi::{DomId, Port};
use pv_guest_kernel::hypercall::event_channel;
use pv_guest_kernel::time;
use tock_registers::interfaces::{Readable, Writeable};

use crate::call::{Answers, address, call};
use crate::system_time;

/// Of a second: after such a part the timer comes. Other domains may have this CPU before, but not for
/// so long that it would come too early.
const TIMER_RATE: u64 = 50;

/// Sleeps until one of the ports is pending, or until the time has come.
pub fn poll(ports: &mut [Port], timeout: u64) -> Result<u64, Errno> {
    let pointer = ports.as_mut_ptr().expose_provenance() as u64;
    let mut poll = Poll { ports: pointer, nr_ports: ports.len() as u32, padding: 0, timeout };
    call(Number::SchedOp, [Command::Poll.raw(), address(&mut poll), 0, 0, 0])
}

/// Sleeps, by polling nothing.
pub fn until(end: Duration) {
    while let Some(left) = end.checked_sub(time::now()).filter(|left| !left.is_zero()) {
        if poll(&mut [], system_time::after(left)).is_err() {
            return;
        }
    }
}

/// Blocks, while no interrupt has the priority to be taken: this kernel takes none. Xen then sleeps
/// on beside one that waits, until the next comes: that of the timer. Whether the monitor has
/// unmasked interrupts, as Xen does.
fn block() -> Result<bool, Errno> {
    // SAFETY: masks and unmasks interrupts by their priority.
    unsafe { core::arch::asm!("msr icc_pmr_el1, {}", "isb", in(reg) 0_u64) };
    CNTV_TVAL_EL0.set(CNTFRQ_EL0.get() / TIMER_RATE);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
    let result = call(Number::SchedOp, [Command::Block.raw(), 0, 0, 0, 0]);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR);
    let flags: u64;
    // SAFETY: reads the mask, and masks interrupts again, as everywhere in this kernel.
    unsafe {
        core::arch::asm!("mrs {}, daif", "msr daifset, #2", out(reg) flags);
        core::arch::asm!("msr icc_pmr_el1, {}", "isb", in(reg) 0xFF_u64);
    }
    result.map(|_| flags & (1 << 7) == 0)
}

/// Asks.
pub fn ask(answers: &mut Answers) {
    let start = time::now();
    until(start + Duration::from_millis(2));
    answers.check("a poll lasts until its time", time::now() >= start + Duration::from_millis(2));
    answers.equal("a time that has passed", poll(&mut [], 1), Ok(0));
    ports(answers);
    let unknown = call(Number::SchedOp, [4711, 0, 0, 0, 0]);
    answers.equal("an unknown command", unknown, Err(ENOSYS));
}

fn ports(answers: &mut Answers) {
    let Ok(port) = event_channel::alloc_unbound(DomId::SELF, DomId::SELF) else { return };
    let Ok(peer) = event_channel::bind_interdomain(DomId::SELF, port) else { return };
    let soon = || system_time::after(Duration::from_millis(2));
    // Binding makes the new port pending.
    answers.equal("a port that is pending", poll(&mut [port, peer], 0), Ok(0));
    answers.equal("a port that is not", poll(&mut [port], soon()), Ok(0));
    answers.equal("no port", poll(&mut [Port(1 << 20)], soon()), Err(EINVAL));
    answers.equal("128 ports", poll(&mut [port; 128], soon()), Ok(0));
    answers.equal("129 ports", poll(&mut [port; 129], soon()), Err(EINVAL));
    let mut nowhere = Poll { ports: 8, nr_ports: 1, padding: 0, timeout: 1 };
    let result = call(Number::SchedOp, [Command::Poll.raw(), address(&mut nowhere), 0, 0, 0]);
    answers.equal("ports that are nowhere", result, Err(EFAULT));
    let _ = event_channel::send(peer);
    answers.equal("block", block(), Ok(true));
    for port in [port, peer] {
        answers.equal("close", event_channel::close(port), Ok(()));
    }
}
