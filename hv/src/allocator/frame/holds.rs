//! What is known of a frame that somebody has, and its holds.

use abi::DomId;

use super::FramePool;
use super::buddy::MAX_ORDER;
use super::table::{Entry, Index, Kind};
use crate::allocator::slot;
use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// Frames in a block of the largest order.
const BLOCK: u32 = 1 << MAX_ORDER;
/// Frames that are given back one by one before others may use the CPU.
const SINGLE_FRAMES: usize = 256;

impl FramePool {
    /// The frame, if a domain may see it: RAM, or a page shared with the monitor.
    #[inline(always)]
    pub fn ram(&self, mfn: Mfn) -> Option<RamFrame> {
        let index = self.index(mfn)?;
        matches!(self.table[index].kind, Kind::Ram | Kind::Orphan | Kind::Shared)
            .then(|| self.frame(index))
    }

    /// A frame's owner, if it has one.
    #[inline]
    pub fn owner(&self, mfn: Mfn) -> Option<DomId> {
        let entry = &self.table[self.index(mfn)?];
        (entry.holds > 0).then_some(entry.owner)
    }

    /// What a frame is used for.
    pub fn kind(&self, mfn: Mfn) -> Kind {
        self.index(mfn).map_or(Kind::Absent, |index| self.table[index].kind)
    }

    /// How many holds there are on a frame.
    pub fn holds(&self, mfn: Mfn) -> u32 {
        self.index(mfn).map_or(0, |index| self.table[index].holds)
    }

    /// Adds a hold to a frame that has one.
    #[inline(always)]
    pub fn retain(&mut self, frame: RamFrame) {
        let Some(index) = self.index(frame.mfn()) else { return };
        let entry = &mut self.table[index];
        debug_assert!(entry.holds > 0, "a free frame is held");
        // It cannot overflow: each hold is a descriptor or a record in frames that the holder
        // pays for, and nobody can pay for 2^32 of them.
        entry.holds = entry.holds.saturating_add(1);
    }

    /// Drops a hold and returns how many are left. After the last, the frame is free.
    #[inline(always)]
    pub fn release(&mut self, frame: RamFrame) -> u32 {
        let Some(index) = self.index(frame.mfn()) else { return 0 };
        let entry = &mut self.table[index];
        debug_assert!(entry.holds > 0, "a free frame is released");
        match entry.holds {
            0 => 0,
            1 => {
                self.reclaim(index);
                0
            }
            holds => {
                entry.holds = holds - 1;
                holds - 1
            }
        }
    }

    /// Drops the owner's hold on a frame of its RAM; nothing happens if that is no domain's RAM. If
    /// others hold it, it stays charged to the owner until they release it.
    #[inline(always)]
    pub fn surrender(&mut self, mfn: Mfn) {
        let Some(index) = self.index(mfn) else { return };
        let Entry { owner, kind, holds, .. } = self.table[index];
        match (kind, holds) {
            (Kind::Ram, 1) => self.give_back(index, owner, Kind::Ram),
            (Kind::Ram, _) => self.orphan(index),
            _ => {}
        }
    }

    /// Takes a frame of RAM that others hold out of its owner's RAM.
    #[inline(never)]
    fn orphan(&mut self, index: Index) {
        let entry = self.table[index];
        let account = &mut self.accounts[slot(entry.owner)];
        self.table.unlink(account.list(Kind::Ram), index);
        let orphan = Entry { kind: Kind::Orphan, holds: entry.holds.saturating_sub(1), ..entry };
        self.table.push(account.list(Kind::Orphan), index, orphan);
    }

    /// Drops the last hold on each frame of a block allocated at once.
    pub(in crate::allocator) fn release_block(&mut self, first: RamFrame, order: u8) {
        let Some(index) = self.index(first.mfn()) else { return };
        for offset in 0..1 << order {
            self.release(self.frame(index.plus(offset)));
        }
    }

    /// Surrenders the next frames of a domain's RAM: a whole block of the largest order where the
    /// domain has one, as it mostly does, or single frames up to what may be one. False if there
    /// was none.
    pub(in crate::allocator) fn surrender_some(&mut self, domain: DomId) -> bool {
        let Some(head) = self.account_mut(domain).list(Kind::Ram).some() else { return false };
        if let Some(block) = self.block_listed_from(head) {
            self.surrender_block(domain, block);
            return true;
        }
        self.surrender(self.frame(head).mfn());
        for _ in 1..SINGLE_FRAMES {
            let head = self.account_mut(domain).list(Kind::Ram).some();
            let Some(single) = head.filter(|head| head.0 % BLOCK != BLOCK - 1) else { break };
            self.surrender(self.frame(single).mfn());
        }
        true
    }

    /// The block of the largest order whose last frame is at the head of its owner's list, if all
    /// of it follows there in order, as it does since it was allocated at once, and nobody else
    /// holds any of it.
    fn block_listed_from(&self, head: Index) -> Option<Index> {
        let first = Index(head.0.checked_sub(BLOCK - 1)?);
        let entries = self.table.0.get(first.0 as usize..=head.0 as usize)?;
        let unshared = entries.iter().all(|entry| entry.holds == 1);
        let above = entries.iter().skip(1).zip(first.0..);
        let in_order = above.into_iter().all(|(entry, below)| entry.next == Index(below));
        (first.0.is_multiple_of(BLOCK) && unshared && in_order).then_some(first)
    }

    /// Takes the block that begins a domain's list of RAM off it, and frees it as one.
    fn surrender_block(&mut self, domain: DomId, first: Index) {
        let rest = self.table[first].next;
        let block = first.0 as usize..(first.0 + BLOCK) as usize;
        if let Some(entries) = self.table.0.get_mut(block) {
            entries.fill(Entry { kind: Kind::FreeInside, ..Entry::ABSENT });
        }
        if let Some(rest) = rest.some() {
            self.table[rest].previous = Index::NONE;
        }
        let account = self.account_mut(domain);
        *account.list(Kind::Ram) = rest;
        account.refund(Kind::Ram, BLOCK.into());
        self.buddy.give(&mut self.table, first, MAX_ORDER);
    }

    /// Frees all that the monitor still keeps for a domain, whose records are unreachable now.
    pub(in crate::allocator) fn sweep_overhead(&mut self, domain: DomId) {
        while let Some(index) = self.account_mut(domain).list(Kind::Private).some() {
            self.reclaim(index);
        }
    }

    /// Frees a frame.
    #[inline(never)]
    fn reclaim(&mut self, index: Index) {
        let Entry { owner, kind, .. } = self.table[index];
        self.give_back(index, owner, kind);
    }

    #[inline(always)]
    fn give_back(&mut self, index: Index, owner: DomId, kind: Kind) {
        let account = &mut self.accounts[slot(owner)];
        account.refund(kind, 1);
        self.table.unlink(account.list(kind), index);
        self.buddy.give(&mut self.table, index, 0);
    }
}
