//! A split virtqueue (virtio 1.2, section 2.7) over bus addresses.
//!
//! Why not the queue of the crate `virtio-drivers`, whose transport and negotiation are used: it
//! takes buffers as Rust slices, and the data here is memory of guests that may write it at any
//! moment, of which no reference may exist. Here data is an address and a length.
//!
//! Each request has a slot, whose number is also that of its one descriptor. That holds the data of
//! a request of one part itself, and else points to the slot's indirect table: so there are no
//! chains to allocate.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{Ordering, fence};

use abi::PAGE_SIZE;
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::shared::SharedPage;

/// Before the entries of either ring: flags and index, of 16 bits each.
const RING_HEADER: usize = 4;
const DESCRIPTOR_SIZE: usize = 16;
const USED_ELEMENT_SIZE: usize = 8;
/// Slots of the longest queue: the descriptors fit one page, as do the other two parts.
const SIZE_MAX: u16 = (PAGE_SIZE / DESCRIPTOR_SIZE) as u16;

/// Parts of the largest request: a table lies in one page.
const PARTS_MAX: u16 = (PAGE_SIZE / DESCRIPTOR_SIZE) as u16;

/// `VIRTQ_DESC_F_*`
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `VIRTQ_USED_F_NO_NOTIFY`
const NO_NOTIFY: u32 = 1;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;

/// Memory by the address at which the device sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte's.
    pub address: u64,
    /// In bytes.
    pub length: u32,
}

impl Span {
    /// Adds a span to a list, or to its last one if that ends where it begins.
    pub fn append(spans: &mut Vec<Span>, span: Span) {
        match spans.last_mut() {
            Some(last) if last.address + u64::from(last.length) == span.address => {
                last.length += span.length;
            }
            _ => spans.push(span),
        }
    }
}

/// A request that the device is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Its slot.
    pub slot: u16,
    /// Bytes that the device says it has written.
    pub written: u32,
}

/// The device broke the queue's rules; what it says means nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device answers what was not asked")
    }
}

/// The addresses that the device must know.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Of the descriptors.
    pub descriptors: u64,
    /// Of the ring that the driver writes.
    pub available: u64,
    /// Of the ring that the device writes.
    pub used: u64,
}

/// The driver's side of a queue.
#[derive(Debug)]
pub struct Virtqueue {
    descriptors: SharedPage,
    available_ring: SharedPage,
    used_ring: SharedPage,
    tables: Vec<SharedPage>,
    size: u16,
    /// Parts of a request at most.
    parts: u16,
    /// Slots that are not in flight; the last is used next.
    free: Vec<u16>,
    /// By slot: whether it is in flight.
    busy: Vec<bool>,
    /// Flags for the device.
    flags: u16,
    /// Requests made available, ever (modulo 2^16).
    available: u16,
    /// Of these, how many the device was shown.
    published: u16,
    /// Requests taken back, ever (modulo 2^16).
    used: u16,
}

