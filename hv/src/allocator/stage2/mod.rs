//! Stage 2: a domain's guest-physical space.
//!
//! 4 KiB granule, 40-bit guest-physical addresses: VTCR_EL2 has T0SZ 24 and SL0 1, so the walk
//! starts at level 1 in two concatenated tables (Arm ARM D8.2.2), 8 KiB aligned. RAM that comes
//! in aligned 2 MiB runs is mapped by blocks, which are split when one of their pages changes.
//!
//! The tables are frames of kind [`Kind::Private`], charged to the domain. A change of a valid
//! descriptor goes through an invalid one and a TLB flush (break-before-make, D8.16.1). Meanwhile
//! another CPU of the domain may fault on it: the fault handler finds a valid mapping once it has
//! the monitor's lock, and resumes.
//!
//! This module maps and unmaps. Whose frames these are, and who holds them, is up to `physmap`
//! and `grant`, except that [`Stage2::dismantle`] drops the holds of the leaves that have one.

mod descriptor;
#[cfg(test)]
mod tests;

use abi::{DomId, Errno, Gfn, PAGE_SHIFT};

use self::descriptor::{Descriptor, Node, Size, Slot};
use super::Progress;
use super::frame::{FramePool, Kind, MAX_ORDER, OutOfFrames};
use crate::machine::memory::{RamFrame, publish_tables};
use crate::machine::tlb;
use crate::types::{Ipa, Mfn};

pub use self::descriptor::{Leaf, LeafKind};

/// Bits of a guest-physical address.
pub const IPA_BITS: u32 = 40;
/// Frames in a block.
const BLOCK_FRAMES: u64 = 1 << MAX_ORDER;
/// log2 of the tables at level 1.
const ROOT_ORDER: u8 = 1;
/// Descriptors at level 1.
const ROOT_ENTRIES: usize = descriptor::ENTRIES << ROOT_ORDER;

/// Why a page cannot be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// There is no such guest frame number.
    OutOfRange,
    /// Something is mapped there.
    Occupied,
    /// No frame for a table.
    OutOfFrames(OutOfFrames),
}

impl From<OutOfFrames> for MapError {
    fn from(error: OutOfFrames) -> Self {
        MapError::OutOfFrames(error)
    }
}

impl From<MapError> for Errno {
    fn from(error: MapError) -> Errno {
        match error {
            MapError::OutOfRange => Errno::EINVAL,
            MapError::Occupied => Errno::EBUSY,
            MapError::OutOfFrames(error) => error.into(),
        }
    }
}

/// Fills an empty slot. A table's frame has a hold for each slot in use, beside its owner's: so an
/// empty table is known without looking at all of it, and can be given back.
#[inline(always)]
fn fill(pool: &mut FramePool, slot: Slot, descriptor: Descriptor) {
    pool.retain(slot.table);
    slot.store(descriptor);
}

/// Empties a slot that is in use. Returns whether its table has no other that is.
#[inline(always)]
fn clear(pool: &mut FramePool, slot: Slot) -> bool {
    slot.store(Descriptor::INVALID);
    pool.release(slot.table) == 1
}

/// A guest-physical space.
#[derive(Debug)]
pub struct Stage2 {
    /// The two tables at level 1.
    roots: [RamFrame; 1 << ROOT_ORDER],
    vttbr: u64,
    owner: DomId,
    /// The first guest frame that nothing was ever mapped at, nor beyond.
    end: Gfn,
    /// Descriptors at level 1 that `dismantle` is done with.
    dismantled: usize,
}

impl Stage2 {
    /// An empty space. Its tables are charged to `owner`.
    pub fn new(pool: &mut FramePool, owner: DomId) -> Result<Stage2, OutOfFrames> {
        const { assert!(super::MAX_DOMAINS <= 256, "a VMID may have 8 bits only") };
        let (first, second) = pool.allocate_pair(owner, Kind::Private)?;
        let vttbr = first.mfn().address() | (super::slot(owner) as u64) << 48;
        Ok(Stage2 { roots: [first, second], vttbr, owner, end: Gfn(0), dismantled: 0 })
    }

