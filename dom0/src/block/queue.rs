//! The queue of a virtio block device (virtio 1.2, section 5.2.6): requests as a virtqueue's
//! slots. Each slot has a place for what surrounds the data, and for what is to be discarded:
//!
//! ```text
//! 0 header   16 status   24 discarded: first sector, count, flags
//! ```

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::PAGE_SIZE;
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::shared::SharedPage;

use crate::virtio::{Broken, Span, Virtqueue, bus_address};

#[cfg(test)]
pub(super) mod tests;

/// Requests that can be in flight.
pub(super) const SIZE: u16 = 128;
/// Parts of one of them. A device takes as many as its queue has slots.
const PARTS: u16 = SIZE;
/// Spans of data in a request: the other parts are header and status.
pub(super) const MAX_SPANS: usize = PARTS as usize - 2;

const PLACE_SIZE: usize = 64;
const PLACES_PER_PAGE: usize = PAGE_SIZE / PLACE_SIZE;
const HEADER_SIZE: u32 = 16;
const STATUS: usize = 16;
const DISCARD: usize = 24;
const DISCARD_SIZE: u32 = 16;

/// What a block device can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// The device writes memory.
    Read,
    /// The device reads memory.
    Write,
    /// It makes durable what it has completed.
    Flush,
    /// It forgets so many sectors.
    Discard(u32),
}

impl Operation {
    /// `VIRTIO_BLK_T_*`
    fn number(self) -> u32 {
        match self {
            Operation::Read => 0,
            Operation::Write => 1,
            Operation::Flush => 4,
            Operation::Discard(_) => 11,
        }
    }
}

/// How it went (`VIRTIO_BLK_S_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Okay,
    Failed,
    Unsupported,
}

/// The driver's side of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    requests: Virtqueue,
    /// What surrounds the data, by slot.
    places: Vec<SharedPage>,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new() -> Result<Queue, OutOfMemory> {
        let pages = usize::from(SIZE).div_ceil(PLACES_PER_PAGE);
        let places = (0..pages).map(|_| SharedPage::allocate()).collect::<Result<_, _>>()?;
        Ok(Queue { requests: Virtqueue::new(SIZE, PARTS)?, places })
    }

    /// What the device must be told of.
    pub(super) fn virtqueue(&self) -> &Virtqueue {
        &self.requests
    }

    /// Makes a request of at most [`MAX_SPANS`] spans and returns its slot, or `None` if all are in
    /// flight. The device sees it after [`Queue::publish`]. The memory must stay where it is until
    /// [`Queue::pop`] returns the slot.
    pub(super) fn push(&mut self, operation: Operation, sector: u64, data: &[Span]) -> Option<u16> {
        let (page, place) = self.place(self.requests.next_slot()?)?;
        page.store_u32(place, operation.number(), Ordering::Relaxed);
        page.store_u32(place + 4, 0, Ordering::Relaxed);
        page.store_u64(place + 8, sector, Ordering::Relaxed);
        let address = bus_address(page) + place as u64;
        let header = Span { address, length: HEADER_SIZE };
        let status = Span { address: address + STATUS as u64, length: 1 };
        let discarded = [Span { address: address + DISCARD as u64, length: DISCARD_SIZE }];
        let (read, written) = match operation {
            Operation::Read => (&[][..], data),
            Operation::Write | Operation::Flush => (data, &[][..]),
            Operation::Discard(sectors) => {
                page.store_u64(place + DISCARD, sector, Ordering::Relaxed);
                page.store_u64(place + DISCARD + 8, sectors.into(), Ordering::Relaxed);
                (&discarded[..], &[][..])
            }
        };
        let readable = [header].into_iter().chain(read.iter().copied());
        self.requests.push(readable, written.iter().copied().chain([status]))
    }

    /// A slot's place: its page and its offset there.
    fn place(&self, slot: u16) -> Option<(&SharedPage, usize)> {
        let slot = usize::from(slot);
        let page = self.places.get(slot / PLACES_PER_PAGE)?;
        Some((page, slot % PLACES_PER_PAGE * PLACE_SIZE))
    }

    /// Whether the device was shown all that was pushed.
    pub(super) fn is_published(&self) -> bool {
        self.requests.is_published()
    }

    /// Shows the device what was pushed. Returns whether it wants to be notified.
    pub(super) fn publish(&mut self) -> bool {
        self.requests.publish()
    }

    /// Takes back a request that the device is done with.
    pub(super) fn pop(&mut self) -> Result<Option<(u16, Status)>, Broken> {
        let Some(used) = self.requests.pop()? else { return Ok(None) };
        let (page, place) = self.place(used.slot).ok_or(Broken)?;
        let status = match page.load_u8(place + STATUS, Ordering::Relaxed) {
            0 => Status::Okay,
            2 => Status::Unsupported,
            _ => Status::Failed,
        };
        Ok(Some((used.slot, status)))
    }
}
