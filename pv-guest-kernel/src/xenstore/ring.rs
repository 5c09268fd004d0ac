//! The store's byte ring, seen from its client. The indices are the page's own: they may start
//! anywhere, and a store that reconnects may move them.

use core::mem::offset_of;
use core::sync::atomic::Ordering;

use abi::Errno;
use abi::xenstore::{RING_SIZE, Ring as Layout};

use crate::shared::SharedPage;

/// One direction: where in the page its bytes and indices are.
#[derive(Debug, Clone, Copy)]
struct Lane {
    bytes: usize,
    producer: usize,
    consumer: usize,
}

const REQUESTS: Lane = Lane {
    bytes: offset_of!(Layout, requests),
    producer: offset_of!(Layout, request_producer),
    consumer: offset_of!(Layout, request_consumer),
};

const RESPONSES: Lane = Lane {
    bytes: offset_of!(Layout, responses),
    producer: offset_of!(Layout, response_producer),
    consumer: offset_of!(Layout, response_consumer),
};

/// The ring's page, and which direction is whose.
#[derive(Debug)]
pub(super) struct Ring {
    page: SharedPage,
    outgoing: Lane,
    incoming: Lane,
}

impl Ring {
    /// The client's view.
    pub(super) fn new(page: SharedPage) -> Ring {
        Ring { page, outgoing: REQUESTS, incoming: RESPONSES }
    }

    /// The store's view.
    #[cfg(test)]
    pub(super) fn of_store(page: SharedPage) -> Ring {
        Ring { page, outgoing: RESPONSES, incoming: REQUESTS }
    }

    /// Whether the store serves the ring; while it does not, the ring must be left alone.
    pub(super) fn is_connected(&self) -> bool {
        self.load(offset_of!(Layout, connection)) == 0
    }

    /// Writes as many bytes as there is room for and returns how many. `EIO` if the indices are
    /// impossible.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let Lane { bytes: base, producer, consumer } = self.outgoing;
        let (index, consumed) = (self.load(producer), self.load(consumer));
        let room = RING_SIZE - used(index, consumed)?;
        let count = bytes.len().min(room);
        let (start, first) = place(index, count);
        let (head, tail) = bytes[..count].split_at(first);
        self.page.write_bytes(base + start, head);
        self.page.write_bytes(base, tail);
        self.advance(producer, index, count);
        Ok(count)
    }

    /// Takes as many bytes as there are and fit, and returns how many. `EIO` if the indices are
    /// impossible.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> Result<usize, Errno> {
        let Lane { bytes: base, producer, consumer } = self.incoming;
        let (produced, index) = (self.load(producer), self.load(consumer));
        let count = bytes.len().min(used(produced, index)?);
        let (start, first) = place(index, count);
        let (head, tail) = bytes[..count].split_at_mut(first);
        self.page.read_bytes(base + start, head);
        self.page.read_bytes(base, tail);
        self.advance(consumer, index, count);
        Ok(count)
    }

    /// The other side's accesses to the bytes come before the index that it wrote.
    fn load(&self, offset: usize) -> u32 {
        self.page.load_u32(offset, Ordering::Acquire)
    }

    /// Our accesses to the bytes come before the index that we write. At most a ring's length.
    fn advance(&self, offset: usize, index: u32, count: usize) {
        self.page.store_u32(offset, index.wrapping_add(count as u32), Ordering::Release);
    }
}

/// Bytes in the ring.
fn used(producer: u32, consumer: u32) -> Result<usize, Errno> {
    let used = producer.wrapping_sub(consumer) as usize;
    if used <= RING_SIZE { Ok(used) } else { Err(Errno::EIO) }
}

/// Where a run of bytes begins, and how many of them come before the ring wraps.
fn place(index: u32, count: usize) -> (usize, usize) {
    let start = index as usize % RING_SIZE;
    (start, count.min(RING_SIZE - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cross_the_end_of_the_ring_and_of_the_index() {
        let page = SharedPage::allocate().unwrap();
        let start = u32::MAX - 9;
        for offset in [2048, 2052] {
            page.store_u32(offset, start, Ordering::Relaxed);
        }
        let ring = Ring::new(page.clone());
        let bytes: [u8; 1100] = core::array::from_fn(|index| index as u8);
        assert_eq!(ring.send(&bytes), Ok(RING_SIZE));
        assert_eq!(ring.send(&bytes), Ok(0));
        assert_eq!(page.load_u32(2052, Ordering::Relaxed), start.wrapping_add(1024));
        let mut written = [0; 10];
        page.read_bytes(1024 - 10, &mut written);
        assert_eq!(written, bytes[..10]);
        page.read_bytes(0, &mut written);
        assert_eq!(written, bytes[10..20]);
    }

    #[test]
    fn what_the_store_writes_is_read_once() {
        let page = SharedPage::allocate().unwrap();
        let ring = Ring::new(page.clone());
        page.write_bytes(1024, b"hello");
        page.store_u32(2060, 5, Ordering::Release);
        let mut bytes = [0; 3];
        assert_eq!((ring.receive(&mut bytes), &bytes), (Ok(3), b"hel"));
        assert_eq!((ring.receive(&mut bytes), &bytes[..2]), (Ok(2), &b"lo"[..]));
        assert_eq!(ring.receive(&mut bytes), Ok(0));
    }

    #[test]
    fn impossible_indices_are_an_error() {
        let page = SharedPage::allocate().unwrap();
        page.store_u32(2060, 1025, Ordering::Relaxed);
        page.store_u32(2048, 1, Ordering::Relaxed);
        let ring = Ring::new(page);
        assert_eq!(ring.receive(&mut [0; 8]), Err(Errno::EIO));
        assert_eq!(ring.send(b"x"), Err(Errno::EIO));
    }
}
