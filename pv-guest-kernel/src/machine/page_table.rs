//! Stage-1 translation tables, 4 KiB granule, 39-bit addresses (Arm ARM D8.3): an identity map
//! of 512 GiB out of blocks, which are split where a smaller range differs.

use core::fmt;
use core::ops::Range;

const ENTRIES: usize = 512;
const PAGE_SHIFT: u32 = 12;
/// The first level that 39 bits need.
const FIRST_LEVEL: u32 = 1;
const LAST_LEVEL: u32 = 3;
/// What the tables can translate.
pub(crate) const ADDRESS_LIMIT: u64 = 1 << 39;

const VALID: u64 = 1 << 0;
/// In levels 1 and 2: points to a table rather than to a block. In level 3: always set.
const TABLE_OR_PAGE: u64 = 1 << 1;
const INDEX_SHIFT: u32 = 2;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 53 | 1 << 54;
const ADDRESS_MASK: u64 = 0x0000_FFFF_FFFF_F000;

/// Index in MAIR_EL1 of normal write-back memory.
pub(crate) const NORMAL_INDEX: u64 = 0;
/// Index in MAIR_EL1 of Device-nGnRE.
pub(crate) const DEVICE_INDEX: u64 = 1;

/// How a range of addresses may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Not at all.
    Nothing,
    /// Normal memory, to execute and to read.
    Code,
    /// Normal memory, to read.
    Constants,
    /// Normal memory, to read and write.
    Data,
    /// Registers.
    Device,
}

impl Memory {
    const fn attributes(self) -> u64 {
        let normal = VALID | ACCESSED | INNER_SHAREABLE | NORMAL_INDEX << INDEX_SHIFT;
        match self {
            Memory::Nothing => 0,
            Memory::Code => normal | READ_ONLY,
            Memory::Constants => normal | READ_ONLY | EXECUTE_NEVER,
            Memory::Data => normal | EXECUTE_NEVER,
            Memory::Device => VALID | ACCESSED | EXECUTE_NEVER | DEVICE_INDEX << INDEX_SHIFT,
        }
    }
}

/// The pool of tables is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfTables;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Table([u64; ENTRIES]);

/// A tree of tables. The first is the root; entries hold the tables' own addresses, so it must
/// not move once it is filled.
pub(crate) struct PageTables<const COUNT: usize> {
    tables: [Table; COUNT],
    used: usize,
}

impl<const COUNT: usize> fmt::Debug for PageTables<COUNT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageTables").field("used", &self.used).finish_non_exhaustive()
    }
}

impl<const COUNT: usize> PageTables<COUNT> {
    /// An empty root.
    pub(crate) const fn new() -> Self {
        // Stays all zeroes, so that it takes no room in the image.
        PageTables { tables: [Table([0; ENTRIES]); COUNT], used: 0 }
    }

    /// What TTBR0_EL1 takes.
    pub(crate) fn root(&self) -> u64 {
        self.tables.as_ptr().addr() as u64
    }

    /// Maps, 1:1, all pages that the range touches, replacing what they were.
    pub(crate) fn map(&mut self, range: Range<u64>, memory: Memory) -> Result<(), OutOfTables> {
        let page = (1 << PAGE_SHIFT) - 1;
        let end = range.end.min(ADDRESS_LIMIT).next_multiple_of(page + 1);
        self.map_in(0, FIRST_LEVEL, (range.start & !page)..end, memory)
    }

    fn map_in(
        &mut self,
        table: usize,
        level: u32,
        range: Range<u64>,
        memory: Memory,
    ) -> Result<(), OutOfTables> {
        let span = 1 << level_shift(level);
        let mut address = range.start;
        while address < range.end {
            let index = (address / span) as usize % ENTRIES;
            let next = (address / span * span + span).min(range.end);
            if next - address == span {
                self.tables[table].0[index] = leaf(address, level, memory.attributes());
            } else {
                let child = self.child(table, level, index)?;
                self.map_in(child, level + 1, address..next, memory)?;
            }
            address = next;
        }
        Ok(())
    }

