//! A split virtqueue for a block device (virtio 1.2, sections 2.7 and 5.2.6) over bus addresses.
//!
//! Why not the queue of the crate `virtio-drivers`, whose transport and negotiation are used: it
//! takes buffers as Rust slices, and the data here is memory of a guest that may write it at any
//! moment, of which no reference may exist. And it holds one buffer per block request, where a
//! guest's has up to eleven, scattered. Here data is an address and a length.
//!
//! Each request has a slot, whose number is also that of its one descriptor. That points to the
//! slot's indirect table, so that there are no chains to allocate:
//!
//! ```text
//! ring page    0 descriptors   1024 available ring   2048 used ring
//! slot         0 header   16 status   32 indirect table of header, data, status
//! ```

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{Ordering, fence};

use abi::PAGE_SIZE;
use abi::block::MAX_SEGMENTS;
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::shared::SharedPage;

#[cfg(test)]
pub(super) mod tests;

/// Requests that can be in flight. A power of two; fits the bits of [`Virtqueue::busy`].
pub(super) const SIZE: u16 = 64;

const AVAILABLE_RING: usize = 1024;
const USED_RING: usize = 2048;
/// Before the entries of either ring: flags and index, of 16 bits each.
const RING_HEADER: usize = 4;
const DESCRIPTOR_SIZE: usize = 16;
const USED_ELEMENT_SIZE: usize = 8;

const SLOT_SIZE: usize = 256;
const SLOTS_PER_PAGE: usize = PAGE_SIZE / SLOT_SIZE;
const HEADER_SIZE: u32 = 16;
const STATUS: usize = 16;
const TABLE: usize = 32;
const _: () = assert!(TABLE + (MAX_SEGMENTS + 2) * DESCRIPTOR_SIZE <= SLOT_SIZE);

/// `VIRTQ_DESC_F_*`
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `VIRTQ_USED_F_NO_NOTIFY`
const NO_NOTIFY: u32 = 1;

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

/// Memory by the address at which the device sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) address: u64,
    /// In bytes.
    pub(super) length: u32,
}

/// The device broke the queue's rules; what it says means nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device answers what was not asked")
    }
}

/// The addresses that the device must know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// The driver's side of the queue.
#[derive(Debug)]
pub(super) struct Virtqueue {
    ring: SharedPage,
    slots: Vec<SharedPage>,
    /// One bit for each slot that is in flight.
    busy: u64,
    /// Requests made available, ever (modulo 2^16).
    available: u16,
    /// Of these, how many the device was shown.
    published: u16,
    /// Requests taken back, ever (modulo 2^16).
    used: u16,
}

impl Virtqueue {
    /// An empty queue. The device must be given its [`Addresses`] before it is used.
    pub(super) fn new() -> Result<Virtqueue, OutOfMemory> {
        let pages = usize::from(SIZE).div_ceil(SLOTS_PER_PAGE);
        let slots = (0..pages).map(|_| SharedPage::allocate()).collect::<Result<_, _>>()?;
        let ring = SharedPage::allocate()?;
        Ok(Virtqueue { ring, slots, busy: 0, available: 0, published: 0, used: 0 })
    }

    pub(super) fn addresses(&self) -> Addresses {
        let base = bus_address(&self.ring);
        Addresses {
            descriptors: base,
            available: base + AVAILABLE_RING as u64,
            used: base + USED_RING as u64,
        }
    }

