//! Where frames are written that are to be sent: pages in a row, which are used one after the other.

use abi::net::{MAX_FRAME, TxFlags, TxRequest};
use abi::{DomId, PAGE_SIZE};

use super::fault::unasked;
use crate::grant::Outbox;
use crate::xenbus::Error;

/// How many there are.
const PAGES: usize = 256;
/// Pages of the longest frame.
const PAGES_MAX: usize = MAX_FRAME.div_ceil(PAGE_SIZE);

/// Pages that are free, and those that the backend reads.
#[derive(Debug)]
pub(super) struct Pages {
    outbox: Outbox,
    busy: [bool; PAGES],
    /// Pages that were used or passed over, ever; the ring of them divides that evenly. From here on
    /// there are enough in a row for the longest frame.
    next: usize,
    /// And of those, how many have come back in a row.
    oldest: usize,
}

impl Pages {
    pub(super) fn new(backend: DomId) -> Result<Pages, Error> {
        let outbox = Outbox::new(backend, PAGES)?;
        Ok(Pages { outbox, busy: [false; PAGES], next: 0, oldest: 0 })
    }

    /// The page from which on the longest frame finds room.
    pub(super) fn first(&self) -> Option<usize> {
        let used = self.next.wrapping_sub(self.oldest);
        (used + PAGES_MAX <= PAGES).then_some(self.next % PAGES)
    }

    /// A frame of this length that begins in a page.
    pub(super) fn frame(&mut self, first: usize, length: usize) -> Option<&mut [u8]> {
        self.outbox.bytes(first, length)
    }

    /// What a page is sent by, which is the backend's until it answers.
    pub(super) fn request(
        &mut self,
        page: usize,
        flags: TxFlags,
        size: u16,
    ) -> Result<TxRequest, Error> {
        let reference = self.outbox.reference(page).ok_or_else(unasked)?;
        *self.busy.get_mut(page).ok_or_else(unasked)? = true;
        let (flags, id) = (flags.bits(), page as u16);
        Ok(TxRequest { reference, offset: 0, flags, id, size })
    }

    /// Says that so many pages were used. Those at the end are passed over if they are too few for the
    /// next frame.
    pub(super) fn pass(&mut self, count: usize) {
        self.next = self.next.wrapping_add(count);
        let before_end = PAGES - self.next % PAGES;
        if before_end < PAGES_MAX {
            self.next = self.next.wrapping_add(before_end);
        }
    }

    /// The backend has answered what was sent by a page.
    pub(super) fn give_back(&mut self, id: u16) -> Result<(), Error> {
        let busy = self.busy.get_mut(usize::from(id));
        *busy.filter(|busy| **busy).ok_or_else(unasked)? = false;
        Ok(())
    }

    /// Takes those into use again that have come back, as far as they lie in a row.
    pub(super) fn advance(&mut self) {
        while self.oldest != self.next && self.busy.get(self.oldest % PAGES) != Some(&true) {
            self.oldest = self.oldest.wrapping_add(1);
        }
    }

    /// Pages that the backend has not given back.
    #[cfg(test)]
    pub(super) fn outstanding(&self) -> usize {
        self.busy.iter().filter(|busy| **busy).count()
    }
}
