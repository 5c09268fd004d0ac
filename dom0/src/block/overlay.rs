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

use abi::PAGE_SIZE;
use abi::block::{SECTOR_SIZE, SECTORS_PER_PAGE};
use futures_util::future::{FutureExt, join_all};
use pv_guest_kernel::shared::SharedPage;

use super::disk::IoError;
use super::extent::Extent;
use super::memory::{GrantedPage, Memory};
use super::request::{Direction, Limits};
use super::table::Table;
use super::volume::{Progress, Work};
use crate::virtio::Span;

/// Sectors of a block.
const BLOCK: u64 = SECTORS_PER_PAGE as u64;
/// Blocks in memory that come into being together.
const TOGETHER: usize = 16;
static ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// A disk whose writes go elsewhere.
pub(super) struct Overlay {
    sectors: u64,
    base: Option<Extent>,
    /// Where blocks go, if not to memory.
    scratch: Option<Extent>,
    blocks: RefCell<Blocks>,
}

/// Which blocks there are, and where.
struct Blocks {
    /// By number on the guest's disk.
    table: Table<Block>,
    /// Places that are not in use any more.
    free: Vec<u32>,
    /// Places that were ever in use.
    used: u32,
    /// How many there may be.
    limit: u32,
    /// Those in memory, by place.
    ram: Vec<SharedPage>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Its place, plus one; zero if it has none.
    place: u32,
    /// A bit for each sector that is there.
    valid: u8,
}

/// Transfers of real disks that a request leads to.
#[derive(Default)]
struct Runs(Vec<Run>);

/// Consecutive sectors, and the memory for them.
struct Run {
    extent: Extent,
    sector: u64,
    sectors: u64,
    spans: Vec<Span>,
}

/// Sectors of the guest's disk, within one block, and the memory for them.
struct Piece<'a> {
    page: &'a GrantedPage,
    /// Where they are in the page, in bytes.
    offset: usize,
    sector: u64,
    count: u64,
}

impl Overlay {
    /// One of so many sectors, whose blocks may take so many bytes of memory.
    pub(super) fn in_ram(sectors: u64, base: Option<Extent>, bytes: u64) -> Overlay {
        Overlay::new(sectors, base, None, bytes)
    }

    /// One over a base, whose blocks are written to another extent.
    pub(super) fn on_disk(base: Extent, scratch: Extent) -> Overlay {
        let bytes = scratch.sectors * SECTOR_SIZE as u64;
        Overlay::new(base.sectors, Some(base), Some(scratch), bytes)
    }

    fn new(sectors: u64, base: Option<Extent>, scratch: Option<Extent>, bytes: u64) -> Overlay {
        let blocks = usize::try_from(sectors.div_ceil(BLOCK)).unwrap_or(usize::MAX);
        let blocks = Blocks {
            table: Table::new(blocks),
            free: Vec::new(),
            used: 0,
            limit: u32::try_from(bytes / PAGE_SIZE as u64).unwrap_or(u32::MAX - 1),
            ram: Vec::new(),
        };
        Overlay { sectors, base, scratch, blocks: RefCell::new(blocks) }
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
        let mut runs = Runs::default();
        let blocks = self.blocks.borrow();
        each_piece(&memory, sector, |piece| {
            let block = blocks.table.get(piece.block()).copied().unwrap_or_default();
            if block.valid & piece.mask() == 0 {
                self.fetch_base(&piece, &mut runs);
            } else {
                piece.split(block.valid, |piece, valid| match valid {
                    true => self.move_block(&blocks, block, &piece, Direction::FromDisk, &mut runs),
                    false => self.fetch_base(&piece, &mut runs),
                });
            }
        });
        match runs.0.is_empty() {
            true => Progress::Done(Ok(())),
            false => Progress::Pending(runs.perform(Direction::FromDisk, memory).boxed_local()),
        }
    }

    /// Gets what was never written.
    fn fetch_base(&self, piece: &Piece<'_>, runs: &mut Runs) {
        match &self.base {
            Some(base) => runs.add(base, piece.sector, piece),
            None => {
                let zeroes = ZEROES.get(..piece.bytes()).unwrap_or(&ZEROES);
                piece.page.page.write_bytes(piece.offset, zeroes);
            }
        }
    }

