//! The queue against a device that follows the specification, and against one that does not.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::virtio::Addresses;

const SECTOR: usize = 512;
/// `VIRTQ_DESC_F_*`
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `VIRTQ_USED_F_NO_NOTIFY`
const NO_NOTIFY: u16 = 1;

/// A device: reads the queue by addresses only, as a real one does.
pub(in super::super) struct FakeDevice {
    at: Addresses,
    /// All memory that it can reach, by address.
    memory: BTreeMap<u64, SharedPage>,
    pub(in super::super) sectors: Vec<u8>,
    /// Requests that it has seen and not answered: slot and address of its table.
    taken: VecDeque<(u16, Span)>,
    seen: u16,
    answered: u16,
}

impl FakeDevice {
    /// A device for this queue, whose data lies in `pages`.
    pub(in super::super) fn new(queue: &Queue, pages: &[SharedPage], sectors: usize) -> Self {
        let queues = queue.requests.pages();
        let reachable = queues.iter().chain(&queue.places).chain(pages);
        let memory = reachable.map(|page| (bus_address(page), page.clone())).collect();
        let sectors = vec![0; sectors * SECTOR];
        let (taken, at) = (VecDeque::new(), queue.requests.addresses());
        FakeDevice { at, memory, sectors, taken, seen: 0, answered: 0 }
    }

    /// Lets it reach more memory.
    pub(in super::super) fn reach(&mut self, pages: &[SharedPage]) {
        self.memory.extend(pages.iter().map(|page| (bus_address(page), page.clone())));
    }

    fn place(&self, address: u64, length: usize) -> (&SharedPage, usize) {
        let (base, page) = self.memory.range(..=address).next_back().unwrap();
        let offset = usize::try_from(address - base).unwrap();
        assert!(offset + length <= PAGE_SIZE, "the device was sent to {address:#x}");
        (page, offset)
    }

    fn bytes<const N: usize>(&self, address: u64) -> [u8; N] {
        let (page, offset) = self.place(address, N);
        let mut bytes = [0; N];
        page.read_bytes(offset, &mut bytes);
        bytes
    }

    fn number(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.bytes(address))
    }

    fn descriptor(&self, address: u64) -> (Span, u16, u16) {
        let span = Span {
            address: u64::from_le_bytes(self.bytes(address)),
            length: u32::from_le_bytes(self.bytes(address + 8)),
        };
        (span, self.number(address + 12), self.number(address + 14))
    }

    /// Takes what has been made available and returns how much it now works on.
    pub(in super::super) fn look(&mut self) -> usize {
        while self.seen != self.number(self.at.available + 2) {
            let slot = self.number(self.at.available + 4 + u64::from(self.seen % SIZE) * 2);
            let (table, flags, _) = self.descriptor(self.at.descriptors + u64::from(slot) * 16);
            assert_eq!(flags, INDIRECT);
            self.taken.push_back((slot, table));
            self.seen = self.seen.wrapping_add(1);
        }
        self.taken.len()
    }

    /// Does and answers one of the requests that it works on.
    pub(in super::super) fn finish(&mut self, which: usize) {
        let (slot, table) = self.taken.remove(which).unwrap();
        let parts = self.parts(table);
        let [(header, DEVICE_READS), data @ .., (status, WRITE)] = parts.as_slice() else {
            panic!("the status is not for the device to write: {parts:?}");
        };
        assert_eq!((header.length, status.length), (16, 1));
        let kind = u32::from_le_bytes(self.bytes(header.address));
        let sector = u64::from_le_bytes(self.bytes(header.address + 8));
        let done = self.transfer(kind, sector, data);
        let (page, offset) = self.place(status.address, 1);
        page.write_bytes(offset, &[if done { 0 } else { 1 }]);
        self.answer(slot.into());
    }

    fn parts(&self, table: Span) -> Vec<(Span, u16)> {
        let mut parts = Vec::new();
        let mut index = 0;
        loop {
            assert!(index * 16 < table.length, "the chain leaves its table");
            let (span, flags, next) = self.descriptor(table.address + u64::from(index) * 16);
            parts.push((span, flags & WRITE));
            if flags & NEXT == 0 {
                assert_eq!((index + 1) * 16, table.length);
                return parts;
            }
            index = next.into();
        }
    }

    fn transfer(&mut self, kind: u32, sector: u64, data: &[(Span, u16)]) -> bool {
        if let (11, &[(segment, DEVICE_READS)]) = (kind, data) {
            return self.discard(segment.address);
        }
        let mut at = usize::try_from(sector).unwrap() * SECTOR;
        for &(span, writable) in data {
            let length = span.length as usize;
            let Some(mut bytes) = self.sectors.get(at..at + length).map(Vec::from) else {
                return false;
            };
            let (page, offset) = self.place(span.address, length);
            assert_eq!(writable != 0, kind == Operation::Read.number());
            if kind == Operation::Read.number() {
                page.write_bytes(offset, &bytes);
            } else {
                page.read_bytes(offset, &mut bytes);
                self.sectors[at..at + length].copy_from_slice(&bytes);
            }
            at += length;
        }
        true
    }

    fn discard(&mut self, segment: u64) -> bool {
        let first = u64::from_le_bytes(self.bytes(segment)) as usize * SECTOR;
        let count = u32::from_le_bytes(self.bytes(segment + 8)) as usize * SECTOR;
        let sectors = self.sectors.get_mut(first..first + count);
        sectors.map(|bytes| bytes.fill(0)).is_some()
    }

    /// Puts a slot into the used ring, whether or not that is right.
    pub(in super::super) fn answer(&mut self, slot: u32) {
        let element = self.at.used + 4 + u64::from(self.answered % SIZE) * 8;
        let (page, offset) = self.place(element, 8);
        page.store_u32(offset, slot, Ordering::Relaxed);
        self.claim(self.answered.wrapping_add(1));
    }

    /// Claims to have answered so many requests, ever.
    fn claim(&mut self, answered: u16) {
        self.answered = answered;
        let (page, offset) = self.place(self.at.used + 2, 2);
        page.store_u16(offset, answered, Ordering::Release);
    }
}

