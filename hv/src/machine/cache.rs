//! Cache maintenance by address (Arm ARM D7.5). Off the target: nothing.

#[cfg(target_os = "none")]
use aarch64_cpu::asm::barrier::{ISH, SY, dsb, isb};

/// Runs one data cache instruction on every line of a range.
macro_rules! each_line {
    ($operation:literal, $start:expr, $length:expr) => {{
        #[cfg(target_os = "none")]
        {
            let line = line_size();
            let end = $start.saturating_add($length);
            let mut address = $start & !(line - 1);
            while address < end {
                // SAFETY: cleaning writes nothing but what was written already; the monitor maps
                // all memory that it is called with.
                unsafe {
                    core::arch::asm!(concat!("dc ", $operation, ", {}"), in(reg) address, options(nostack, preserves_flags))
                }
                address = address.saturating_add(line);
            }
            dsb(SY);
        }
        #[cfg(not(target_os = "none"))]
        let _ = ($start, $length);
    }};
}

/// Writes a range of mapped memory back to the point of coherency, for observers without caches.
pub fn clean(start: u64, length: u64) {
    each_line!("cvac", start, length);
}

/// Writes a range of mapped memory back and forgets it.
pub fn clean_and_invalidate(start: u64, length: u64) {
    each_line!("civac", start, length);
}

/// Forgets all instructions, on every CPU: to be done between writing code (and cleaning it) and
/// letting a guest run it.
pub fn invalidate_instructions() {
    #[cfg(target_os = "none")]
    {
        // SAFETY: instructions are fetched again; nothing else changes.
        unsafe { core::arch::asm!("ic ialluis", options(nostack, preserves_flags)) }
        dsb(ISH);
        isb(SY);
    }
}

/// The smallest data cache line in the system, in bytes (CTR_EL0.DminLine).
#[cfg(target_os = "none")]
fn line_size() -> u64 {
    4 << ((super::registers::read_register!("ctr_el0") >> 16) & 0xF)
}
