//! The ring for what is sent. The stack writes a frame where the backend reads it: in pages in a row,
//! which are used one after the other, as the ring's slots are.

use core::num::NonZeroU16;

use abi::net::{ExtraInfo, MAX_FRAME, MAX_SLOTS, TxFlags, TxRequest, TxResponse, TxStatus};
use abi::ring::FrontRing;
use abi::{DomId, PAGE_SIZE};

use super::fault::{refused, unasked};
use crate::grant::{Access, Grant, Outbox};
use crate::shared::SharedPage;
use crate::xenbus::Error;

type Ring = FrontRing<SharedPage, TxRequest, TxResponse>;

/// Slots of the longest frame, with one of extra information.
pub(super) const SLOTS_MAX: u32 = MAX_SLOTS as u32 + 1;
/// Pages of the longest frame.
const PAGES_MAX: usize = MAX_FRAME.div_ceil(PAGE_SIZE);
const PAGES: usize = Ring::SLOTS as usize;

/// This end of the ring.
#[derive(Debug)]
pub(in crate::network) struct Transmit {
    ring: Ring,
    pub(super) grant: Grant,
    /// A slot's identifier is its page's number here.
    pages: Outbox,
    busy: [bool; PAGES],
    /// Pages that were used or passed over, ever; the ring of them divides that evenly. From here on
    /// there are enough in a row for the longest frame.
    next: usize,
    /// And of those, how many have come back in a row.
    oldest: usize,
}

impl Transmit {
    pub(super) fn new(backend: DomId) -> Result<Transmit, Error> {
        let ring = SharedPage::allocate()?;
        Ok(Transmit {
            ring: Ring::new(ring.clone()),
            grant: Grant::new(&ring, backend, Access::ReadWrite)?,
            pages: Outbox::new(backend, PAGES)?,
            busy: [false; PAGES],
            next: 0,
            oldest: 0,
        })
    }

    /// Takes back what the backend has sent if there is too little room. Says whether the longest
    /// frame finds room now.
    pub(in crate::network) fn has_room(&mut self) -> Result<bool, Error> {
        if !self.is_free() {
            self.reap()?;
        }
        Ok(self.is_free())
    }

    fn is_free(&self) -> bool {
        self.ring.free() >= SLOTS_MAX && self.place().is_some()
    }

    /// Where the longest frame finds room.
    fn place(&self) -> Option<usize> {
        let used = self.next.wrapping_sub(self.oldest);
        (used + PAGES_MAX <= PAGES).then_some(self.next % PAGES)
    }

    /// Says that so many pages were used. Those at the end are passed over if they are too few for the
    /// next frame.
    fn advance(&mut self, count: usize) {
        self.next = self.next.wrapping_add(count);
        let before_end = PAGES - self.next % PAGES;
        if before_end < PAGES_MAX {
            self.next = self.next.wrapping_add(before_end);
        }
    }

    pub(super) fn reap(&mut self) -> Result<(), Error> {
        while let Some(response) = self.ring.pop()? {
            // Slots with extra information have no page.
            if response.status != TxStatus::Null.raw() {
                let busy = self.busy.get_mut(usize::from(response.id));
                *busy.filter(|busy| **busy).ok_or_else(unasked)? = false;
            }
        }
        while self.oldest != self.next && self.busy.get(self.oldest % PAGES) != Some(&true) {
            self.oldest = self.oldest.wrapping_add(1);
        }
        Ok(())
    }

    /// Where a frame of this length is to be written before it is sent; there must be room.
    pub(in crate::network) fn frame(&mut self, length: usize) -> Option<&mut [u8]> {
        let first = self.place()?;
        self.pages.bytes(first, length)
    }

    /// Puts the frame that was written last on the ring.
    pub(in crate::network) fn send(
        &mut self,
        length: usize,
        flags: TxFlags,
        segment_size: Option<NonZeroU16>,
    ) -> Result<(), Error> {
        let size = u16::try_from(length).map_err(|_| refused("too long a frame"))?;
        let first = self.place().ok_or_else(|| refused("no page is free"))?;
        let count = length.div_ceil(PAGE_SIZE);
        for index in 0..count {
            let is_first = index == 0;
            let mut flags = if is_first { flags } else { TxFlags::empty() };
            flags.set(TxFlags::MORE_DATA, index + 1 < count);
            flags.set(TxFlags::EXTRA_INFO, is_first && segment_size.is_some());
            let part = PAGE_SIZE.min(length - index * PAGE_SIZE) as u16;
            let size = if is_first { size } else { part };
            self.push(first + index, flags, size)?;
            if let Some(segment_size) = segment_size.filter(|_| is_first) {
                self.ring.push(&ExtraInfo::segmentation(segment_size.get()).into_tx())?;
            }
        }
        self.advance(count);
        Ok(())
    }

    fn push(&mut self, page: usize, flags: TxFlags, size: u16) -> Result<(), Error> {
        let reference = self.pages.reference(page).ok_or_else(unasked)?;
        *self.busy.get_mut(page).ok_or_else(unasked)? = true;
        let (flags, id) = (flags.bits(), page as u16);
        Ok(self.ring.push(&TxRequest { reference, offset: 0, flags, id, size })?)
    }

    pub(super) fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// What was sent is of interest only while there is no room to send more: says whether there is
    /// again, or will be.
    pub(super) fn final_check(&mut self) -> Result<bool, Error> {
        Ok(!self.is_free() && (self.has_room()? || self.ring.final_check()?))
    }

    /// Pages that the backend has not given back.
    #[cfg(test)]
    pub(super) fn outstanding(&self) -> usize {
        self.busy.iter().filter(|busy| **busy).count()
    }
}
