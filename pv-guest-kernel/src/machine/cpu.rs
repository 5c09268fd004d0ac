//! The virtual CPU: hypercalls, sleeping, cache maintenance.

use core::arch::asm;
use core::ops::Range;
use core::ptr::NonNull;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::TPIDR_EL1;
use abi::hypercall::{HVC_TAG, Number};
use tock_registers::interfaces::Readable;

use super::timer;
use crate::time::Ticks;

/// The vCPU that executes this. Boot has set the register, and nothing else uses it.
#[inline(always)]
pub(crate) fn vcpu() -> u32 {
    TPIDR_EL1.get() as u32
}

/// Makes a hypercall and returns x0.
///
/// # Safety
/// As for [`crate::hypercall::raw`].
pub(crate) unsafe fn hypercall(number: Number, arguments: [u64; 5]) -> i64 {
    let [mut x0, x1, x2, x3, x4] = arguments;
    // SAFETY: the arguments are the caller's promise; the ABI says that nothing but x16 and the
    // argument registers changes. Memory may change, which is the default assumption.
    unsafe {
        asm!(
            "hvc {tag}",
            tag = const HVC_TAG,
            inlateout("x0") x0,
            inlateout("x1") x1 => _,
            inlateout("x2") x2 => _,
            inlateout("x3") x3 => _,
            inlateout("x4") x4 => _,
            inlateout("x16") number.raw() => _,
            options(nostack),
        );
    }
    x0.cast_signed()
}

/// Sleeps until an interrupt is pending (it need not be unmasked) or the deadline has come.
pub(crate) fn wait(deadline: Option<Ticks>) {
    timer::set(deadline);
    // SAFETY: waiting changes nothing. The barrier makes what was written before visible to
    // others before this CPU stops.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

/// Says by YIELD that this CPU has nothing urgent to do.
pub(crate) fn relax() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// Does nothing for ever.
pub(crate) fn halt() -> ! {
    loop {
        wait(None);
    }
}

/// Makes what was written visible to a reader whose caches are off.
pub(crate) fn clean_to_memory(start: NonNull<u8>, length: usize) {
    let start = start.addr().get() as u64;
    for line in lines(&(start..start + length as u64)) {
        // SAFETY: cleaning changes no contents.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack)) };
    }
    barrier::dsb(barrier::SY);
}

/// Drops cached copies.
pub(super) fn clean_and_invalidate(range: &Range<u64>) {
    for line in lines(range) {
        // SAFETY: what a cache holds is written back first, so no contents are lost.
        unsafe { asm!("dc civac, {}", in(reg) line, options(nostack)) };
    }
    barrier::dsb(barrier::SY);
}

/// The cache lines that a range touches.
fn lines(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    let cache_type: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack)) };
    // DminLine, bits 16 to 19: log2 of the words in the smallest data cache line.
    let size = 4usize << ((cache_type >> 16) & 0xF);
    let first = range.start & !(size as u64 - 1);
    (first..range.end).step_by(size)
}