    /// The value of VTTBR_EL2: the tables' address and the VMID, which is the domain's slot:
    /// one of 256, as many as every CPU has.
    #[inline(always)]
    pub fn vttbr(&self) -> u64 {
        self.vttbr
    }

    /// The highest guest frame that was ever mapped.
    pub fn highest(&self) -> Option<Gfn> {
        self.end.0.checked_sub(1).map(Gfn)
    }

    /// What is mapped at a guest frame.
    #[inline]
    pub fn lookup(&self, gfn: Gfn) -> Option<Leaf> {
        let Node::Table(level2) = self.level1(gfn)?.load().as_node() else { return None };
        match level2_slot(level2, gfn).load().as_node() {
            Node::Empty => None,
            Node::Block(leaf) => Some(page_of_block(leaf, gfn)),
            Node::Table(level3) => level3_slot(level3, gfn).load().as_page(),
        }
    }

    /// The frame of the domain's own RAM that is mapped at a guest frame.
    #[inline(always)]
    pub fn own_ram(&self, gfn: Gfn) -> Option<RamFrame> {
        let level2 = level2_slot(self.level1(gfn)?.load().as_table()?, gfn).load();
        match level2.as_table() {
            Some(level3) => level3_slot(level3, gfn).load().as_own_ram(Size::Page, 0),
            None => level2.as_own_ram(Size::Block, gfn.0 % BLOCK_FRAMES),
        }
    }

    /// Maps `2^order` frames from `mfn` at `gfn`, as one block if that is possible. All of it or
    /// nothing; what is mapped already is not replaced.
    #[inline(always)]
    pub fn map(
        &mut self,
        pool: &mut FramePool,
        gfn: Gfn,
        mfn: Mfn,
        order: u8,
        kind: LeafKind,
    ) -> Result<(), MapError> {
        if order == 0 && self.map_in_table(pool, gfn, Leaf { mfn, kind }).is_some() {
            return Ok(());
        }
        self.map_any(pool, gfn, mfn, order, kind)
    }

    /// Maps a page whose table exists, in an empty slot; `None` if it is not so.
    #[inline(always)]
    fn map_in_table(&mut self, pool: &mut FramePool, gfn: Gfn, leaf: Leaf) -> Option<()> {
        let level2 = self.level1(gfn)?.load().as_table()?;
        let slot = level3_slot(level2_slot(level2, gfn).load().as_table()?, gfn);
        if slot.load() != Descriptor::INVALID {
            return None;
        }
        fill(pool, slot, Descriptor::leaf(leaf, Size::Page));
        publish_tables();
        self.end = self.end.max(Gfn(gfn.0 + 1));
        Some(())
    }

    #[inline(never)]
    fn map_any(
        &mut self,
        pool: &mut FramePool,
        gfn: Gfn,
        mfn: Mfn,
        order: u8,
        kind: LeafKind,
    ) -> Result<(), MapError> {
        let frames = 1u64.checked_shl(u32::from(order)).ok_or(MapError::OutOfRange)?;
        let last = gfn.checked_add(frames - 1).ok_or(MapError::OutOfRange)?;
        self.level1(last).ok_or(MapError::OutOfRange)?;
        if order == MAX_ORDER && (gfn.0 | mfn.0).is_multiple_of(BLOCK_FRAMES) {
            self.map_block(pool, gfn, Leaf { mfn, kind })?;
        } else {
            self.map_pages(pool, gfn, mfn, frames, kind)?;
        }
        publish_tables();
        self.end = self.end.max(Gfn(last.0 + 1));
        Ok(())
    }

