//! Frames: who owns each frame of RAM, who else holds it, and which are free.
//!
//! Every frame has an entry with its owner, its [`Kind`] and a count of *holds*. Allocation gives
//! the owner the first hold; a mapping in another domain, or a record that the monitor writes to,
//! adds one with [`FramePool::retain`]. The frame is free again when the last hold is released,
//! whoever that was, and is zeroed before anyone else gets it.
//!
//! Free frames form a buddy system of the orders 0 to [`MAX_ORDER`] (4 KiB to 2 MiB). An
//! allocated block is charged and returned frame by frame.
//!
//! Each domain has an [`Account`]. It bounds the domain's RAM by what the toolstack allowed, and
//! what the monitor keeps for the domain (its *overhead*: tables, vCPU state, grant frames) by
//! [`overhead_limit`]: a domain pays for itself, and cannot grow the monitor. An account outlives
//! its domain until the last of its frames is released: it is what remains of a dead domain.

mod account;
mod buddy;
mod holds;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use core::fmt;

use abi::{DomId, Errno};

use self::buddy::Buddy;
use self::table::{Entry, Index, Table};
use super::MAX_DOMAINS;
use super::ram::{RamRange, vouched};
use crate::machine::memory::RamFrame;
use crate::types::Mfn;

pub use self::account::{Account, overhead_limit};
pub use self::buddy::MAX_ORDER;
pub use self::table::Kind;

/// Why there is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfFrames {
    /// The machine has none left (of that size).
    PoolEmpty,
    /// The domain has all that it may have.
    OverBudget,
}

impl From<OutOfFrames> for Errno {
    fn from(_: OutOfFrames) -> Errno {
        Errno::ENOMEM
    }
}

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutOfFrames::PoolEmpty => "the machine is out of frames",
            OutOfFrames::OverBudget => "the domain has used up its frames",
        })
    }
}

impl core::error::Error for OutOfFrames {}

/// All frames of RAM.
#[derive(Debug)]
pub struct FramePool {
    /// Frame of the first entry; a multiple of the largest block.
    base: u64,
    table: Table,
    buddy: Buddy,
    accounts: [Account; MAX_DOMAINS],
    total: u64,
}

impl FramePool {
    /// A pool without frames.
    pub const fn empty() -> FramePool {
        FramePool {
            base: 0,
            table: Table(&mut []),
            buddy: Buddy::EMPTY,
            accounts: [Account::VACANT; MAX_DOMAINS],
            total: 0,
        }
    }

    /// Takes the ranges, which must not overlap, into an empty pool: in place, for it is too large
    /// for a stack. The frame table is taken from the largest; `None` if there is no RAM, too
    /// little, or some beyond 2^44 bytes.
    pub fn fill(&mut self, ranges: &mut [RamRange]) -> Option<()> {
        let first = ranges.iter().map(|range| range.mfns().start).min()?;
        let end = ranges.iter().map(|range| range.mfns().end).max()?;
        // Some records keep a frame's number in 32 bits.
        u32::try_from(end).ok()?;
        self.base = first & !((1 << MAX_ORDER) - 1);
        let len = usize::try_from(u32::try_from(end.checked_sub(self.base)?).ok()?).ok()?;
        let largest =
            ranges.iter_mut().max_by_key(|range| range.mfns().end - range.mfns().start)?;
        self.table = Table(largest.carve(len, Entry::ABSENT)?);
        for range in ranges {
            self.add(range);
        }
        Some(())
    }

    /// Adds frames that were in use during boot (the modules). Frames outside the span of the
    /// ranges that the pool was made of, and frames that it has already, are left out.
    pub fn add(&mut self, range: &RamRange) {
        let mut next = range.mfns().start;
        while next < range.mfns().end {
            let order = self.addable_order(next, range.mfns().end);
            if let Some((order, block)) = order.zip(self.index(Mfn(next))) {
                for offset in 0..1 << order {
                    self.table[block.plus(offset)].kind = Kind::FreeInside;
                }
                self.buddy.give(&mut self.table, block, order);
                self.total += 1 << order;
            }
            next += 1 << order.unwrap_or(0);
        }
    }

    /// log2 of the frames in the largest block that begins at `mfn`, ends before `end`, and is
    /// absent as a whole.
    fn addable_order(&self, mfn: u64, end: u64) -> Option<u8> {
        let absent = |mfns: core::ops::Range<u64>| {
            mfns.into_iter().all(|mfn| match self.index(Mfn(mfn)) {
                Some(index) => self.table[index].kind == Kind::Absent,
                None => false,
            })
        };
        (0..=MAX_ORDER).rev().find(|&order| {
            let size = 1 << order;
            mfn.is_multiple_of(size) && end - mfn >= size && absent(mfn..mfn + size)
        })
    }

    /// Frames that nobody has.
    pub fn free(&self) -> u64 {
        self.buddy.free()
    }

    /// Frames managed.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The highest frame number that the pool may know.
    pub fn highest(&self) -> Mfn {
        Mfn(self.base + (self.table.0.len() as u64).saturating_sub(1))
    }

    /// Lets `domain` have frames: up to `max_frames` of RAM. False if the slot's previous owner
    /// still has some.
    #[must_use]
    pub fn open_account(&mut self, domain: DomId, max_frames: u64) -> bool {
        let account = self.account_mut(domain);
        let vacant = account.is_vacant();
        if vacant {
            *account = Account::opened(domain, max_frames);
        }
        vacant
    }

