//! TLB maintenance of guests' translations (Arm ARM D8.17). Every operation reaches all CPUs of
//! the inner-shareable domain and has completed when it returns. Off the target: nothing.
//!
//! Operations act on the VMID in VTTBR_EL2, so each names the domain's VTTBR, which need not be
//! the one in the CPU.

use crate::types::Ipa;

/// Forgets what was translated from one IPA page of a domain, and whatever stage-1 translations
/// rest on it.
#[inline(always)]
pub fn flush_ipa(vttbr: u64, ipa: Ipa) {
    with_vttbr(vttbr, || {
        invalidate_ipa(ipa);
        barrier();
        // Combined stage-1 and stage-2 entries are known by virtual address only.
        invalidate_stage_1();
    });
}

/// Forgets all translations of a domain.
pub fn flush_domain(vttbr: u64) {
    with_vttbr(vttbr, invalidate_both_stages);
}

#[cfg(target_os = "none")]
use target::{barrier, invalidate_both_stages, invalidate_ipa, invalidate_stage_1, with_vttbr};

#[cfg(not(target_os = "none"))]
use host::{barrier, invalidate_both_stages, invalidate_ipa, invalidate_stage_1, with_vttbr};

#[cfg(target_os = "none")]
mod target {
    use aarch64_cpu::asm::barrier::{ISH, ISHST, SY, dsb, isb};

    use super::Ipa;
    use crate::machine::registers::{read_register, write_register};

    /// A TLB invalidation, with an argument or without.
    macro_rules! tlbi {
        ($operation:literal $(, $argument:expr)?) => {
            // SAFETY: invalidating translations only makes the walker walk again. Not `nomem`:
            // the compiler may not move table writes past it.
            unsafe {
                core::arch::asm!(
                    concat!("tlbi ", $operation $(, tlbi!(@comma $argument))?),
                    $(in(reg) $argument,)?
                    options(nostack, preserves_flags)
                )
            }
        };
        (@comma $argument:expr) => { ", {}" };
    }

    /// Does something with a domain's VTTBR in the CPU, between barriers.
    #[inline(always)]
    pub(super) fn with_vttbr(vttbr: u64, operation: impl FnOnce()) {
        let current = read_register!("vttbr_el2");
        if current != vttbr {
            write_register!("vttbr_el2", vttbr);
            isb(SY);
        }
        dsb(ISHST);
        operation();
        barrier();
        if current != vttbr {
            write_register!("vttbr_el2", current);
        }
        isb(SY);
    }

    pub(super) fn invalidate_ipa(ipa: Ipa) {
        tlbi!("ipas2e1is", ipa.0 >> abi::PAGE_SHIFT);
    }

    pub(super) fn invalidate_stage_1() {
        tlbi!("vmalle1is");
    }

    pub(super) fn invalidate_both_stages() {
        tlbi!("vmalls12e1is");
    }

    /// Waits until the invalidations before it have completed.
    pub(super) fn barrier() {
        dsb(ISH);
    }
}

#[cfg(not(target_os = "none"))]
mod host {
    use super::Ipa;

    pub(super) fn with_vttbr(_vttbr: u64, operation: impl FnOnce()) {
        operation();
    }

    pub(super) fn invalidate_ipa(_ipa: Ipa) {}

    pub(super) fn invalidate_stage_1() {}

    pub(super) fn invalidate_both_stages() {}

    pub(super) fn barrier() {}
}