    fn map_pages(
        &mut self,
        pool: &mut FramePool,
        gfn: Gfn,
        mfn: Mfn,
        frames: u64,
        kind: LeafKind,
    ) -> Result<(), MapError> {
        for offset in 0..frames {
            let (page, leaf) = (Gfn(gfn.0 + offset), Leaf { mfn: Mfn(mfn.0 + offset), kind });
            if let Err(error) = self.map_page(pool, page, leaf) {
                for mapped in 0..offset {
                    self.unmap(pool, Gfn(gfn.0 + mapped))?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn map_page(&mut self, pool: &mut FramePool, gfn: Gfn, leaf: Leaf) -> Result<(), MapError> {
        let level1 = self.level1(gfn).ok_or(MapError::OutOfRange)?;
        let level2 = self.table_at(pool, level1)?;
        let level3 = self.table_at(pool, level2_slot(level2, gfn))?;
        let slot = level3_slot(level3, gfn);
        if slot.load() != Descriptor::INVALID {
            return Err(MapError::Occupied);
        }
        fill(pool, slot, Descriptor::leaf(leaf, Size::Page));
        Ok(())
    }

    fn map_block(&mut self, pool: &mut FramePool, gfn: Gfn, leaf: Leaf) -> Result<(), MapError> {
        let level1 = self.level1(gfn).ok_or(MapError::OutOfRange)?;
        let slot = level2_slot(self.table_at(pool, level1)?, gfn);
        if slot.load() != Descriptor::INVALID {
            return Err(MapError::Occupied);
        }
        fill(pool, slot, Descriptor::leaf(leaf, Size::Block));
        Ok(())
    }

    /// The table below a descriptor, made if there is none.
    fn table_at(&self, pool: &mut FramePool, slot: Slot) -> Result<RamFrame, MapError> {
        match slot.load().as_node() {
            Node::Table(table) => Ok(table),
            Node::Block(_) => Err(MapError::Occupied),
            Node::Empty => {
                let table = pool.allocate(self.owner, Kind::Private, 0)?;
                // The walker must find zeros, not what the frame held before.
                publish_tables();
                fill(pool, slot, Descriptor::table(table));
                Ok(table)
            }
        }
    }

    /// Unmaps a page and says what was there. Fails only if a block would have to be split and
    /// there is no frame for the table.
    #[inline(always)]
    pub fn unmap(&mut self, pool: &mut FramePool, gfn: Gfn) -> Result<Option<Leaf>, OutOfFrames> {
        self.unmap_if(pool, gfn, |_| Ok(()))
    }

    /// Unmaps a page and says what was there, if `allow` agrees. An error is its own, or means that
    /// a block would have to be split and there is no frame for the table.
    #[inline(always)]
    pub fn unmap_if<E: From<OutOfFrames>>(
        &mut self,
        pool: &mut FramePool,
        gfn: Gfn,
        allow: impl FnOnce(LeafKind) -> Result<(), E>,
    ) -> Result<Option<Leaf>, E> {
        let Some(level1) = self.level1(gfn) else { return Ok(None) };
        let Some(level2) = level1.load().as_table() else { return Ok(None) };
        let slot = level2_slot(level2, gfn);
        let level3 = match slot.load().as_node() {
            Node::Empty => return Ok(None),
            Node::Table(level3) => level3,
            Node::Block(block) => {
                allow(block.kind)?;
                let level3 = self.split(pool, slot, gfn, block)?;
                self.clear_page(pool, [level1, slot], level3, gfn);
                return Ok(Some(page_of_block(block, gfn)));
            }
        };
        let Some(leaf) = level3_slot(level3, gfn).load().as_page() else { return Ok(None) };
        allow(leaf.kind)?;
        self.clear_page(pool, [level1, slot], level3, gfn);
        Ok(Some(leaf))
    }

    /// Empties the slot of a page, and with it the tables above that become empty.
    #[inline(always)]
    fn clear_page(&self, pool: &mut FramePool, above: [Slot; 2], level3: RamFrame, gfn: Gfn) {
        if clear(pool, level3_slot(level3, gfn)) {
            return self.clear_table(pool, above, level3, gfn);
        }
        self.flush(gfn);
    }

    /// Unlinks an empty table at level 3, and the one above if that is empty then.
    #[cold]
    fn clear_table(&self, pool: &mut FramePool, above: [Slot; 2], level3: RamFrame, gfn: Gfn) {
        let [level1, level2] = above;
        let empty = clear(pool, level2);
        if empty {
            clear(pool, level1);
        }
        self.flush(gfn);
        pool.release(level3);
        if empty {
            pool.release(level2.table);
        }
    }

    /// Replaces a block by a table of its pages.
    #[cold]
    fn split(
        &self,
        pool: &mut FramePool,
        slot: Slot,
        gfn: Gfn,
        block: Leaf,
    ) -> Result<RamFrame, OutOfFrames> {
        let level3 = pool.allocate(self.owner, Kind::Private, 0)?;
        for (page, mfn) in Slot::all(level3).zip(block.mfn.0..) {
            fill(pool, page, Descriptor::leaf(Leaf { mfn: Mfn(mfn), ..block }, Size::Page));
        }
        slot.store(Descriptor::INVALID);
        self.flush(gfn);
        slot.store(Descriptor::table(level3));
        publish_tables();
        Ok(level3)
    }

    /// Takes the space apart, a bounded step at a time, and frees its tables. Foreign frames and
    /// shared pages are released; the domain's own RAM and granted frames are left to those who
    /// account for them. No vCPU may run in the space any more.
    pub fn dismantle(&mut self, pool: &mut FramePool) -> Progress {
        while self.dismantled < ROOT_ENTRIES {
            let gfn = Gfn((self.dismantled as u64) << 18);
            let Some(slot) = self.level1(gfn) else { break };
            if let Node::Table(level2) = slot.load().as_node() {
                if Self::dismantle_one(pool, level2) == Progress::Done {
                    clear(pool, slot);
                    pool.release(level2);
                    self.dismantled += 1;
                }
                return Progress::More;
            }
            self.dismantled += 1;
        }
        tlb::flush_domain(self.vttbr());
        Progress::Done
    }

    /// Frees one of the tables below `level2`; done if there is none.
    fn dismantle_one(pool: &mut FramePool, level2: RamFrame) -> Progress {
        for slot in Slot::all(level2) {
            let level3 = match slot.load().as_node() {
                Node::Empty => continue,
                Node::Table(level3) => level3,
                // A block is the domain's own RAM.
                Node::Block(_) => {
                    clear(pool, slot);
                    continue;
                }
            };
            for page in Slot::all(level3) {
                let Some(leaf) = page.load().as_page() else { continue };
                let held = matches!(leaf.kind, LeafKind::Foreign | LeafKind::SharedPage);
                if let Some(frame) = pool.ram(leaf.mfn).filter(|_| held) {
                    pool.release(frame);
                }
                clear(pool, page);
            }
            clear(pool, slot);
            pool.release(level3);
            return Progress::More;
        }
        Progress::Done
    }

    /// The descriptor at level 1 that covers a guest frame, if there is one.
    #[inline(always)]
    fn level1(&self, gfn: Gfn) -> Option<Slot> {
        let &table = self.roots.get(usize::try_from(gfn.0 >> 27).ok()?)?;
        Some(Slot { table, index: (gfn.0 >> 18) as usize % descriptor::ENTRIES })
    }

    /// Forgets cached translations of a page or block.
    #[inline(always)]
    fn flush(&self, gfn: Gfn) {
        tlb::flush_ipa(self.vttbr(), Ipa(gfn.0 << PAGE_SHIFT));
    }
}

#[inline]
fn level2_slot(table: RamFrame, gfn: Gfn) -> Slot {
    Slot { table, index: (gfn.0 >> 9) as usize % descriptor::ENTRIES }
}

#[inline]
fn level3_slot(table: RamFrame, gfn: Gfn) -> Slot {
    Slot { table, index: gfn.0 as usize % descriptor::ENTRIES }
}

/// The leaf of one page of a block.
#[inline]
fn page_of_block(block: Leaf, gfn: Gfn) -> Leaf {
    Leaf { mfn: Mfn(block.mfn.0 + gfn.0 % BLOCK_FRAMES), ..block }
}
