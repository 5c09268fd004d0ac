//! System registers that `aarch64-cpu` lacks, or lacks off the target, in its own manner: values
//! with `get` and `set` from tock-registers' traits. Off the target these read as zero and ignore
//! writes, so that what uses them can be tested.

use tock_registers::interfaces::{Readable, Writeable};

/// Defines registers by name and encoding (`S<op0>_<op1>_C<n>_C<m>_<op2>`, so that no assembler
/// has to know the extension they belong to). Reads and writes are ordered against each other but
/// not against memory: callers place the barriers.
macro_rules! system_registers {
    ($($(#[$doc:meta])* $name:ident = $encoding:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        #[expect(non_camel_case_types, reason = "the name of the register in the Arm ARM")]
        pub struct $name;

        impl Readable for $name {
            type T = u64;
            type R = ();

            #[inline(always)]
            fn get(&self) -> u64 {
                read_register!($encoding)
            }
        }

        impl Writeable for $name {
            type T = u64;
            type R = ();

            #[inline(always)]
            fn set(&self, value: u64) {
                write_register!($encoding, value)
            }
        }
    )*};
}

/// Reads a system register by its name; zero off the target.
macro_rules! read_register {
    ($name:literal) => {{
        #[cfg(target_os = "none")]
        {
            let value: u64;
            // SAFETY: reading the registers named in this folder has no effect on memory; the
            // monitor runs at EL2, where they exist.
            unsafe {
                core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags))
            }
            value
        }
        #[cfg(not(target_os = "none"))]
        {
            0u64
        }
    }};
}

/// Reads a system register that nobody writes any more, by its name, once for as many uses as the
/// compiler likes.
#[cfg(target_os = "none")]
macro_rules! read_constant {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: as for `read_register`.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(pure, nomem, nostack, preserves_flags))
        }
        value
    }};
}

/// Writes a system register by its name; nothing off the target.
macro_rules! write_register {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        #[cfg(target_os = "none")]
        // SAFETY: the registers named in this folder steer lower exception levels, the timer or
        // the interrupt controller, none of which touches the monitor's own memory.
        unsafe {
            core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags))
        }
        #[cfg(not(target_os = "none"))]
        let _ = value;
    }};
}

#[cfg(target_os = "none")]
pub(super) use read_constant;
pub(super) use {read_register, write_register};

system_registers! {
    /// What a guest reads as MIDR_EL1 (Arm ARM D19.2).
    VPIDR_EL2 = "S3_4_C0_C0_0";
    /// Traps of AArch32 system registers.
    HSTR_EL2 = "S3_4_C1_C1_3";
    /// Extended hypervisor configuration (FEAT_HCX).
    HCRX_EL2 = "S3_4_C1_C2_2";
    /// When the EL2 physical timer fires, in ticks of CNTPCT_EL0.
    CNTHP_CVAL_EL2 = "S3_4_C14_C2_2";
    /// Interrupt priority mask (GICv3 architecture specification 12.2).
    ICC_PMR_EL1 = "S3_0_C4_C6_0";
    /// Deactivates an interrupt when EOI mode is split.
    ICC_DIR_EL1 = "S3_0_C12_C11_1";
    /// Sends a group 1 software-generated interrupt.
    ICC_SGI1R_EL1 = "S3_0_C12_C11_5";
    /// Acknowledges a group 1 interrupt.
    ICC_IAR1_EL1 = "S3_0_C12_C12_0";
    /// Ends a group 1 interrupt.
    ICC_EOIR1_EL1 = "S3_0_C12_C12_1";
    /// Enables group 1 interrupts.
    ICC_IGRPEN1_EL1 = "S3_0_C12_C12_7";
    /// Controls the virtual CPU interface.
    ICH_HCR_EL2 = "S3_4_C12_C11_0";
    /// Why the maintenance interrupt is pending.
    ICH_MISR_EL2 = "S3_4_C12_C11_2";
    /// Which list registers ended with a maintenance request.
    ICH_EISR_EL2 = "S3_4_C12_C11_3";
    /// Which list registers are free.
    ICH_ELRSR_EL2 = "S3_4_C12_C11_5";
}
