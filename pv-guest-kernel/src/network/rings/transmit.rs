//! The rings for what is sent, one for each queue. The stack writes a frame where the backend reads
//! it, and only then is it known whose it is: the pages belong to all queues.

use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroUsize};

use abi::net::{ExtraInfo, MAX_SLOTS, TxFlags, TxRequest, TxResponse, TxStatus};
use abi::ring::FrontRing;
use abi::{DomId, PAGE_SIZE};

use super::fault::{refused, unasked};
use super::pages::Pages;
use crate::grant::{Access, Grant};
use crate::network::queue;
use crate::shared::SharedPage;
use crate::xenbus::Error;

type Ring = FrontRing<SharedPage, TxRequest, TxResponse>;

/// Slots of the longest frame, with one of extra information.
pub(super) const SLOTS_MAX: u32 = MAX_SLOTS as u32 + 1;

/// This end of the rings.
#[derive(Debug)]
pub(in crate::network) struct Transmit {
    /// By queue.
    rings: Vec<Ring>,
    pub(super) grants: Vec<Grant>,
    /// A slot's identifier is its page's number here.
    pages: Pages,
    /// Whether the longest frame finds room, whichever queue it takes.
    has_room: bool,
}

impl Transmit {
    pub(super) fn new(backend: DomId, queues: NonZeroUsize) -> Result<Transmit, Error> {
        let grant = |_| Grant::new(&SharedPage::allocate()?, backend, Access::ReadWrite);
        let grants: Vec<Grant> = (0..queues.get()).map(grant).collect::<Result<_, _>>()?;
        let rings = grants.iter().map(|grant| Ring::new(grant.page().clone())).collect();
        Ok(Transmit { rings, grants, pages: Pages::new(backend)?, has_room: true })
    }

    /// Takes back what the backend has sent if there is too little room. Says whether the longest
    /// frame finds room now.
    pub(in crate::network) fn has_room(&mut self) -> Result<bool, Error> {
        if !self.has_room {
            self.reap()?;
        }
        Ok(self.has_room)
    }

    /// To be called when slots and pages have been taken or have come back.
    fn look_for_room(&mut self) {
        let fits = |ring: &Ring| ring.free() >= SLOTS_MAX;
        self.has_room = self.rings.iter().all(fits) && self.pages.first().is_some();
    }

    pub(super) fn reap(&mut self) -> Result<(), Error> {
        for ring in &mut self.rings {
            while let Some(response) = ring.pop()? {
                // Slots with extra information have no page.
                if response.status != TxStatus::Null.raw() {
                    self.pages.give_back(response.id)?;
                }
            }
        }
        self.pages.advance();
        self.look_for_room();
        Ok(())
    }

    /// Where a frame of this length is to be written before it is sent; there must be room.
    pub(in crate::network) fn frame(&mut self, length: usize) -> Option<&mut [u8]> {
        let first = self.pages.first()?;
        self.pages.frame(first, length)
    }

    /// Puts the frame that was written last on the ring of its queue.
    pub(in crate::network) fn send(
        &mut self,
        length: usize,
        flags: TxFlags,
        segment_size: Option<NonZeroU16>,
    ) -> Result<(), Error> {
        let size = u16::try_from(length).map_err(|_| refused("too long a frame"))?;
        let first = self.pages.first().ok_or_else(|| refused("no page is free"))?;
        let queue = self.queue(first, length);
        let ring = self.rings.get_mut(queue).ok_or_else(unasked)?;
        let count = length.div_ceil(PAGE_SIZE);
        for index in 0..count {
            let is_first = index == 0;
            let mut flags = if is_first { flags } else { TxFlags::empty() };
            flags.set(TxFlags::MORE_DATA, index + 1 < count);
            flags.set(TxFlags::EXTRA_INFO, is_first && segment_size.is_some());
            let part = PAGE_SIZE.min(length - index * PAGE_SIZE) as u16;
            let size = if is_first { size } else { part };
            ring.push(&self.pages.request(first + index, flags, size)?)?;
            if let Some(segment_size) = segment_size.filter(|_| is_first) {
                ring.push(&ExtraInfo::segmentation(segment_size.get()).into_tx())?;
            }
        }
        self.pages.pass(count);
        self.look_for_room();
        Ok(())
    }

    /// Which queue a frame takes.
    fn queue(&mut self, first: usize, length: usize) -> usize {
        match self.rings.len() {
            1 => 0,
            count => {
                let frame = self.pages.frame(first, length);
                frame.map_or(0, |frame| queue::of_frame(frame, count))
            }
        }
    }

    /// Shows the backend what was put on the rings. Says of each queue whether it wants to be told.
    pub(super) fn publish(&mut self) -> impl Iterator<Item = bool> {
        self.rings.iter_mut().map(Ring::publish)
    }

    /// What was sent is of interest only while there is no room to send more: says whether there is
    /// again, or will be.
    pub(super) fn final_check(&mut self) -> Result<bool, Error> {
        if self.has_room {
            return Ok(false);
        }
        if self.has_room()? {
            return Ok(true);
        }
        for ring in &mut self.rings {
            if ring.final_check()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Slots that each queue has taken, ever, modulo 2^32.
    pub(super) fn sent(&self) -> impl Iterator<Item = u32> {
        self.rings.iter().map(Ring::produced)
    }

    /// Pages that the backend has not given back.
    #[cfg(test)]
    pub(super) fn outstanding(&self) -> usize {
        self.pages.outstanding()
    }
}
