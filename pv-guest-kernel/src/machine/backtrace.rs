//! Who called whom: a walk over the frame records that frame pointers chain (AAPCS64).

use core::arch::asm;
use core::ops::Range;

use super::{cpu, image};
use crate::println;

/// Deeper than any sensible call chain here.
const MAX_DEPTH: usize = 32;

/// Return addresses, innermost first, as offsets from the image's start (that is, as addresses in
/// its ELF file), beginning with this function's caller.
pub(crate) fn backtrace() -> impl Iterator<Item = u64> {
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) frame, options(nomem, nostack)) };
    backtrace_from(frame)
}

/// The same, beginning with a frame record.
pub(super) fn backtrace_from(mut frame: u64) -> impl Iterator<Item = u64> {
    let (stacks, text) = (stacks(), image::text());
    core::iter::from_fn(move || {
        if !frame.is_multiple_of(16) || frame < stacks.start || frame + 16 > stacks.end {
            return None;
        }
        let record: *const [u64; 2] = core::ptr::with_exposed_provenance(frame as usize);
        // SAFETY: aligned, and within the stacks.
        let [next, address] = unsafe { record.read() };
        frame = next;
        text.contains(&address).then(|| address - text.start)
    })
    .take(MAX_DEPTH)
}

/// Those of this vCPU.
fn stacks() -> Range<u64> {
    image::other_stacks(cpu::vcpu()).map_or_else(image::stacks, |area| area.stacks)
}

/// Offsets from the image's start are addresses in its ELF file: `addr2line -e FILE` reads them.
pub(crate) fn print(addresses: impl Iterator<Item = u64>) {
    println!("backtrace (offsets in the image):");
    for address in addresses {
        println!("  {address:#x}");
    }
}
