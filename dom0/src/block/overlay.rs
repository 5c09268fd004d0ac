//! A disk whose writes go elsewhere: copy-on-write over a base that others use, too.
//!
//! What was written lies in blocks of 4 KiB, in dom0's memory or in an extent of a scratch disk;
//! which of a block's sectors are there, a byte says. So a write needs no look at the base, and
//! only sectors that were never written are read from there; without a base they are zeroes, which
//! makes a RAM disk.
//!
//! Where the blocks are is known in memory only: what was written is lost with the device.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::block::SECTOR_SIZE;
use futures_util::future::FutureExt;
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::shared::SharedPage;

use blocks::{BLOCK, Block, Blocks};
use copies::Copies;
use pieces::{Piece, Runs, each_piece};

use super::disk::IoError;
use super::extent::Extent;
use super::memory::Memory;
use super::request::{Direction, Limits};
use super::work::{Progress, Work};

mod blocks;
mod copies;
mod pieces;

/// A disk whose writes go elsewhere.
pub(super) struct Overlay {
    sectors: u64,
    base: Option<Extent>,
    /// Where blocks go, if not to memory.
    scratch: Option<Extent>,
    blocks: RefCell<Blocks>,
    copies: RefCell<Copies>,
    /// What lies where nothing was written and there is no base.
    zeroes: SharedPage,
}

impl Overlay {
    /// One of so many sectors, whose blocks may take so many bytes of memory.
    pub(super) fn in_ram(
        sectors: u64,
        base: Option<Extent>,
        bytes: u64,
    ) -> Result<Overlay, OutOfMemory> {
        Overlay::new(sectors, base, None, bytes)
    }

    /// One over a base, whose blocks are written to another extent.
    pub(super) fn on_disk(base: Extent, scratch: Extent) -> Result<Overlay, OutOfMemory> {
        let bytes = scratch.sectors * SECTOR_SIZE as u64;
        Overlay::new(base.sectors, Some(base), Some(scratch), bytes)
    }

    fn new(
        sectors: u64,
        base: Option<Extent>,
        scratch: Option<Extent>,
        bytes: u64,
    ) -> Result<Overlay, OutOfMemory> {
        let blocks = RefCell::new(Blocks::new(sectors, bytes));
        let (copies, zeroes) = (RefCell::default(), SharedPage::allocate()?);
        Ok(Overlay { sectors, base, scratch, blocks, copies, zeroes })
    }

    /// Whether a device reads or writes for it.
    pub(super) fn has_device(&self) -> bool {
        self.base.is_some() || self.scratch.is_some()
    }

    /// What it allows.
    pub(super) fn limits(&self, read_only: bool) -> Limits {
        let flush = self.scratch.as_ref().is_none_or(|scratch| scratch.disk.info.flush);
        Limits { sectors: self.sectors, read_only, flush, discard: true }
    }

    /// In units of how many sectors it discards.
    pub(super) fn discard_unit(&self) -> u32 {
        BLOCK as u32
    }

    /// Waits until its disks are done with what was begun before.
    pub(super) async fn settled(&self) {
        for extent in self.base.iter().chain(&self.scratch) {
            extent.settled().await;
        }
    }

    /// Begins work that lies within it.
    pub(super) fn start(self: &Rc<Self>, work: Work) -> Progress {
        match (work, &self.scratch) {
            (Work::Transfer { direction: Direction::FromDisk, sector, memory }, _) => {
                self.read(sector, memory)
            }
            (Work::Transfer { direction: Direction::ToDisk, sector, memory }, _) => {
                self.write(sector, memory)
            }
            (Work::Discard { sector, count }, _) => {
                self.blocks.borrow_mut().discard(sector, count);
                Progress::Done(Ok(()))
            }
            (Work::Flush, None) => Progress::Done(Ok(())),
            (Work::Flush, Some(scratch)) => {
                Progress::Pending(scratch.clone().perform(Work::Flush).boxed_local())
            }
        }
    }

    fn read(&self, sector: u64, memory: Rc<Memory>) -> Progress {
        let (mut runs, mut copies) = (Runs::default(), self.copies.borrow_mut());
        let blocks = self.blocks.borrow();
        each_piece(&memory, sector, |piece| {
            let block = blocks.table.get(piece.block()).copied().unwrap_or_default();
            let mut get = |piece: Piece<'_>, valid| match valid {
                true => {
                    let to = (&mut runs, &mut *copies);
                    self.move_block(&blocks, block, &piece, Direction::FromDisk, to);
                }
                false => self.fetch_base(&piece, &mut runs, &mut copies),
            };
            match block.valid & piece.mask() {
                0 => get(piece, false),
                _ => piece.split(block.valid, get),
            }
        });
        let copied = copies.make();
        match copied {
            Ok(()) if !runs.is_empty() => {
                Progress::Pending(runs.perform(Direction::FromDisk, memory).boxed_local())
            }
            result => Progress::Done(result),
        }
    }

    /// Gets what was never written.
    fn fetch_base(&self, piece: &Piece<'_>, runs: &mut Runs, copies: &mut Copies) {
        match &self.base {
            Some(base) => runs.add(base, piece.sector, piece),
            None => copies.add(piece, &self.zeroes, 0, Direction::FromDisk),
        }
    }

    fn write(self: &Rc<Self>, sector: u64, memory: Rc<Memory>) -> Progress {
        let (mut runs, mut written, mut full) = (Runs::default(), Vec::new(), false);
        let (mut blocks, mut copies) = (self.blocks.borrow_mut(), self.copies.borrow_mut());
        each_piece(&memory, sector, |piece| {
            let Some(block) = blocks.place(piece.block(), self.scratch.is_none()) else {
                full = true;
                return;
            };
            let to = (&mut runs, &mut *copies);
            self.move_block(&blocks, block, &piece, Direction::ToDisk, to);
            match self.scratch {
                // If it cannot be copied, the guest hears that its write failed: what is there then
                // was its own before.
                None => blocks.mark(piece.block(), piece.mask()),
                // Not before the disk has it.
                Some(_) => written.push((piece.block(), piece.mask())),
            }
        });
        drop(blocks);
        let copied = copies.make();
        if full {
            return Progress::Done(Err(IoError::Full));
        }
        if runs.is_empty() || copied.is_err() {
            return Progress::Done(copied);
        }
        let overlay = self.clone();
        let done = async move {
            runs.perform(Direction::ToDisk, memory).await?;
            let mut blocks = overlay.blocks.borrow_mut();
            written.iter().for_each(|&(block, mask)| blocks.mark(block, mask));
            Ok(())
        };
        Progress::Pending(done.boxed_local())
    }

    /// Moves data between memory and a block's place.
    fn move_block(
        &self,
        blocks: &Blocks,
        block: Block,
        piece: &Piece<'_>,
        direction: Direction,
        (runs, copies): (&mut Runs, &mut Copies),
    ) {
        let Some(place) = block.place.checked_sub(1) else { return };
        let within = piece.sector % BLOCK;
        if let Some(scratch) = &self.scratch {
            return runs.add(scratch, u64::from(place) * BLOCK + within, piece);
        }
        let Some(page) = blocks.ram.get(place as usize) else { return };
        copies.add(piece, page, within as usize * SECTOR_SIZE, direction);
    }
}

#[cfg(test)]
mod tests;
