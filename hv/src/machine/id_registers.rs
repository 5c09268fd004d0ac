//! The CPU's identification registers (Arm ARM D24.2, Op0 = 3, Op1 = 0, CRn = 0), by encoding.

#[cfg(target_os = "none")]
macro_rules! mrs {
    ($crm:literal, $op2:literal) => {{
        let value: u64;
        // SAFETY: reading an identification register has no effect, and the architecture lets the
        // whole range be read.
        unsafe {
            core::arch::asm!(
                concat!("mrs {}, S3_0_C0_C", $crm, "_", $op2),
                out(reg) value, options(nomem, nostack, preserves_flags)
            );
        }
        value
    }};
}

/// The host's stand-in: a CPU in which every field says "present".
#[cfg(not(target_os = "none"))]
macro_rules! mrs {
    ($crm:literal, $op2:literal) => {
        u64::MAX
    };
}

/// Reads the register with this CRm (1 to 7) and Op2 (0 to 7); zero for any other, as unallocated
/// ones read.
pub fn read(crm: usize, op2: usize) -> u64 {
    macro_rules! table {
        ($($crm:literal),*) => {
            match (crm, op2) {
                $(
                    ($crm, 0) => mrs!($crm, 0), ($crm, 1) => mrs!($crm, 1),
                    ($crm, 2) => mrs!($crm, 2), ($crm, 3) => mrs!($crm, 3),
                    ($crm, 4) => mrs!($crm, 4), ($crm, 5) => mrs!($crm, 5),
                    ($crm, 6) => mrs!($crm, 6), ($crm, 7) => mrs!($crm, 7),
                )*
                _ => 0,
            }
        };
    }
    table!(1, 2, 3, 4, 5, 6, 7)
}

/// Whether the CPU copies a range of memory by itself (FEAT_MOPS, in ID_AA64ISAR2_EL1).
#[cfg(target_os = "none")]
pub(super) fn copies_ranges() -> bool {
    (read(6, 2) >> 16) & 0xF != 0
}
