//! The virtual counter, and guest work of a known size.

use core::arch::asm;

/// Reads the counter once everything before it is done.
#[inline(always)]
pub fn now() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter. Memory may change, for the compiler: it moves no access across.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack)) };
    ticks
}

/// Executes `2 * rounds` instructions that nobody traps. `rounds` must not be zero.
#[inline(always)]
pub fn work(rounds: u64) {
    // SAFETY: counts down in a register.
    unsafe {
        asm!("2: subs {0}, {0}, #1", "b.ne 2b", inout(reg) rounds => _, options(nostack));
    }
}
