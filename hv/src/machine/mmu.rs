//! The monitor's own address space: every address is the physical one, RAM is never executable,
//! code never writable, stacks have unmapped guard pages, and what is not named here is not
//! mapped (Arm ARM D8; EL2 stage 1).

use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aarch64_paging::MapError;
use aarch64_paging::descriptor::{El23Attributes, PhysicalAddress};
use aarch64_paging::paging::{Constraints, El2, MemoryRegion, PageTable, RootTable, Translation};

use super::image::Image;
use super::percpu;

/// Index 0: normal memory, write-back, allocating; index 1: device, nGnRE.
#[cfg(target_os = "none")]
const MEMORY_ATTRIBUTES: u64 = 0x04FF;

const MAPPED: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::USER_RES1)
    .union(El23Attributes::INNER_SHAREABLE);
const DATA: El23Attributes =
    MAPPED.union(El23Attributes::ATTRIBUTE_INDEX_0).union(El23Attributes::XN);
const CONSTANTS: El23Attributes = DATA.union(El23Attributes::READ_ONLY);
const CODE: El23Attributes =
    MAPPED.union(El23Attributes::ATTRIBUTE_INDEX_0).union(El23Attributes::READ_ONLY);
const DEVICE: El23Attributes =
    MAPPED.union(El23Attributes::ATTRIBUTE_INDEX_1).union(El23Attributes::XN);

/// Tables that the monitor may need: one for the root, and a few for every region whose ends are
/// not those of large blocks.
const TABLES: usize = 64;

#[repr(transparent)]
struct Pool(UnsafeCell<[PageTable<El23Attributes>; TABLES]>);

// SAFETY: `allocate_table` gives each element away once.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([PageTable::EMPTY; TABLES]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// The root table, for CPUs that are started later.
static ROOT: AtomicU64 = AtomicU64::new(0);

/// The pool as `aarch64-paging` wants it: addresses are physical ones.
struct IdentityPool;

impl Translation<El23Attributes> for IdentityPool {
    fn allocate_table(&mut self) -> (NonNull<PageTable<El23Attributes>>, PhysicalAddress) {
        let index = USED.fetch_add(1, Ordering::Relaxed);
        assert!(index < TABLES, "the machine's memory map needs too many tables");
        let tables: *mut PageTable<El23Attributes> = POOL.0.get().cast();
        // SAFETY: the index is inside the pool.
        let table = unsafe { NonNull::new_unchecked(tables.add(index)) };
        (table, PhysicalAddress(table.as_ptr().expose_provenance()))
    }

    unsafe fn deallocate_table(&mut self, _table: NonNull<PageTable<El23Attributes>>) {
        // A handful at boot, when a mapping is replaced by a finer one: not worth reusing.
    }

    fn physical_to_virtual(&self, address: PhysicalAddress) -> NonNull<PageTable<El23Attributes>> {
        let tables: *mut PageTable<El23Attributes> = POOL.0.get().cast();
        let pointer = tables.with_addr(address.0);
        // SAFETY: tables come from the pool only, which is not at address zero.
        unsafe { NonNull::new_unchecked(pointer) }
    }
}

/// Builds the monitor's tables: all RAM, the devices that it uses, and its own image.
pub fn build(image: &Image, memory: &[Range<u64>], devices: &[Range<u64>]) -> Result<(), MapError> {
    let root = tables(image, memory, devices)?;
    ROOT.store(root.to_physical().0 as u64, Ordering::Release);
    // Dropping the root would give its tables back.
    core::mem::forget(root);
    Ok(())
}

fn tables(
    image: &Image,
    memory: &[Range<u64>],
    devices: &[Range<u64>],
) -> Result<RootTable<El2, IdentityPool>, MapError> {
    let mut root = RootTable::new(IdentityPool, 0, El2);
    for range in memory {
        map(&mut root, range, DATA)?;
    }
    for range in devices {
        map(&mut root, range, DEVICE)?;
    }
    map(&mut root, &image.code, CODE)?;
    map(&mut root, &image.constants, CONSTANTS)?;
    for page in percpu::guard_pages() {
        map(&mut root, &(page as u64..(page + abi::PAGE_SIZE) as u64), El23Attributes::empty())?;
    }
    Ok(root)
}

fn map(
    root: &mut RootTable<El2, IdentityPool>,
    range: &Range<u64>,
    attributes: El23Attributes,
) -> Result<(), MapError> {
    let region = MemoryRegion::new(range.start as usize, range.end as usize);
    root.map_range(
        &region,
        PhysicalAddress(region.start().0),
        attributes,
        Constraints::NO_CONTIGUOUS_HINT,
    )
}