/// Flags of a descriptor that the device only reads, apart from NEXT.
const DEVICE_READS: u16 = 0;

fn span(page: &SharedPage, offset: u64, length: u32) -> Span {
    Span { address: bus_address(page) + offset, length }
}

#[test]
fn scattered_data_reaches_the_disk_and_comes_back() {
    let mut queue = Queue::new().unwrap();
    let pages: Vec<_> = (0..11).map(|_| SharedPage::allocate().unwrap()).collect();
    let mut device = FakeDevice::new(&queue, &pages, 100);
    for (index, page) in pages.iter().enumerate() {
        page.write_bytes(512, &[index as u8 + 1; 1024]);
    }
    let spans: Vec<Span> = pages.iter().map(|page| span(page, 512, 1024)).collect();
    for operation in [Operation::Write, Operation::Flush, Operation::Read] {
        let data = if operation == Operation::Flush { &[] } else { spans.as_slice() };
        let slot = queue.push(operation, 3, data).unwrap();
        assert_eq!(device.look(), 0, "a request is seen before it is published");
        assert!(queue.publish());
        assert_eq!(device.look(), 1);
        assert_eq!(queue.pop(), Ok(None));
        device.finish(0);
        assert_eq!(queue.pop(), Ok(Some((slot, Status::Okay))));
        if operation == Operation::Write {
            assert_eq!(device.sectors[3 * 512..3 * 512 + 1024], [1; 1024]);
            assert_eq!(device.sectors[23 * 512..25 * 512], [11; 1024]);
            pages.iter().for_each(|page| page.write_bytes(0, &[0; PAGE_SIZE]));
        }
    }
    for (index, page) in pages.iter().enumerate() {
        let mut bytes = [0; 1025];
        page.read_bytes(512, &mut bytes);
        assert_eq!(bytes[..1024], [index as u8 + 1; 1024]);
        assert_eq!(bytes[1024], 0, "the device wrote beyond the span");
    }
}

#[test]
fn what_is_discarded_is_named_to_the_device() {
    let mut queue = Queue::new().unwrap();
    let mut device = FakeDevice::new(&queue, &[], 100);
    device.sectors.fill(7);
    let slot = queue.push(Operation::Discard(3), 5, &[]).unwrap();
    assert!(queue.publish());
    device.look();
    device.finish(0);
    assert_eq!(queue.pop(), Ok(Some((slot, Status::Okay))));
    let forgotten = device.sectors.iter().position(|&byte| byte == 0);
    assert_eq!(forgotten, Some(5 * SECTOR));
    assert_eq!(device.sectors.iter().filter(|&&byte| byte == 0).count(), 3 * SECTOR);
}

#[test]
fn a_request_has_as_many_spans_as_a_table_holds() {
    let mut queue = Queue::new().unwrap();
    let page = SharedPage::allocate().unwrap();
    let mut device = FakeDevice::new(&queue, core::slice::from_ref(&page), MAX_SPANS);
    let spans = [span(&page, 0, 512); MAX_SPANS];
    for _ in 0..3 {
        // A slot in the middle of a page of tables, too.
        queue.push(Operation::Write, 0, &spans).unwrap();
    }
    let _ = queue.publish();
    assert_eq!(device.look(), 3);
    for _ in 0..3 {
        device.finish(0);
        assert!(matches!(queue.pop(), Ok(Some((_, Status::Okay)))));
    }
}