    /// The table below an entry; if the entry is a block, or nothing, it is split first.
    fn child(&mut self, table: usize, level: u32, index: usize) -> Result<usize, OutOfTables> {
        let entry = self.tables[table].0[index];
        if entry & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE {
            return Ok(((entry & ADDRESS_MASK) - self.root()) as usize / size_of::<Table>());
        }
        self.used += 1;
        let child = self.used;
        let address = self.root() + (child * size_of::<Table>()) as u64;
        let parts = &mut self.tables.get_mut(child).ok_or(OutOfTables)?.0;
        for (part, index) in parts.iter_mut().zip(0..) {
            let start = (entry & ADDRESS_MASK) + (index << level_shift(level + 1));
            *part = leaf(start, level + 1, entry & !ADDRESS_MASK);
        }
        self.tables[table].0[index] = address | TABLE_OR_PAGE | VALID;
        Ok(child)
    }
}

/// Address bits below those that a level translates.
const fn level_shift(level: u32) -> u32 {
    PAGE_SHIFT + 9 * (LAST_LEVEL - level)
}

fn leaf(address: u64, level: u32, attributes: u64) -> u64 {
    if attributes & VALID == 0 {
        return 0;
    }
    let kind = if level == LAST_LEVEL { TABLE_OR_PAGE } else { 0 };
    address | attributes | kind
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLES: usize = 64;

    /// Walks as the hardware does.
    fn translate(tables: &PageTables<TABLES>, address: u64) -> Option<(u64, u64)> {
        let mut table = 0;
        for level in FIRST_LEVEL..=LAST_LEVEL {
            let shift = level_shift(level);
            let entry = tables.tables[table].0[(address >> shift) as usize % ENTRIES];
            if entry & VALID == 0 {
                return None;
            }
            if level == LAST_LEVEL || entry & TABLE_OR_PAGE == 0 {
                let offset = address & ((1 << shift) - 1);
                let attributes = entry & !ADDRESS_MASK & !TABLE_OR_PAGE;
                return Some(((entry & ADDRESS_MASK) + offset, attributes));
            }
            table = ((entry & ADDRESS_MASK) - tables.root()) as usize / size_of::<Table>();
        }
        None
    }

    fn memory() -> impl Strategy<Value = Memory> {
        use Memory::*;
        prop::sample::select(vec![Nothing, Code, Constants, Data, Device])
    }

    proptest! {
        #[test]
        fn the_last_mapping_of_an_address_counts(
            ranges in prop::collection::vec((0u64..0x1_0000_0000, 1u64..0x8000_0000, memory()), 1..6),
            probes in prop::collection::vec(0u64..0x2_0000_0000, 20),
        ) {
            let mut tables = Box::new(PageTables::<TABLES>::new());
            for &(start, size, memory) in &ranges {
                tables.map(start..start + size, memory).unwrap();
            }
            let edges = ranges.iter().flat_map(|&(start, size, _)| [start, start + size - 1]);
            for address in probes.into_iter().chain(edges) {
                let page = address & !0xFFF;
                let expected = ranges
                    .iter()
                    .rfind(|&&(start, size, _)| start & !0xFFF <= page && page < start + size)
                    .map(|&(_, _, memory)| memory)
                    .filter(|&memory| memory != Memory::Nothing)
                    .map(|memory| (address, memory.attributes()));
                prop_assert_eq!(translate(&tables, address), expected);
            }
        }
    }

    #[test]
    fn whole_blocks_need_no_tables() {
        let mut tables = Box::new(PageTables::<1>::new());
        tables.map(0..ADDRESS_LIMIT, Memory::Data).unwrap();
        assert_eq!(tables.map(0..4096, Memory::Nothing), Err(OutOfTables));
    }

    #[test]
    fn nothing_is_both_writable_and_executable() {
        use Memory::*;
        for memory in [Code, Constants, Data, Device] {
            let attributes = memory.attributes();
            assert!(attributes & READ_ONLY != 0 || attributes & EXECUTE_NEVER == EXECUTE_NEVER);
        }
    }
}
