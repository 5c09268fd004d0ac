//! Copies between a guest's memory and blocks in dom0's.

use pv_guest_kernel::grant::{CopyBatch, End};
use pv_guest_kernel::shared::SharedPage;

use super::pieces::Piece;
use crate::block::disk::IoError;
use crate::block::memory::GuestPage;
use crate::block::request::Direction;

/// The copies of one request that the monitor makes, all in one hypercall. Kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Copies(CopyBatch);

impl Copies {
    /// Copies between a piece and bytes of a page from `offset` on: at once, if the guest's page is
    /// mapped, or else when [`Copies::make`] is called.
    pub(super) fn add(
        &mut self,
        piece: &Piece<'_>,
        page: &SharedPage,
        offset: usize,
        direction: Direction,
    ) {
        let bytes = piece.bytes();
        match (piece.page, direction) {
            (GuestPage::Mapped(theirs), Direction::FromDisk) => {
                theirs.page.copy_from(piece.offset, page, offset, bytes);
            }
            (GuestPage::Mapped(theirs), Direction::ToDisk) => {
                page.copy_from(offset, &theirs.page, piece.offset, bytes);
            }
            (GuestPage::Granted(domain, reference), direction) => {
                let theirs = (End::Granted(domain, reference), piece.offset);
                let ours = (End::Own(page), offset);
                match direction {
                    Direction::FromDisk => self.0.push(ours, theirs, bytes),
                    Direction::ToDisk => self.0.push(theirs, ours, bytes),
                };
            }
        }
    }

    /// Has the monitor make those that are left.
    pub(super) fn make(&mut self) -> Result<(), IoError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let called = self.0.run();
        let done = called.is_ok() && (0..self.0.len()).all(|number| self.0.is_done(number));
        self.0.clear();
        if done { Ok(()) } else { Err(IoError::Memory) }
    }
}
