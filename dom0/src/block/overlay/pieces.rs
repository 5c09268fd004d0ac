//! A transfer in pieces, each within one block, and in runs of consecutive sectors of real disks.

use alloc::rc::Rc;
use alloc::vec::Vec;

use abi::block::SECTOR_SIZE;
use futures_util::future::join_all;

use super::blocks::BLOCK;
use crate::block::disk::IoError;
use crate::block::extent::Extent;
use crate::block::memory::{GuestPage, Memory};
use crate::block::request::Direction;
use crate::virtio::Span;

/// Sectors of the guest's disk, within one block, and the memory for them.
pub(super) struct Piece<'a> {
    pub(super) page: GuestPage<'a>,
    /// Where they are in the page, in bytes.
    pub(super) offset: usize,
    pub(super) sector: u64,
    pub(super) count: u64,
}

/// Transfers of real disks that a request leads to.
#[derive(Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    /// Some memory is not mapped: no device gets there.
    unreachable: bool,
}

/// Consecutive sectors, and the memory for them.
struct Run {
    extent: Extent,
    sector: u64,
    sectors: u64,
    spans: Vec<Span>,
}

/// Visits the pieces of a transfer from a sector on.
pub(super) fn each_piece(memory: &Memory, first: u64, mut visit: impl FnMut(Piece<'_>)) {
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

impl Piece<'_> {
    pub(super) fn block(&self) -> usize {
        (self.sector / BLOCK) as usize
    }

    pub(super) fn bytes(&self) -> usize {
        self.count as usize * SECTOR_SIZE
    }

    /// Its sectors among the block's.
    pub(super) fn mask(&self) -> u8 {
        (u8::MAX >> (BLOCK - self.count)) << (self.sector % BLOCK)
    }

    /// Visits the parts of which all sectors are in `valid`, or none.
    pub(super) fn split(self, valid: u8, mut visit: impl FnMut(Piece<'_>, bool)) {
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
    /// Whether there is nothing for a disk to do.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && !self.unreachable
    }

    pub(super) fn add(&mut self, extent: &Extent, sector: u64, piece: &Piece<'_>) {
        let GuestPage::Mapped(page) = piece.page else {
            self.unreachable = true;
            return;
        };
        let address = page.bus_address + piece.offset as u64;
        let span = Span { address, length: piece.bytes() as u32 };
        let goes_on = self
            .runs
            .last()
            .is_some_and(|run| run.extent.is_same(extent) && run.sector + run.sectors == sector);
        if !goes_on {
            let (extent, spans) = (extent.clone(), Vec::new());
            self.runs.push(Run { extent, sector, sectors: 0, spans });
        }
        let Some(run) = self.runs.last_mut() else { return };
        run.sectors += piece.count;
        Span::append(&mut run.spans, span);
    }

    /// All of them at once.
    pub(super) async fn perform(
        self,
        direction: Direction,
        memory: Rc<Memory>,
    ) -> Result<(), IoError> {
        if self.unreachable {
            return Err(IoError::Memory);
        }
        let runs = self.runs.iter().map(|run| {
            run.extent.transfer_spans(direction, run.sector, &run.spans, memory.clone())
        });
        join_all(runs).await.into_iter().collect()
    }
}