    fn write(self: &Rc<Self>, sector: u64, memory: Rc<Memory>) -> Progress {
        let (mut runs, mut written, mut full) = (Runs::default(), Vec::new(), false);
        let mut blocks = self.blocks.borrow_mut();
        each_piece(&memory, sector, |piece| {
            let Some(block) = blocks.place(piece.block(), self.scratch.is_none()) else {
                full = true;
                return;
            };
            self.move_block(&blocks, block, &piece, Direction::ToDisk, &mut runs);
            match self.scratch {
                None => blocks.mark(piece.block(), piece.mask()),
                // Not before the disk has it.
                Some(_) => written.push((piece.block(), piece.mask())),
            }
        });
        drop(blocks);
        if full {
            return Progress::Done(Err(IoError::Full));
        }
        if runs.0.is_empty() {
            return Progress::Done(Ok(()));
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
        runs: &mut Runs,
    ) {
        let Some(place) = block.place.checked_sub(1) else { return };
        let within = piece.sector % BLOCK;
        if let Some(scratch) = &self.scratch {
            return runs.add(scratch, u64::from(place) * BLOCK + within, piece);
        }
        let Some(page) = blocks.ram.get(place as usize) else { return };
        let ours = within as usize * SECTOR_SIZE;
        let (theirs, bytes) = (&piece.page.page, piece.bytes());
        match direction {
            Direction::FromDisk => theirs.copy_from(piece.offset, page, ours, bytes),
            Direction::ToDisk => page.copy_from(ours, theirs, piece.offset, bytes),
        }
    }
}

impl Blocks {
    /// A block with a place; `None` if there is no room for another.
    fn place(&mut self, number: usize, in_ram: bool) -> Option<Block> {
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
    fn mark(&mut self, number: usize, mask: u8) {
        if let Some(entry) = self.table.entry(number) {
            entry.valid |= mask;
        }
    }

    /// Forgets whole blocks. A place on a disk stays the block's: a write to it may be on its way.
    fn discard(&mut self, sector: u64, count: u64) {
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

impl Piece<'_> {
    fn block(&self) -> usize {
        (self.sector / BLOCK) as usize
    }

    fn bytes(&self) -> usize {
        self.count as usize * SECTOR_SIZE
    }

    /// Its sectors among the block's.
    fn mask(&self) -> u8 {
        (u8::MAX >> (BLOCK - self.count)) << (self.sector % BLOCK)
    }

    /// Visits the parts of which all sectors are in `valid`, or none.
    fn split(self, valid: u8, mut visit: impl FnMut(Piece<'_>, bool)) {
        let mut rest = self;
        while rest.count > 0 {
            let bits = valid >> (rest.sector % BLOCK);
            let same = if bits & 1 == 1 { bits.trailing_ones() } else { bits.trailing_zeros() };
            let count = rest.count.min(same.into());
            visit(Piece { count, ..rest }, bits & 1 == 1);
            rest.sector += count;
            rest.offset += count as usize * SECTOR_SIZE;
            rest.count -= count;
        }
    }
}

impl Runs {
    fn add(&mut self, extent: &Extent, sector: u64, piece: &Piece<'_>) {
        let address = piece.page.bus_address + piece.offset as u64;
        let span = Span { address, length: piece.bytes() as u32 };
        let goes_on = self
            .0
            .last()
            .is_some_and(|run| run.extent.is_same(extent) && run.sector + run.sectors == sector);
        if !goes_on {
            let (extent, spans) = (extent.clone(), Vec::new());
            self.0.push(Run { extent, sector, sectors: 0, spans });
        }
        let Some(run) = self.0.last_mut() else { return };
        run.sectors += piece.count;
        Span::append(&mut run.spans, span);
    }

    /// All of them at once.
    async fn perform(self, direction: Direction, memory: Rc<Memory>) -> Result<(), IoError> {
        let runs = self.0.iter().map(|run| {
            run.extent.transfer_spans(direction, run.sector, &run.spans, memory.clone())
        });
        join_all(runs).await.into_iter().collect()
    }
}

/// Visits the pieces of a transfer from a sector on.
fn each_piece(memory: &Memory, first: u64, mut visit: impl FnMut(Piece<'_>)) {
    let mut sector = first;
    memory.each(|page, start, length| {
        let (mut offset, end) = (start, start + length);
        while offset < end {
            let count = (BLOCK - sector % BLOCK).min(((end - offset) / SECTOR_SIZE) as u64);
            visit(Piece { page, offset, sector, count });
            sector += count;
            offset += count as usize * SECTOR_SIZE;
        }
    });
}

#[cfg(test)]
mod tests;
