//! Turns the MMU and the caches on: memory is mapped 1:1, this image write-xor-execute.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ops::Range;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1};
use fdt::Fdt;
use tock_registers::interfaces::{ReadWriteable, Writeable};

use super::page_table::{Memory, OutOfTables, PageTables};
use super::stack::Area;
use super::{cpu, image};
use crate::device_tree;
use crate::memory::{RAM_LIMIT, WINDOW};

const GIB: u64 = 1 << 30;
/// Bits of SCTLR_EL1 that are one on CPUs without the features that they control (Arm ARM
/// D24.2.175): nTLSMD, LSMAOE, SPAN, EIS, TSCXT, EOS.
const SCTLR_RES1: u64 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11;

struct Tables(UnsafeCell<PageTables<40>>);

// SAFETY: only `enable` touches the tables, once, before another vCPU is started.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables(UnsafeCell::new(PageTables::new()));

/// Maps what the device tree tells of, and turns the MMU on. To be called once. `stacks` are those
/// of other vCPUs.
pub(super) fn enable(tree: &Fdt<'static>, stacks: &Range<u64>) -> Result<(), OutOfTables> {
    // SAFETY: called once, before anything else could look at the tables.
    let tables = unsafe { &mut *TABLES.0.get() };
    fill(tables, tree, stacks)?;
    // The image was loaded through caches that are off as yet: what relocation and the tables
    // have written lies in memory, and stale copies of it must not come back.
    let image = image::whole();
    cpu::clean_and_invalidate(&image);
    load(tables.root());
    Ok(())
}

fn fill<const COUNT: usize>(
    tables: &mut PageTables<COUNT>,
    tree: &Fdt<'static>,
    stacks: &Range<u64>,
) -> Result<(), OutOfTables> {
    // Below and between the banks of RAM lie the ring pages that the toolstack made, and devices.
    // RAM may come behind them later.
    let ram_end = device_tree::memory(tree).map(|bank| bank.end).max().unwrap_or(0);
    tables.map(0..ram_end.max(RAM_LIMIT).next_multiple_of(GIB), Memory::Data)?;
    for registers in device_tree::devices(tree) {
        tables.map(registers, Memory::Device)?;
    }
    if let Some(frames) = device_tree::grant_window(tree) {
        tables.map(frames, Memory::Data)?;
    }
    tables.map(WINDOW, Memory::Data)?;
    tables.map(image::text(), Memory::Code)?;
    tables.map(image::constants(), Memory::Constants)?;
    tables.map(image::stack_guard(), Memory::Nothing)?;
    for area in (1..).map_while(|vcpu| Area::of(stacks, vcpu)) {
        tables.map(area.guard, Memory::Nothing)?;
    }
    // Null pointers shall fault.
    tables.map(0..1, Memory::Nothing)
}

/// The registers' values do not depend on the machine: an IPA has at most 40 bits here.
fn load(root: u64) {
    MAIR_EL1.write(
        MAIR_EL1::Attr0_Normal_Outer::WriteBack_NonTransient_ReadWriteAlloc
            + MAIR_EL1::Attr0_Normal_Inner::WriteBack_NonTransient_ReadWriteAlloc
            + MAIR_EL1::Attr1_Device::nonGathering_nonReordering_EarlyWriteAck,
    );
    TCR_EL1.write(
        TCR_EL1::T0SZ.val(25)
            + TCR_EL1::TG0::KiB_4
            + TCR_EL1::SH0::Inner
            + TCR_EL1::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL1::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL1::EPD1::DisableTTBR1Walks
            + TCR_EL1::IPS::Bits_40,
    );
    TTBR0_EL1.set_baddr(root);
    // SAFETY: barriers and maintenance only. The new tables map the running code where it is.
    unsafe {
        asm!("dsb sy", "tlbi vmalle1", "ic iallu", "dsb sy", "isb", options(nostack));
    }
    SCTLR_EL1.set(SCTLR_RES1);
    SCTLR_EL1.modify(
        SCTLR_EL1::M::Enable
            + SCTLR_EL1::C::Cacheable
            + SCTLR_EL1::I::Cacheable
            + SCTLR_EL1::WXN::Enable
            + SCTLR_EL1::SA::Enable,
    );
    barrier::isb(barrier::SY);
}
