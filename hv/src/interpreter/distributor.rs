//! The distributor's registers (GICD, Arm IHI 0069, 12.9), as a GICv3 without security shows them:
//! affinity routing always on, one security state.

use super::Width;
use super::bank::{BankView, Register, decode};
use crate::allocator::interrupt::{BANK, DomainInterrupts, ListRegisters, Listed, SPI_BANKS, bits};
use crate::machine::gic::{self, Intid, Trigger};
use crate::types::CpuId;

/// GICD_CTLR
const CTLR: u64 = 0x0;
/// GICD_TYPER
const TYPER: u64 = 0x4;
/// GICD_IIDR
const IIDR: u64 = 0x8;
/// GICD_IROUTER32 and on, eight bytes each.
const IROUTER: core::ops::Range<u64> = 0x6100..0x8000;
/// GICD_PIDR2
const PIDR2: u64 = 0xFFE8;

/// GICD_CTLR.DS (one security state), .ARE and, when enabled, .EnableGrp1.
const CTLR_FIXED: u64 = 1 << 6 | 1 << 4;
const CTLR_ENABLE_GROUP1: u64 = 1 << 1;
/// IDbits = 9: INTIDs of ten bits. ITLinesNumber: banks of SPIs.
const TYPER_VALUE: u64 = 9 << 19 | SPI_BANKS as u64;
/// JEP106 code of Arm in the implementer field, as real GICs say.
const IIDR_VALUE: u64 = 0x43B;
/// The CPU that takes the machine's own interrupts for the domain that owns them.
const CPU: CpuId = CpuId(0);
/// Architecture revision 3 in the upper half of the byte.
pub(super) const PIDR2_VALUE: u64 = 0x3B;

/// The value of a register that always reads the same.
#[inline(always)]
pub const fn constant(offset: u64) -> Option<u64> {
    match offset {
        TYPER => Some(TYPER_VALUE),
        IIDR => Some(IIDR_VALUE),
        PIDR2 => Some(PIDR2_VALUE),
        _ => None,
    }
}

/// Reads any other register. One that does not exist reads as zero.
pub fn read<L: ListRegisters>(
    interrupts: &mut DomainInterrupts,
    listed: Option<(&Listed, &mut L)>,
    offset: u64,
    width: Width,
) -> u64 {
    match offset {
        CTLR if interrupts.enabled => return CTLR_FIXED | CTLR_ENABLE_GROUP1,
        CTLR => return CTLR_FIXED,
        _ => {}
    }
    if IROUTER.contains(&offset) {
        let route = interrupts.route.get(((offset - IROUTER.start) / 8) as usize);
        return route.map_or(0, |&vcpu| u64::from(vcpu));
    }
    match shared_bank(interrupts, listed, offset) {
        Some((view, register)) => view.read(register, width),
        None => 0,
    }
}

/// Writes a register. One that does not exist ignores it. `vcpus` is how many the domain has.
pub fn write<L: ListRegisters>(
    interrupts: &mut DomainInterrupts,
    vcpus: usize,
    listed: Option<(&Listed, &mut L)>,
    offset: u64,
    width: Width,
    value: u64,
) {
    if offset == CTLR {
        interrupts.enabled = value & CTLR_ENABLE_GROUP1 != 0;
        return;
    }
    if IROUTER.contains(&offset) {
        let index = ((offset - IROUTER.start) / 8) as usize;
        return write_route(interrupts, vcpus, index, value);
    }
    let Some((mut view, register)) = shared_bank(interrupts, listed, offset) else { return };
    let enabled_before = view.bank.enabled;
    view.write(register, width, value);
    let (base, enabled, edge) = (view.base, view.bank.enabled, view.bank.edge);
    let physical = interrupts.physical.get((base / BANK - 1) as usize).copied().unwrap_or(0);
    interrupts.any_shared_pending = true;
    forward_changes(base, physical, enabled_before, enabled, edge);
}

/// Sets the vCPU that an SPI goes to. Affinity 0 is the vCPU's number; "any" (bit 31) means vCPU 0.
fn write_route(interrupts: &mut DomainInterrupts, vcpus: usize, index: usize, value: u64) {
    let vcpu = if value & (1 << 31) != 0 { 0 } else { value as u8 };
    if let Some(route) = interrupts.route.get_mut(index)
        && usize::from(vcpu) < vcpus
    {
        *route = vcpu;
    }
}

/// The bank of SPIs that a register describes. The first 32 interrupts are the redistributors'.
fn shared_bank<'a, L: ListRegisters>(
    interrupts: &'a mut DomainInterrupts,
    listed: Option<(&'a Listed, &'a mut L)>,
    offset: u64,
) -> Option<(BankView<'a, L>, Register)> {
    let (number, register) = decode(offset)?;
    let bank = interrupts.shared.get_mut(number.checked_sub(1)?)?;
    Some((BankView { bank, base: number as u32 * BANK, listed }, register))
}

/// Enables and disables the machine's own interrupts as the domain that owns them does.
fn forward_changes(base: u32, physical: u32, before: u32, after: u32, edge: u32) {
    for number in bits(physical & after & !before) {
        let intid = Intid(base + number);
        let trigger = if edge & (1 << number) != 0 { Trigger::Edge } else { Trigger::Level };
        let enabled = gic::set_trigger(intid, trigger).and_then(|()| gic::enable_spi(intid, CPU));
        if let Err(error) = enabled {
            log::warn!("interrupt {} was not enabled: {error}", intid.0);
        }
    }
    for number in bits(physical & before & !after) {
        // Only what was enabled before gets here, hence exists.
        let _ = gic::disable_spi(Intid(base + number));
    }
}