    /// Makes a request of at most [`MAX_SEGMENTS`] spans and returns its slot, or `None` if all
    /// are in flight. The device sees it after [`Virtqueue::publish`]. The memory must stay where
    /// it is until [`Virtqueue::pop`] returns the slot.
    pub(super) fn push(&mut self, operation: Operation, sector: u64, data: &[Span]) -> Option<u16> {
        let slot = (!self.busy).trailing_zeros() as u16;
        let (page, base) = self.slot(slot)?;
        page.store_u32(base, operation as u32, Ordering::Relaxed);
        page.store_u32(base + 4, 0, Ordering::Relaxed);
        page.store_u64(base + 8, sector, Ordering::Relaxed);

        let address = bus_address(page) + base as u64;
        let writable = if operation == Operation::Read { WRITE } else { 0 };
        let header = Span { address, length: HEADER_SIZE };
        let status = Span { address: address + STATUS as u64, length: 1 };
        let data = data.iter().take(MAX_SEGMENTS).map(|&span| (span, writable | NEXT));
        let parts = core::iter::once((header, NEXT)).chain(data).chain([(status, WRITE)]);
        let mut count: u16 = 0;
        for (span, flags) in parts {
            let place = base + TABLE + usize::from(count) * DESCRIPTOR_SIZE;
            count += 1;
            write_descriptor(page, place, span, flags, count);
        }

        let table = Span {
            address: address + TABLE as u64,
            length: u32::from(count) * DESCRIPTOR_SIZE as u32,
        };
        write_descriptor(&self.ring, usize::from(slot) * DESCRIPTOR_SIZE, table, INDIRECT, 0);
        let entry = AVAILABLE_RING + RING_HEADER + usize::from(self.available % SIZE) * 2;
        self.ring.store_u16(entry, slot, Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
        self.busy |= 1 << slot;
        Some(slot)
    }

    /// Whether the device was shown all that was pushed.
    pub(super) fn is_published(&self) -> bool {
        self.published == self.available
    }

    /// Shows the device what was pushed. Returns whether it wants to be notified.
    pub(super) fn publish(&mut self) -> bool {
        self.published = self.available;
        // The index comes after what it announces, and the look at the device's flags after that.
        let index = u32::from(self.available) << 16;
        self.ring.store_u32(AVAILABLE_RING, index, Ordering::Release);
        fence(Ordering::SeqCst);
        self.ring.load_u32(USED_RING, Ordering::Relaxed) & NO_NOTIFY == 0
    }

    /// Takes back a request that the device is done with.
    pub(super) fn pop(&mut self) -> Result<Option<(u16, Status)>, Broken> {
        let index = (self.ring.load_u32(USED_RING, Ordering::Acquire) >> 16) as u16;
        match index.wrapping_sub(self.used) {
            0 => return Ok(None),
            1..=SIZE => {}
            _ => return Err(Broken),
        }
        let element = USED_RING + RING_HEADER + usize::from(self.used % SIZE) * USED_ELEMENT_SIZE;
        let slot = self.ring.load_u32(element, Ordering::Relaxed);
        let slot = u16::try_from(slot).ok().filter(|&slot| self.is_busy(slot)).ok_or(Broken)?;
        let (page, base) = self.slot(slot).ok_or(Broken)?;
        let status = match page.load_u8(base + STATUS, Ordering::Relaxed) {
            0 => Status::Okay,
            2 => Status::Unsupported,
            _ => Status::Failed,
        };
        self.used = self.used.wrapping_add(1);
        self.busy &= !(1 << slot);
        Ok(Some((slot, status)))
    }

    fn is_busy(&self, slot: u16) -> bool {
        slot < SIZE && self.busy & (1 << slot) != 0
    }

    /// A slot's page and its offset there.
    fn slot(&self, slot: u16) -> Option<(&SharedPage, usize)> {
        let slot = usize::from(slot);
        let page = self.slots.get(slot / SLOTS_PER_PAGE)?;
        Some((page, slot % SLOTS_PER_PAGE * SLOT_SIZE))
    }
}

/// This domain is mapped 1:1: the device sees its pages where it sees them itself.
fn bus_address(page: &SharedPage) -> u64 {
    page.as_ptr().addr().get() as u64
}

fn write_descriptor(page: &SharedPage, place: usize, span: Span, flags: u16, next: u16) {
    page.store_u64(place, span.address, Ordering::Relaxed);
    page.store_u32(place + 8, span.length, Ordering::Relaxed);
    page.store_u16(place + 12, flags, Ordering::Relaxed);
    page.store_u16(place + 14, next, Ordering::Relaxed);
}
