//! The queue of a virtio block device (virtio 1.2, section 5.2.6): requests as a virtqueue's
//! slots. Each slot has a place for what surrounds the data:
//!
//! ```text
//! 0 header   16 status
//! ```

use core::sync::atomic::Ordering;

use abi::PAGE_SIZE;
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::shared::SharedPage;

use crate::virtio::{Broken, Span, Virtqueue, bus_address};

#[cfg(test)]
pub(super) mod tests;

/// Requests that can be in flight.
pub(super) const SIZE: u16 = 64;

const PLACE_SIZE: usize = 32;
const HEADER_SIZE: u32 = 16;
const STATUS: usize = 16;
const _: () = assert!(SIZE as usize * PLACE_SIZE <= PAGE_SIZE);

/// What a block device can be asked for (`VIRTIO_BLK_T_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// The device writes memory.
    Read = 0,
    /// The device reads memory.
    Write = 1,
    /// It makes durable what it has completed.
    Flush = 4,
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
    /// Headers and status bytes, by slot.
    places: SharedPage,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new() -> Result<Queue, OutOfMemory> {
        Ok(Queue { requests: Virtqueue::new(SIZE)?, places: SharedPage::allocate()? })
    }

    /// What the device must be told of.
    pub(super) fn virtqueue(&self) -> &Virtqueue {
        &self.requests
    }

    /// Makes a request of at most [`abi::block::MAX_SEGMENTS`] spans and returns its slot, or
    /// `None` if all are in flight. The device sees it after [`Queue::publish`]. The memory must
    /// stay where it is until [`Queue::pop`] returns the slot.
    pub(super) fn push(&mut self, operation: Operation, sector: u64, data: &[Span]) -> Option<u16> {
        let place = usize::from(self.requests.next_slot()?) * PLACE_SIZE;
        self.places.store_u32(place, operation as u32, Ordering::Relaxed);
        self.places.store_u32(place + 4, 0, Ordering::Relaxed);
        self.places.store_u64(place + 8, sector, Ordering::Relaxed);
        let address = bus_address(&self.places) + place as u64;
        let header = Span { address, length: HEADER_SIZE };
        let status = Span { address: address + STATUS as u64, length: 1 };
        let (read, written) = match operation {
            Operation::Read => (&[][..], data),
            Operation::Write | Operation::Flush => (data, &[][..]),
        };
        let readable = [header].into_iter().chain(read.iter().copied());
        self.requests.push(readable, written.iter().copied().chain([status]))
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
        let place = usize::from(used.slot) * PLACE_SIZE;
        let status = match self.places.load_u8(place + STATUS, Ordering::Relaxed) {
            0 => Status::Okay,
            2 => Status::Unsupported,
            _ => Status::Failed,
        };
        Ok(Some((used.slot, status)))
    }
}