/// What goes into a CPU's registers to switch the MMU and the caches on, in the order in which
/// `boot` writes it.
#[cfg(target_os = "none")]
#[derive(Debug)]
#[repr(C)]
pub(super) struct Control {
    mair: u64,
    tcr: u64,
    ttbr: u64,
    sctlr: u64,
}

#[cfg(target_os = "none")]
impl Control {
    /// For the tables that `build` made.
    pub(super) fn new() -> Control {
        const INPUT_BITS: u64 = 48;
        const TCR_RES1: u64 = 1 << 31 | 1 << 23;
        const INNER_SHAREABLE_WRITE_BACK: u64 = 0b11 << 12 | 0b01 << 10 | 0b01 << 8;
        const SCTLR_RES1: u64 = 0x30C5_0830;
        const MMU: u64 = 1 << 0;
        const DATA_CACHE: u64 = 1 << 2;
        const STACK_ALIGNMENT: u64 = 1 << 3;
        const INSTRUCTION_CACHE: u64 = 1 << 12;
        const WRITABLE_NEVER_EXECUTES: u64 = 1 << 19;
        Control {
            mair: MEMORY_ATTRIBUTES,
            tcr: TCR_RES1
                | super::el2::physical_size() << 16
                | INNER_SHAREABLE_WRITE_BACK
                | (64 - INPUT_BITS),
            ttbr: ROOT.load(Ordering::Acquire),
            sctlr: SCTLR_RES1
                | MMU
                | DATA_CACHE
                | STACK_ALIGNMENT
                | INSTRUCTION_CACHE
                | WRITABLE_NEVER_EXECUTES,
        }
    }

    /// Switches this CPU's MMU and caches on.
    ///
    /// # Safety
    /// `build` must have mapped all memory and devices that are used from now on.
    pub(super) unsafe fn enable(&self) {
        // SAFETY: code, stack and data keep their addresses and stay accessible, as the caller
        // promises; stale translations are forgotten before the first is made.
        unsafe {
            core::arch::asm!(
                "msr mair_el2, {mair}",
                "msr tcr_el2, {tcr}",
                "msr ttbr0_el2, {ttbr}",
                "dsb ish",
                "isb",
                "tlbi alle2",
                "ic iallu",
                "dsb nsh",
                "isb",
                "msr sctlr_el2, {sctlr}",
                "isb",
                mair = in(reg) self.mair,
                tcr = in(reg) self.tcr,
                ttbr = in(reg) self.ttbr,
                sctlr = in(reg) self.sctlr,
                options(nostack, preserves_flags)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use core::slice;

    use super::*;

    const IMAGE: Range<u64> = 0x4020_0000..0x4030_0000;

    fn rights_at(root: &RootTable<El2, IdentityPool>, address: u64) -> El23Attributes {
        let page = MemoryRegion::new(address as usize, address as usize + 1);
        let mut rights = El23Attributes::empty();
        root.walk_range(&page, &mut |_, leaf, _| {
            rights = leaf.flags();
            Ok(())
        })
        .expect("inside the tables' range");
        rights
    }

    #[test]
    fn nothing_is_both_written_and_executed() {
        let image = Image {
            all: IMAGE,
            code: IMAGE.start..IMAGE.start + 0x1_5000,
            constants: IMAGE.start + 0x1_5000..IMAGE.start + 0x4_7000,
            symbols: 0..0,
        };
        let uart = 0x0900_0000..0x0900_1000;
        let memory = 0x4000_0000..0x6000_0000;
        let root = tables(&image, slice::from_ref(&memory), &[uart]).expect("tables");
        let code = rights_at(&root, image.code.end - 1);
        assert!(code.contains(El23Attributes::READ_ONLY) && !code.contains(El23Attributes::XN));
        for constant in [image.constants.start, image.constants.end - 1] {
            assert!(rights_at(&root, constant).contains(CONSTANTS));
        }
        for data in [0x4000_0000, IMAGE.start - 1, image.constants.end, 0x5FFF_FFFF] {
            let rights = rights_at(&root, data);
            assert!(rights.contains(DATA) && !rights.contains(El23Attributes::READ_ONLY));
        }
        assert!(rights_at(&root, 0x0900_0FFF).contains(DEVICE));
        for nowhere in [0, 0x0900_1000, 0x3FFF_FFFF, 0x6000_0000] {
            assert!(!rights_at(&root, nowhere).contains(El23Attributes::VALID));
        }
    }
}
