//! Accesses that trap: an identification register, and the interrupt controller's.

use core::arch::asm;

/// Reads ID_AA64PFR0_EL1, whose accesses a monitor traps (HCR_EL2.TID3).
#[inline(always)]
pub fn id_aa64pfr0() -> u64 {
    let value: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, id_aa64pfr0_el1", out(reg) value, options(nostack)) };
    value
}

/// Reads a register of the interrupt controller, with an instruction that a monitor can decode.
#[inline(always)]
pub fn read32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: reading those registers that are used here has no effect.
    unsafe { asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack)) };
    value
}

/// Writes one.
pub fn write32(address: u64, value: u32) {
    // SAFETY: none of the interrupt controller's registers concerns memory.
    unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack)) };
}
