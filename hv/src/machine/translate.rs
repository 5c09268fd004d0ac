//! Guest virtual addresses to machine addresses, by asking the CPU (AT, Arm ARM C5.5).

use crate::types::GuestVa;

/// Why an address does not translate: what PAR_EL1 says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Whether the guest's own tables are fine and it is the monitor's that lack the page.
    pub stage2: bool,
    /// The fault status code, as in ESR_ELx.DFSC.
    pub status: u8,
}

/// The machine address at which the vCPU in this CPU reads `va` at EL1. Off the target: `va`.
#[inline]
pub fn at_read(va: GuestVa) -> Result<u64, Fault> {
    #[cfg(target_os = "none")]
    return translate!("s12e1r", va);
    #[cfg(not(target_os = "none"))]
    Ok(va.0)
}

/// The machine address at which the vCPU in this CPU writes `va` at EL1. Off the target: `va`.
#[inline]
pub fn at_write(va: GuestVa) -> Result<u64, Fault> {
    #[cfg(target_os = "none")]
    return translate!("s12e1w", va);
    #[cfg(not(target_os = "none"))]
    Ok(va.0)
}

/// Translates and leaves PAR_EL1 as it was: the guest may be between its own AT and the reading
/// of its result.
#[cfg(target_os = "none")]
macro_rules! translate {
    ($operation:literal, $va:expr) => {{
        let result: u64;
        // SAFETY: AT writes PAR_EL1 only, which is put back. Not `nomem`: table updates before
        // this stay before it.
        unsafe {
            core::arch::asm!(
                "mrs {guest}, par_el1",
                concat!("at ", $operation, ", {va}"),
                "isb",
                "mrs {result}, par_el1",
                "msr par_el1, {guest}",
                guest = out(reg) _,
                va = in(reg) $va.0,
                result = lateout(reg) result,
                options(nostack, preserves_flags)
            )
        }
        decode(result, $va)
    }};
}
#[cfg(target_os = "none")]
use translate;

/// What a value of PAR_EL1 says of the translation of `va` (Arm ARM D19.2.117).
#[cfg_attr(not(any(test, target_os = "none")), expect(dead_code, reason = "no AT here"))]
#[inline]
fn decode(par: u64, va: GuestVa) -> Result<u64, Fault> {
    const FAILED: u64 = 1;
    const STATUS_SHIFT: u32 = 1;
    const STAGE_2: u64 = 1 << 9;
    const PAGE: u64 = 0x000F_FFFF_FFFF_F000;
    match par & FAILED {
        0 => Ok((par & PAGE) | (va.0 & !PAGE & 0xFFF)),
        _ => Err(Fault { stage2: par & STAGE_2 != 0, status: (par >> STATUS_SHIFT) as u8 & 0x3F }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_keeps_the_offset_in_the_page_and_drops_the_attributes() {
        // Attr 0xFF in 63:56, SH in 8:7, NS and a reserved bit below.
        let par = 0xFF00_0000_4567_8B80;
        assert_eq!(decode(par, GuestVa(0xFFFF_8000_0000_0123)), Ok(0x4567_8123));
    }

    #[test]
    fn failure_names_stage_and_status() {
        assert_eq!(decode(0x80F, GuestVa(0)), Err(Fault { stage2: false, status: 7 }));
        assert_eq!(decode(0xA0F, GuestVa(0)), Err(Fault { stage2: true, status: 7 }));
    }
}