    /// Ends a domain: it gets no more frames.
    pub fn close_account(&mut self, domain: DomId) {
        self.account_mut(domain).open = false;
    }

    /// Changes how much RAM a domain may have. It keeps what it has beyond.
    pub fn set_max_frames(&mut self, domain: DomId, max_frames: u64) {
        self.account_mut(domain).max_frames = max_frames;
    }

    /// The account of the slot that `domain` belongs to; check [`Account::domain`] if the domain
    /// may be gone.
    pub fn account(&self, domain: DomId) -> &Account {
        &self.accounts[super::slot(domain)]
    }

    fn account_mut(&mut self, domain: DomId) -> &mut Account {
        &mut self.accounts[super::slot(domain)]
    }

    /// The accounts of all slots.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Gives `2^order` zeroed frames, contiguous and aligned to their size, to `owner`: the first
    /// of them is returned. Each gets its first hold.
    #[inline]
    pub fn allocate(
        &mut self,
        owner: DomId,
        kind: Kind,
        order: u8,
    ) -> Result<RamFrame, OutOfFrames> {
        // Guests give single pages back and take them again; larger blocks are for building.
        if order == 0 { self.take(owner, kind, 0) } else { self.take_block(owner, kind, order) }
    }

    #[inline(never)]
    fn take_block(&mut self, owner: DomId, kind: Kind, order: u8) -> Result<RamFrame, OutOfFrames> {
        self.take(owner, kind, order)
    }

    #[inline(always)]
    fn take(&mut self, owner: DomId, kind: Kind, order: u8) -> Result<RamFrame, OutOfFrames> {
        let count = 1 << order;
        self.account_mut(owner).charge(kind, u64::from(count))?;
        let Some(block) = self.buddy.take(&mut self.table, order) else {
            self.account_mut(owner).refund(kind, u64::from(count));
            return Err(OutOfFrames::PoolEmpty);
        };
        for offset in 0..count {
            self.own(block.plus(offset), owner, kind);
        }
        let first = self.frame(block);
        first.zero(1 << order);
        Ok(first)
    }

    /// Two adjacent frames, aligned to 8 KiB: a concatenated translation table.
    pub fn allocate_pair(
        &mut self,
        owner: DomId,
        kind: Kind,
    ) -> Result<(RamFrame, RamFrame), OutOfFrames> {
        let first = self.allocate(owner, kind, 1)?;
        let index = self.index(first.mfn()).ok_or(OutOfFrames::PoolEmpty)?;
        Ok((first, self.frame(index.plus(1))))
    }

    /// Gives contiguous RAM, aligned to 2 MiB, to a domain that is mapped one to one. For boot:
    /// it searches, and does not zero (the memory has held no domain's data yet).
    pub fn allocate_contiguous(
        &mut self,
        owner: DomId,
        frames: u64,
    ) -> Result<RamFrame, OutOfFrames> {
        let frames = u32::try_from(frames).map_err(|_| OutOfFrames::PoolEmpty)?;
        let first = self.find_run(frames.div_ceil(1 << MAX_ORDER)).ok_or(OutOfFrames::PoolEmpty)?;
        self.account_mut(owner).charge(Kind::Ram, u64::from(frames))?;
        let taken = frames.next_multiple_of(1 << MAX_ORDER);
        for block in (0..taken).step_by(1 << MAX_ORDER) {
            self.buddy.take_whole(&mut self.table, first.plus(block));
        }
        for offset in (0..frames).rev() {
            self.own(first.plus(offset), owner, Kind::Ram);
        }
        for offset in frames..taken {
            self.buddy.give(&mut self.table, first.plus(offset), 0);
        }
        Ok(self.frame(first))
    }

    /// The first of `blocks` adjacent free blocks of the largest order.
    fn find_run(&self, blocks: u32) -> Option<Index> {
        let whole = |block: u32| {
            let entry = self.table.get(Index(block));
            entry.is_some_and(|entry| entry.kind == Kind::Free && entry.order == MAX_ORDER)
        };
        let mut run = 0;
        let starts = (0..u32::try_from(self.table.0.len()).ok()?).step_by(1 << MAX_ORDER);
        for start in starts {
            run = if whole(start) { run + 1 } else { 0 };
            if run == blocks {
                return Some(Index(start - ((blocks - 1) << MAX_ORDER)));
            }
        }
        None
    }

    /// Makes a frame that was just taken from the free lists `owner`'s.
    #[inline(always)]
    fn own(&mut self, index: Index, owner: DomId, kind: Kind) {
        let account = &mut self.accounts[super::slot(owner)];
        let entry = Entry { owner, kind, holds: 1, ..Entry::ABSENT };
        self.table.push(account.list(kind), index, entry);
    }

    #[inline(always)]
    fn index(&self, mfn: Mfn) -> Option<Index> {
        // Of a frame below the first it is a huge number.
        let offset = mfn.0.wrapping_sub(self.base);
        // The table has fewer than 2^32 entries (`fill`).
        (offset < self.table.0.len() as u64).then_some(Index(offset as u32))
    }

    #[inline(always)]
    fn frame(&self, index: Index) -> RamFrame {
        debug_assert!(self.table[index].kind != Kind::Absent);
        let mfn = Mfn(self.base.wrapping_add(u64::from(index.0)));
        #[expect(unsafe_code, reason = "the frame table is what knows which frames are RAM")]
        // SAFETY: an entry that is not absent is a frame of a range given to `add`.
        unsafe {
            vouched(mfn)
        }
    }
}
