//! The ring for what comes. A page that the backend has filled is taken back from it, so that the
//! stack can read the frame where it is, and lent again when the next one is asked for.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use abi::net::{EXTRA_MORE, ExtraInfo, MAX_FRAME, RxFlags, RxRequest, RxResponse};
use abi::ring::FrontRing;
use abi::{DomId, PAGE_SIZE};

use super::fault::{refused, unasked};
use crate::grant::{Access, Grant, Inbox};
use crate::shared::SharedPage;
use crate::xenbus::Error;

type Ring = FrontRing<SharedPage, RxRequest, RxResponse>;

/// This end of the ring.
#[derive(Debug)]
pub(super) struct Receive {
    ring: Ring,
    pub(super) grant: Grant,
    /// A slot's identifier is its page's number here.
    pages: Inbox,
    /// In the order in which they were posted, which is that of the answers.
    posted: VecDeque<u16>,
    /// Those of the last frame.
    taken: Vec<u16>,
    parts: Vec<Part>,
    /// For frames that are not in a row.
    assembled: Vec<u8>,
}

/// Part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    page: usize,
    offset: usize,
    length: usize,
}

impl Part {
    /// Says what a slot says, if it is possible.
    fn new(response: &RxResponse) -> Option<Part> {
        let (offset, length) = (response.offset.into(), usize::try_from(response.status).ok()?);
        let fits = offset + length <= PAGE_SIZE;
        fits.then_some(Part { page: response.id.into(), offset, length })
    }
}

impl Receive {
    /// With all pages posted. Nobody knows of them yet.
    pub(super) fn new(backend: DomId) -> Result<Receive, Error> {
        let ring = SharedPage::allocate()?;
        let mut receive = Receive {
            ring: Ring::new(ring.clone()),
            grant: Grant::new(&ring, backend, Access::ReadWrite)?,
            pages: Inbox::new(backend, Ring::SLOTS as usize)?,
            posted: VecDeque::new(),
            taken: Vec::new(),
            parts: Vec::new(),
            assembled: vec![0; MAX_FRAME],
        };
        for id in 0..Ring::SLOTS as u16 {
            receive.post(id)?;
        }
        // Nobody listens yet.
        let _ = receive.ring.publish();
        Ok(receive)
    }

    /// Whether there is a frame to be taken, or something that is none.
    pub(super) fn has_frame(&self) -> bool {
        self.ring.has_response()
    }

    /// Takes the next frame, if there is one, and lends the pages of the one before again. Frames that
    /// the backend failed to deliver are left out.
    pub(super) fn next(&mut self) -> Result<Option<RxFlags>, Error> {
        loop {
            self.lend_taken()?;
            let Some(first) = self.ring.pop()? else { return Ok(None) };
            let flags = RxFlags::from_bits_truncate(first.flags);
            if self.take_slots(&first, flags)? {
                return Ok(Some(flags));
            }
        }
    }

    /// Takes the slots of a frame. Says whether all of it has arrived.
    fn take_slots(&mut self, first: &RxResponse, flags: RxFlags) -> Result<bool, Error> {
        self.parts.clear();
        let mut whole = self.take(first)?;
        if flags.contains(RxFlags::EXTRA_INFO) {
            self.skip_extra()?;
        }
        let mut more = flags.contains(RxFlags::MORE_DATA);
        while more {
            let next = self.ring.pop()?.ok_or_else(unfinished)?;
            whole &= self.take(&next)?;
            more = RxFlags::from_bits_truncate(next.flags).contains(RxFlags::MORE_DATA);
        }
        let length: usize = self.parts.iter().map(|part| part.length).sum();
        Ok(whole && length <= MAX_FRAME)
    }

    fn take(&mut self, response: &RxResponse) -> Result<bool, Error> {
        if self.take_page()? != response.id {
            return Err(unasked());
        }
        let part = Part::new(response);
        self.parts.extend(part);
        Ok(part.is_some())
    }

    /// Takes back the page that was posted first.
    fn take_page(&mut self) -> Result<u16, Error> {
        let id = self.posted.pop_front().ok_or_else(unasked)?;
        if !self.pages.take_back(id.into()) {
            return Err(refused("the backend uses a page that it has given back"));
        }
        self.taken.push(id);
        Ok(id)
    }

    /// Only how a frame is to be cut is said there, and nobody wants to cut it any more.
    fn skip_extra(&mut self) -> Result<(), Error> {
        loop {
            let extra = ExtraInfo::from_rx(self.ring.pop()?.ok_or_else(unfinished)?);
            self.take_page()?;
            if extra.flags & EXTRA_MORE == 0 {
                return Ok(());
            }
        }
    }

    /// The bytes of the frame that was taken.
    pub(super) fn frame(&mut self) -> Option<&mut [u8]> {
        let length = self.parts.iter().map(|part| part.length).sum();
        self.close_gap();
        let first = *self.parts.first()?;
        if is_in_a_row(&self.parts) {
            return self.pages.bytes(first.page, first.offset, length);
        }
        let mut rest = self.assembled.get_mut(..length)?;
        for part in &self.parts {
            let (place, behind) = rest.split_at_mut_checked(part.length)?;
            place.copy_from_slice(self.pages.bytes(part.page, part.offset, part.length)?);
            rest = behind;
        }
        self.assembled.get_mut(..length)
    }

    /// A slot with extra information has taken the page between the first part and the second: it is
    /// empty, and the first part moves there.
    fn close_gap(&mut self) {
        if let [first, second, ..] = self.parts.as_mut_slice()
            && first.page + 2 == second.page
            && let Some(bytes) =
                self.pages.bytes(first.page, first.offset, PAGE_SIZE + first.length)
            && let Some((page, next)) = bytes.split_at_mut_checked(PAGE_SIZE)
            && let Some(part) = page.get(..first.length)
        {
            next.copy_from_slice(part);
            first.page += 1;
        }
    }

    fn lend_taken(&mut self) -> Result<(), Error> {
        for index in 0..self.taken.len() {
            if let Some(&id) = self.taken.get(index) {
                self.pages.lend(id.into());
                self.post(id)?;
            }
        }
        self.taken.clear();
        Ok(())
    }

    fn post(&mut self, id: u16) -> Result<(), Error> {
        let reference = self.pages.reference(id.into()).ok_or_else(unasked)?;
        self.ring.push(&RxRequest { id, padding: 0, reference })?;
        self.posted.push_back(id);
        Ok(())
    }

    /// Whether the backend may run out of pages while it is not shown those that are lent again.
    pub(super) fn runs_low(&self) -> bool {
        self.ring.unpublished() >= Ring::SLOTS / 4
    }

    pub(super) fn publish(&mut self) -> Result<bool, Error> {
        self.lend_taken()?;
        Ok(self.ring.publish())
    }

    /// Slots that the backend has filled, ever, modulo 2^32.
    pub(super) fn received(&self) -> u32 {
        self.ring.consumed()
    }

    pub(super) fn final_check(&mut self) -> Result<bool, Error> {
        Ok(self.ring.final_check()?)
    }

    /// Pages that the backend may fill.
    #[cfg(test)]
    pub(super) fn posted(&self) -> usize {
        self.posted.len()
    }
}

/// Whether each part begins where the one before ends.
fn is_in_a_row(parts: &[Part]) -> bool {
    parts.windows(2).all(|pair| match pair {
        [one, next] => {
            one.offset + one.length == PAGE_SIZE && next.page == one.page + 1 && next.offset == 0
        }
        _ => true,
    })
}

fn unfinished() -> Error {
    refused("the backend shows half a frame")
}
