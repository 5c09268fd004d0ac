//! The frame table: one entry for each frame, and the lists that run through the entries.

use core::ops::{Index as IndexBy, IndexMut};

use abi::DomId;

/// What a frame is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Not managed: no RAM, or in use since before the pool was made.
    Absent,
    /// First frame of a free block.
    Free,
    /// Any other frame of a free block.
    FreeInside,
    /// A domain's RAM.
    Ram,
    /// A domain's RAM that it has given up, but that somebody still holds.
    Orphan,
    /// The monitor's, readable and writable by a domain: shared info, grant table.
    Shared,
    /// The monitor's own: tables, records.
    Private,
}

/// What is known of a frame. `previous` and `next` link it into its owner's list of RAM or into
/// the list of free blocks of its order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) owner: DomId,
    pub(super) kind: Kind,
    /// Of a [`Kind::Free`] block: log2 of its frames.
    pub(super) order: u8,
    pub(super) holds: u32,
    pub(super) previous: Index,
    pub(super) next: Index,
}

const _: () = assert!(size_of::<Entry>() == 16, "the frame table takes 1/256 of RAM");

impl Entry {
    pub(super) const ABSENT: Entry = Entry {
        owner: DomId::INVALID,
        kind: Kind::Absent,
        order: 0,
        holds: 0,
        previous: Index::NONE,
        next: Index::NONE,
    };
}

/// The number of an entry, made only from a checked frame number or from a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Index(pub(super) u32);

impl Index {
    /// The end of a list.
    pub(super) const NONE: Index = Index(u32::MAX);

    /// The index, unless it is the end of a list.
    #[inline(always)]
    pub(super) fn some(self) -> Option<Index> {
        (self != Index::NONE).then_some(self)
    }

    /// The `count`th entry after this one, which must be in the same block.
    pub(super) fn plus(self, count: u32) -> Index {
        Index(self.0.wrapping_add(count))
    }

    /// The other half of the block of `2^(order + 1)` frames that this block belongs to.
    pub(super) fn buddy(self, order: u8) -> Index {
        Index(self.0 ^ (1 << order))
    }
}

/// The entries.
#[derive(Debug)]
pub(super) struct Table(pub(super) &'static mut [Entry]);

impl IndexBy<Index> for Table {
    type Output = Entry;

    fn index(&self, index: Index) -> &Entry {
        &self.0[index.0 as usize]
    }
}

impl IndexMut<Index> for Table {
    fn index_mut(&mut self, index: Index) -> &mut Entry {
        &mut self.0[index.0 as usize]
    }
}

impl Table {
    /// The entry, if there is one.
    pub(super) fn get(&self, index: Index) -> Option<&Entry> {
        self.0.get(index.0 as usize)
    }

    /// Makes `entry` the one at `index`, at the head of a list.
    #[inline(always)]
    pub(super) fn push(&mut self, head: &mut Index, index: Index, entry: Entry) {
        let next = core::mem::replace(head, index);
        self[index] = Entry { previous: Index::NONE, next, ..entry };
        if let Some(next) = next.some() {
            self[next].previous = index;
        }
    }

    /// Takes an entry out of the list that starts at `head`.
    #[inline(always)]
    pub(super) fn unlink(&mut self, head: &mut Index, index: Index) {
        let Entry { previous, next, .. } = self[index];
        match previous.some() {
            Some(previous) => self[previous].next = next,
            None => *head = next,
        }
        if let Some(next) = next.some() {
            self[next].previous = previous;
        }
    }
}
