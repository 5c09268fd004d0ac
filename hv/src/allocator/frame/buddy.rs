//! The free blocks: one list for each order, blocks aligned to their size.

use super::table::{Entry, Index, Kind, Table};

/// log2 of the frames in the largest block: 2 MiB.
pub const MAX_ORDER: u8 = 9;

/// The lists of free blocks. They run through the frame table, which every method takes.
#[derive(Debug)]
pub(super) struct Buddy {
    heads: [Index; MAX_ORDER as usize + 1],
    free: u64,
}

impl Buddy {
    pub(super) const EMPTY: Buddy = Buddy { heads: [Index::NONE; MAX_ORDER as usize + 1], free: 0 };

    /// Free frames.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Takes a block of `2^order` frames, splitting a larger one if need be.
    #[inline(always)]
    pub(super) fn take(&mut self, table: &mut Table, order: u8) -> Option<Index> {
        match self.heads[usize::from(order)].some() {
            Some(block) => {
                self.remove(table, block, order);
                Some(block)
            }
            None => self.split(table, order),
        }
    }

    /// Makes a block of `2^order` frames from a larger one.
    #[inline(never)]
    fn split(&mut self, table: &mut Table, order: u8) -> Option<Index> {
        let heads = self.heads.iter().zip(0u8..).skip(usize::from(order) + 1);
        let (block, found) =
            heads.filter_map(|(head, found)| head.some().map(|block| (block, found))).next()?;
        self.remove(table, block, found);
        for half in (order..found).rev() {
            self.insert(table, block.buddy(half), half);
        }
        Some(block)
    }

    /// Returns a block, merging it with every free buddy.
    #[inline(always)]
    pub(super) fn give(&mut self, table: &mut Table, block: Index, order: u8) {
        match free_buddy(table, block, order) {
            Some(buddy) => self.merge(table, block, buddy, order),
            None => self.insert(table, block, order),
        }
    }

    /// Returns a block whose buddy is free.
    #[inline(never)]
    fn merge(&mut self, table: &mut Table, mut block: Index, buddy: Index, mut order: u8) {
        let mut next = Some(buddy);
        while let Some(buddy) = next {
            self.remove(table, buddy, order);
            // The upper half ends inside the merged block.
            let inside = Entry { kind: Kind::FreeInside, ..Entry::ABSENT };
            table[Index(block.0.max(buddy.0))] = inside;
            block = Index(block.0.min(buddy.0));
            order += 1;
            next = free_buddy(table, block, order);
        }
        self.insert(table, block, order);
    }

    /// Takes one particular block of the largest order out of its list.
    pub(super) fn take_whole(&mut self, table: &mut Table, block: Index) {
        self.remove(table, block, MAX_ORDER);
    }

    #[inline(always)]
    fn insert(&mut self, table: &mut Table, block: Index, order: u8) {
        let entry = Entry { kind: Kind::Free, order, ..Entry::ABSENT };
        table.push(&mut self.heads[usize::from(order)], block, entry);
        self.free += 1 << order;
    }

    #[inline(always)]
    fn remove(&mut self, table: &mut Table, block: Index, order: u8) {
        table.unlink(&mut self.heads[usize::from(order)], block);
        self.free -= 1 << order;
    }
}

/// The other half of the block that this block is half of, if it is free as a whole.
#[inline(always)]
fn free_buddy(table: &Table, block: Index, order: u8) -> Option<Index> {
    let buddy = block.buddy(order);
    let entry = table.get(buddy).filter(|_| order < MAX_ORDER)?;
    (entry.kind == Kind::Free && entry.order == order).then_some(buddy)
}
