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
    pub(super) fn take(&mut self, table: &mut Table, order: u8) -> Option<Index> {
        let heads = self.heads.iter().zip(0u8..).skip(usize::from(order));
        let (block, found) =
            heads.filter_map(|(head, found)| head.some().map(|block| (block, found))).next()?;
        self.remove(table, block, found);
        for half in (order..found).rev() {
            self.insert(table, block.buddy(half), half);
        }
        Some(block)
    }

    /// Returns a block, merging it with every free buddy.
    #[inline]
    pub(super) fn give(&mut self, table: &mut Table, mut block: Index, mut order: u8) {
        while order < MAX_ORDER {
            let buddy = block.buddy(order);
            let whole = table.get(buddy).is_some_and(|e| e.kind == Kind::Free && e.order == order);
            if !whole {
                break;
            }
            self.remove(table, buddy, order);
            // The upper half ends inside the merged block.
            table[Index(block.0.max(buddy.0))].kind = Kind::FreeInside;
            block = Index(block.0.min(buddy.0));
            order += 1;
        }
        self.insert(table, block, order);
    }

    /// Takes one particular block of the largest order out of its list.
    pub(super) fn take_whole(&mut self, table: &mut Table, block: Index) {
        self.remove(table, block, MAX_ORDER);
    }

    fn insert(&mut self, table: &mut Table, block: Index, order: u8) {
        table[block] = Entry { kind: Kind::Free, order, ..Entry::ABSENT };
        table.push(&mut self.heads[usize::from(order)], block);
        self.free += 1 << order;
    }

    fn remove(&mut self, table: &mut Table, block: Index, order: u8) {
        table.unlink(&mut self.heads[usize::from(order)], block);
        self.free -= 1 << order;
    }
}