#[test]
fn a_failure_is_reported() {
    let mut queue = Queue::new().unwrap();
    let page = SharedPage::allocate().unwrap();
    let mut device = FakeDevice::new(&queue, core::slice::from_ref(&page), 1);
    let slot = queue.push(Operation::Read, 7, &[span(&page, 0, 512)]).unwrap();
    assert!(queue.publish());
    device.look();
    device.finish(0);
    assert_eq!(queue.pop(), Ok(Some((slot, Status::Failed))));
}

#[test]
fn a_device_that_is_busy_is_not_notified() {
    let mut queue = Queue::new().unwrap();
    let device = FakeDevice::new(&queue, &[], 1);
    let (used_ring, offset) = device.place(device.at.used, 2);
    used_ring.store_u16(offset, NO_NOTIFY, Ordering::Relaxed);
    queue.push(Operation::Flush, 0, &[]).unwrap();
    assert!(!queue.publish());
    assert!(queue.is_published());
}

#[test]
fn the_indices_wrap() {
    let mut queue = Queue::new().unwrap();
    let mut device = FakeDevice::new(&queue, &[], 1);
    for _ in 0..70_000 {
        let slot = queue.push(Operation::Flush, 0, &[]).unwrap();
        assert!(queue.publish());
        assert_eq!(device.look(), 1);
        device.finish(0);
        assert_eq!(queue.pop(), Ok(Some((slot, Status::Okay))));
    }
}

proptest! {
    #[test]
    fn requests_are_answered_in_any_order(
        choices in prop::collection::vec((0..3, any::<prop::sample::Index>()), 1..300),
    ) {
        let mut queue = Queue::new().unwrap();
        let mut device = FakeDevice::new(&queue, &[], 1);
        let mut in_flight = Vec::new();
        for (push, which) in choices {
            if push > 0 {
                let slot = queue.push(Operation::Flush, 0, &[]);
                prop_assert_eq!(slot.is_some(), in_flight.len() < usize::from(SIZE));
                prop_assert!(slot.is_none_or(|slot| !in_flight.contains(&slot)));
                in_flight.extend(slot);
                let _ = queue.publish();
            } else if device.look() > 0 {
                device.finish(which.index(in_flight.len()));
                let (slot, status) = queue.pop().unwrap().unwrap();
                prop_assert_eq!(status, Status::Okay);
                prop_assert!(in_flight.contains(&slot));
                in_flight.retain(|&other| other != slot);
            }
        }
    }
}

#[test]
fn a_full_queue_refuses() {
    let mut queue = Queue::new().unwrap();
    let mut device = FakeDevice::new(&queue, &[], 1);
    for _ in 0..SIZE {
        assert!(queue.push(Operation::Flush, 0, &[]).is_some());
    }
    assert_eq!(queue.push(Operation::Flush, 0, &[]), None);
    let _ = queue.publish();
    assert_eq!(device.look(), usize::from(SIZE));
    device.finish(17);
    let (slot, _) = queue.pop().unwrap().unwrap();
    assert_eq!(queue.push(Operation::Flush, 0, &[]), Some(slot));
}

#[test]
fn a_device_that_answers_what_was_not_asked_is_broken() {
    let broken = |misbehave: fn(&mut FakeDevice)| {
        let mut queue = Queue::new().unwrap();
        let mut device = FakeDevice::new(&queue, &[], 1);
        let slot = queue.push(Operation::Flush, 0, &[]).unwrap();
        assert_eq!(slot, 0);
        let _ = queue.publish();
        misbehave(&mut device);
        queue.pop()
    };
    assert!(broken(|device| device.answer(0)).is_ok());
    assert_eq!(broken(|device| device.answer(1)), Err(Broken));
    assert_eq!(broken(|device| device.answer(SIZE.into())), Err(Broken));
    assert_eq!(broken(|device| device.answer(u32::MAX)), Err(Broken));
    assert_eq!(broken(|device| device.claim(SIZE + 1)), Err(Broken));
}

#[test]
fn an_answer_comes_once() {
    let mut queue = Queue::new().unwrap();
    let mut device = FakeDevice::new(&queue, &[], 1);
    queue.push(Operation::Flush, 0, &[]).unwrap();
    let _ = queue.publish();
    device.answer(0);
    assert!(queue.pop().unwrap().is_some());
    device.answer(0);
    assert_eq!(queue.pop(), Err(Broken));
}
