//! What EL2's control registers let guests do, and what traps to the monitor. The same on every
//! CPU and for every guest, so it is set once.

use aarch64_cpu::registers::{
    CNTHCTL_EL2, HCR_EL2, ICC_SRE_EL2, ID_AA64MMFR0_EL1, MDCR_EL2, MIDR_EL1, VTCR_EL2,
};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

use super::registers::{HCRX_EL2, HSTR_EL2, ICH_HCR_EL2, VPIDR_EL2, read_register, write_register};

/// Sets this CPU's control registers. The traps are:
/// - WFI, SMC, feature identification, ACTLR_EL1, implementation
///   defined registers, error records, LORegions: `sync_entry`;
/// - floating point, until the vCPU in the CPU uses it: `sync_entry`;
/// - debug, performance, trace, activity-monitor registers, SVE and SME: `sync_entry`;
/// - the EL1 physical timer, but not the counters: `sync_entry`;
/// - every physical interrupt and SError: `irq_entry`, `serror_entry`.
///
/// Cache maintenance by set and way does not trap. It cannot discard another's data: by SWIO an
/// invalidation cleans first.
///
/// Pointer authentication, memory tagging and what else FEAT_HCX guards stay off: their registers
/// are trapped and not switched, so the identification registers must hide them.
pub fn init_cpu() {
    init_identity();
    init_traps();
    init_stage2();
    // The virtual CPU interface by system registers; guests may use theirs untrapped.
    ICC_SRE_EL2.set(0b1111);
    ICH_HCR_EL2.set(0);
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}

/// No guest yet: no table.
fn init_identity() {
    write_register!("vttbr_el2", 0);
    // The virtual counter is the physical one: a guest's time is the machine's.
    write_register!("cntvoff_el2", 0);
    VPIDR_EL2.set(MIDR_EL1.get());
    HSTR_EL2.set(0);
}

fn init_traps() {
    HCR_EL2.write(
        HCR_EL2::RW::EL1IsAarch64
            + HCR_EL2::VM::Enable
            + HCR_EL2::SWIO::SET
            + HCR_EL2::PTW::SET
            + HCR_EL2::FMO::SET
            + HCR_EL2::IMO::SET
            + HCR_EL2::AMO::SET
            + HCR_EL2::FB::SET
            + HCR_EL2::BSU::InnerShareable
            + HCR_EL2::TWI::SET
            + HCR_EL2::TID3::SET
            + HCR_EL2::TSC::SET
            + HCR_EL2::TIDCP::SET
            + HCR_EL2::TACR::SET
            + HCR_EL2::TERR::SET
            + HCR_EL2::TLOR::SET,
    );
    trap_floating_point(true);
    MDCR_EL2.write(
        MDCR_EL2::TDRA::SET
            + MDCR_EL2::TDOSA::SET
            + MDCR_EL2::TDA::SET
            + MDCR_EL2::TPM::SET
            + MDCR_EL2::TPMCR::SET
            + MDCR_EL2::TPMS::SET
            + MDCR_EL2::TTRF::SET
            + MDCR_EL2::HPMN.val(performance_counters()),
    );
    write_register!("mdscr_el1", 0);
    // The counters are free, the physical timer is not.
    CNTHCTL_EL2.set(0b01);
    if has_extended_configuration() {
        // Where there are no such instructions the bit has no meaning (RES0).
        const MEMORY_COPIES: u64 = 1 << 11;
        HCRX_EL2.set(MEMORY_COPIES);
    }
}

/// Decides whether the use of floating-point registers traps. SVE, SME, trace and activity
/// monitors always do (CPTR_EL2, Arm ARM D19.2.31).
#[inline(always)]
pub(super) fn trap_floating_point(trap: bool) {
    // RES1 bits, which also trap SVE (8) and SME (12).
    const ALWAYS: u64 = 0x33FF | 1 << 20 | 1 << 30;
    const FLOATING_POINT: u64 = 1 << 10;
    write_register!("cptr_el2", ALWAYS | if trap { FLOATING_POINT } else { 0 });
}

/// PMCR_EL0.N: all performance counters belong to EL1, where they are trapped.
fn performance_counters() -> u64 {
    match (read_register!("id_aa64dfr0_el1") >> 8) & 0xF {
        0 | 0xF => 0,
        _ => (read_register!("pmcr_el0") >> 11) & 0x1F,
    }
}

/// FEAT_HCX.
fn has_extended_configuration() -> bool {
    (read_register!("id_aa64mmfr1_el1") >> 40) & 0xF != 0
}

/// Stage 2: 40 bits of IPA in 4 KiB granules from two concatenated level 1 tables, walked as
/// inner-shareable write-back memory; 8-bit VMIDs. `allocator::stage2` builds its tables so.
fn init_stage2() {
    const INPUT_BITS: u64 = 40;
    VTCR_EL2.write(
        VTCR_EL2::RES1.val(1)
            + VTCR_EL2::T0SZ.val(64 - INPUT_BITS)
            + VTCR_EL2::SL0.val(1)
            + VTCR_EL2::IRGN0::NormalWBRAWA
            + VTCR_EL2::ORGN0::NormalWBRAWA
            + VTCR_EL2::SH0::Inner
            + VTCR_EL2::TG0::Granule4KB
            + VTCR_EL2::PS.val(physical_size()),
    );
    VTCR_EL2.modify(VTCR_EL2::VS.val(0));
}

/// How many physical address bits there are, in the encoding of TCR_EL2.PS and VTCR_EL2.PS: at
/// most 48 bits, beyond which descriptors would have another form.
pub(super) fn physical_size() -> u64 {
    const BITS_48: u64 = 0b101;
    ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(BITS_48)
}
