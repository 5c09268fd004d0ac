//! Which blocks of a disk were written, and where they are.

use alloc::vec::Vec;

use abi::PAGE_SIZE;
use abi::block::SECTORS_PER_PAGE;
use pv_guest_kernel::shared::SharedPage;

use crate::block::table::Table;

/// Sectors of a block.
pub(super) const BLOCK: u64 = SECTORS_PER_PAGE as u64;
/// Blocks in memory that come into being together.
const TOGETHER: usize = 16;

/// Which blocks there are, and where.
pub(super) struct Blocks {
    /// By number on the guest's disk.
    pub(super) table: Table<Block>,
    /// Places that are not in use any more.
    free: Vec<u32>,
    /// Places that were ever in use.
    used: u32,
    /// How many there may be.
    limit: u32,
    /// Those in memory, by place.
    pub(super) ram: Vec<SharedPage>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Block {
    /// Its place, plus one; zero if it has none.
    pub(super) place: u32,
    /// A bit for each sector that is there.
    pub(super) valid: u8,
}

impl Blocks {
    /// For a disk of so many sectors, of which blocks of so many bytes may be written.
    pub(super) fn new(sectors: u64, bytes: u64) -> Blocks {
        let blocks = usize::try_from(sectors.div_ceil(BLOCK)).unwrap_or(usize::MAX);
        Blocks {
            table: Table::new(blocks),
            free: Vec::new(),
            used: 0,
            limit: u32::try_from(bytes / PAGE_SIZE as u64).unwrap_or(u32::MAX - 1),
            ram: Vec::new(),
        }
    }

    /// A block with a place; `None` if there is no room for another.
    pub(super) fn place(&mut self, number: usize, in_ram: bool) -> Option<Block> {
        if let Some(block) = self.table.get(number).filter(|block| block.place != 0) {
            return Some(*block);
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.new_place(in_ram)?,
        };
        let entry = self.table.entry(number)?;
        *entry = Block { place: place + 1, valid: 0 };
        Some(*entry)
    }

    fn new_place(&mut self, in_ram: bool) -> Option<u32> {
        if self.used >= self.limit {
            return None;
        }
        if in_ram && self.used as usize >= self.ram.len() {
            self.ram.extend(SharedPage::allocate_run(TOGETHER).ok()?);
        }
        self.used += 1;
        Some(self.used - 1)
    }

    /// These sectors of a block are there.
    pub(super) fn mark(&mut self, number: usize, mask: u8) {
        if let Some(entry) = self.table.entry(number) {
            entry.valid |= mask;
        }
    }

    /// Forgets whole blocks. A place on a disk stays the block's: a write to it may be on its way.
    pub(super) fn discard(&mut self, sector: u64, count: u64) {
        let whole = sector.div_ceil(BLOCK)..(sector + count) / BLOCK;
        for number in whole {
            let number = number as usize;
            if self.table.get(number).is_none_or(|block| block.place == 0) {
                continue;
            }
            let in_ram = !self.ram.is_empty();
            if let Some(entry) = self.table.entry(number) {
                entry.valid = 0;
                if in_ram {
                    self.free.push(core::mem::take(entry).place - 1);
                }
            }
        }
    }
}