impl Virtqueue {
    /// An empty queue of `size` slots for requests of at most `parts`, both powers of two up to
    /// 256. The device must be given its [`Addresses`] before it is used.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(size: u16, parts: u16) -> Result<Virtqueue, OutOfMemory> {
        assert!(size.is_power_of_two() && size <= SIZE_MAX, "not a queue's size");
        assert!(parts.is_power_of_two() && parts <= PARTS_MAX, "not a table's length");
        let pages = (usize::from(size) * usize::from(parts)).div_ceil(PARTS_MAX.into());
        Ok(Virtqueue {
            descriptors: SharedPage::allocate()?,
            available_ring: SharedPage::allocate()?,
            used_ring: SharedPage::allocate()?,
            tables: (0..pages).map(|_| SharedPage::allocate()).collect::<Result<_, _>>()?,
            size,
            parts,
            free: (0..size).rev().collect(),
            busy: vec![false; size.into()],
            flags: 0,
            available: 0,
            published: 0,
            used: 0,
        })
    }

    /// How many requests can be in flight.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Says whether the device shall interrupt when it is done with a request, as it does at first.
    /// What it did before it heard of that must be looked for.
    pub fn set_interrupts(&mut self, wanted: bool) {
        self.flags = if wanted { 0 } else { NO_INTERRUPT };
        self.available_ring.store_u16(0, self.flags, Ordering::Relaxed);
        // The flags are there before the device's ring is looked at.
        fence(Ordering::SeqCst);
    }

    /// Where it lies.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            descriptors: bus_address(&self.descriptors),
            available: bus_address(&self.available_ring),
            used: bus_address(&self.used_ring),
        }
    }

    /// The slot that the next request will have, or `None` if all are in flight.
    pub fn next_slot(&self) -> Option<u16> {
        self.free.last().copied()
    }

    /// Makes a request of at least one part, and not of more than the queue was made for: first
    /// what the device reads, then what it writes. Returns its slot, or `None` if all are in flight. The device sees it after
    /// [`Virtqueue::publish`]. The memory must stay where it is until [`Virtqueue::pop`] returns
    /// the slot.
    pub fn push(
        &mut self,
        readable: impl IntoIterator<Item = Span>,
        writable: impl IntoIterator<Item = Span>,
    ) -> Option<u16> {
        let slot = self.free.pop()?;
        let (page, base) = self.table(slot)?;
        let readable = readable.into_iter().map(|span| (span, 0));
        let writable = writable.into_iter().map(|span| (span, WRITE));
        let mut count: u16 = 0;
        let mut last = (Span { address: 0, length: 0 }, 0);
        for (span, flags) in readable.chain(writable).take(self.parts.into()) {
            if count > 0 {
                let place = base + usize::from(count - 1) * DESCRIPTOR_SIZE;
                write_descriptor(page, place, last.0, last.1 | NEXT, count);
            }
            (last, count) = ((span, flags), count + 1);
        }
        let (span, flags) = match count {
            0 | 1 => last,
            _ => {
                let place = base + usize::from(count - 1) * DESCRIPTOR_SIZE;
                write_descriptor(page, place, last.0, last.1, 0);
                let length = u32::from(count) * DESCRIPTOR_SIZE as u32;
                (Span { address: bus_address(page) + base as u64, length }, INDIRECT)
            }
        };
        write_descriptor(&self.descriptors, usize::from(slot) * DESCRIPTOR_SIZE, span, flags, 0);
        let entry = RING_HEADER + usize::from(self.available % self.size) * size_of::<u16>();
        self.available_ring.store_u16(entry, slot, Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
        if let Some(busy) = self.busy.get_mut(usize::from(slot)) {
            *busy = true;
        }
        Some(slot)
    }

    /// Whether the device was shown all that was pushed.
    pub fn is_published(&self) -> bool {
        self.published == self.available
    }

    /// Shows the device what was pushed. Returns whether it wants to be notified.
    pub fn publish(&mut self) -> bool {
        self.published = self.available;
        // The index comes after what it announces, and the look at the device's flags after that.
        let word = u32::from(self.available) << 16 | u32::from(self.flags);
        self.available_ring.store_u32(0, word, Ordering::Release);
        fence(Ordering::SeqCst);
        self.used_ring.load_u32(0, Ordering::Relaxed) & NO_NOTIFY == 0
    }

    /// Takes back a request that the device is done with.
    ///
    /// # Errors
    /// If the device says what cannot be.
    pub fn pop(&mut self) -> Result<Option<Used>, Broken> {
        let index = (self.used_ring.load_u32(0, Ordering::Acquire) >> 16) as u16;
        match index.wrapping_sub(self.used) {
            0 => return Ok(None),
            count if count <= self.size => {}
            _ => return Err(Broken),
        }
        let element = RING_HEADER + usize::from(self.used % self.size) * USED_ELEMENT_SIZE;
        let slot = self.used_ring.load_u32(element, Ordering::Relaxed);
        let written = self.used_ring.load_u32(element + 4, Ordering::Relaxed);
        let slot = u16::try_from(slot).map_err(|_| Broken)?;
        let busy = self.busy.get_mut(usize::from(slot)).filter(|busy| **busy).ok_or(Broken)?;
        *busy = false;
        self.free.push(slot);
        self.used = self.used.wrapping_add(1);
        Ok(Some(Used { slot, written }))
    }

    /// All that a device must be able to reach: descriptors, the two rings, tables.
    #[cfg(test)]
    pub fn pages(&self) -> Vec<SharedPage> {
        let rings = [&self.descriptors, &self.available_ring, &self.used_ring];
        rings.into_iter().chain(&self.tables).cloned().collect()
    }

    /// A slot's indirect table: its page and its offset there.
    fn table(&self, slot: u16) -> Option<(&SharedPage, usize)> {
        let place = usize::from(slot) * usize::from(self.parts) * DESCRIPTOR_SIZE;
        Some((self.tables.get(place / PAGE_SIZE)?, place % PAGE_SIZE))
    }
}

/// This domain is mapped 1:1: a device sees its pages where it sees them itself.
pub fn bus_address(page: &SharedPage) -> u64 {
    page.as_ptr().addr().get() as u64
}

fn write_descriptor(page: &SharedPage, place: usize, span: Span, flags: u16, next: u16) {
    page.store_u64(place, span.address, Ordering::Relaxed);
    page.store_u32(place + 8, span.length, Ordering::Relaxed);
    page.store_u16(place + 12, flags, Ordering::Relaxed);
    page.store_u16(place + 14, next, Ordering::Relaxed);
}
