//! Rings of bytes in pages that a guest writes: the serving side of the store's and the consoles'.
//!
//! The guest's index is an allegation, checked at each use. Our own is kept here and only
//! published: a guest that overwrites it in the page cannot make us go where it wants.

use core::{fmt, sync::atomic::Ordering};

use pv_guest_kernel::shared::SharedPage;

/// Where one direction of a ring is in its page: offsets in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The bytes.
    pub data: usize,
    /// How many there are: a power of two.
    pub size: usize,
    /// The index of whoever puts bytes in.
    pub producer: usize,
    /// The index of whoever takes them out.
    pub consumer: usize,
}

/// The peer's index cannot be: there would be more bytes in the ring than fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadIndex;

impl fmt::Display for BadIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("impossible ring index")
    }
}

impl core::error::Error for BadIndex {}

impl Layout {
    fn used(&self, producer: u32, consumer: u32) -> Result<usize, BadIndex> {
        let used = usize::try_from(producer.wrapping_sub(consumer)).map_err(|_| BadIndex)?;
        if used <= self.size { Ok(used) } else { Err(BadIndex) }
    }

    /// Where the run of `count` bytes from `index` on begins, and how many of them come before the
    /// ring wraps.
    fn place(&self, index: u32, count: usize) -> (usize, usize) {
        let size = u32::try_from(self.size).unwrap_or(1);
        let start = usize::try_from(index % size).unwrap_or(0);
        (self.data.saturating_add(start), count.min(self.size.saturating_sub(start)))
    }
}

/// At most a ring's length is added.
fn advanced(index: u32, count: usize) -> u32 {
    index.wrapping_add(u32::try_from(count).unwrap_or(0))
}

/// The direction from the guest.
#[derive(Debug)]
pub struct Receiver {
    page: SharedPage,
    layout: Layout,
    consumer: u32,
}

impl Receiver {
    /// Goes on where the page says that the last consumer stopped.
    pub fn new(page: SharedPage, layout: Layout) -> Receiver {
        let consumer = page.load_u32(layout.consumer, Ordering::Relaxed);
        Receiver { page, layout, consumer }
    }

    /// Takes as many bytes as there are and fit in `bytes`; returns how many.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, BadIndex> {
        let producer = self.page.load_u32(self.layout.producer, Ordering::Acquire);
        let count = self.layout.used(producer, self.consumer)?.min(bytes.len());
        let (start, first) = self.layout.place(self.consumer, count);
        let (bytes, _) = bytes.split_at_mut(count);
        let (head, tail) = bytes.split_at_mut(first);
        self.page.read_bytes(start, head);
        self.page.read_bytes(self.layout.data, tail);
        self.consumer = advanced(self.consumer, count);
        // The bytes were read before the guest learns that it may overwrite them.
        self.page.store_u32(self.layout.consumer, self.consumer, Ordering::Release);
        Ok(count)
    }
}

/// The direction to the guest.
#[derive(Debug)]
pub struct Sender {
    page: SharedPage,
    layout: Layout,
    producer: u32,
}

impl Sender {
    /// Goes on where the page says that the last producer stopped.
    pub fn new(page: SharedPage, layout: Layout) -> Sender {
        let producer = page.load_u32(layout.producer, Ordering::Relaxed);
        Sender { page, layout, producer }
    }

    /// Puts as many bytes as there is room for; returns how many.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, BadIndex> {
        let consumer = self.page.load_u32(self.layout.consumer, Ordering::Acquire);
        let used = self.layout.used(self.producer, consumer)?;
        let count = bytes.len().min(self.layout.size.saturating_sub(used));
        let (start, first) = self.layout.place(self.producer, count);
        let (bytes, _) = bytes.split_at(count);
        let (head, tail) = bytes.split_at(first);
        self.page.write_bytes(start, head);
        self.page.write_bytes(self.layout.data, tail);
        self.producer = advanced(self.producer, count);
        // The bytes are there before the guest learns of them.
        self.page.store_u32(self.layout.producer, self.producer, Ordering::Release);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    const LAYOUT: Layout = Layout { data: 64, size: 32, producer: 0, consumer: 4 };

    fn ring(start: u32) -> (SharedPage, Sender, Receiver) {
        let page = SharedPage::allocate().unwrap();
        page.store_u32(0, start, Ordering::Relaxed);
        page.store_u32(4, start, Ordering::Relaxed);
        let (sender, receiver) =
            (Sender::new(page.clone(), LAYOUT), Receiver::new(page.clone(), LAYOUT));
        (page, sender, receiver)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            start: u32,
            steps in proptest::collection::vec((any::<bool>(), 0usize..40), 0..100),
        ) {
            let (_, mut sender, mut receiver) = ring(start);
            let (mut model, mut next) = (VecDeque::new(), 0u8);
            for (send, count) in steps {
                if send {
                    let bytes: Vec<u8> =
                        (0..count).map(|n| next.wrapping_add(n.try_into().unwrap())).collect();
                    let sent = sender.send(&bytes).unwrap();
                    prop_assert_eq!(sent, count.min(32 - model.len()));
                    model.extend(&bytes[..sent]);
                    next = next.wrapping_add(sent.try_into().unwrap());
                } else {
                    let mut bytes = vec![0; count];
                    let received = receiver.receive(&mut bytes).unwrap();
                    prop_assert_eq!(received, count.min(model.len()));
                    let expected: Vec<u8> = model.drain(..received).collect();
                    prop_assert_eq!(&bytes[..received], expected);
                }
            }
        }

        #[test]
        fn a_peer_that_writes_all_indices_does_no_harm(
            writes in proptest::collection::vec((any::<u32>(), any::<u32>()), 1..20),
        ) {
            let (page, mut sender, mut receiver) = ring(0);
            for (producer, consumer) in writes {
                page.store_u32(0, producer, Ordering::Relaxed);
                page.store_u32(4, consumer, Ordering::Relaxed);
                let (before, mut bytes) = (receiver.consumer, [0; 100]);
                match receiver.receive(&mut bytes) {
                    Ok(count) => prop_assert!(count <= 32),
                    Err(BadIndex) => prop_assert_eq!(before, receiver.consumer),
                }
                if let Ok(count) = sender.send(&bytes) {
                    prop_assert!(count <= 32);
                }
            }
        }
    }

    #[test]
    fn our_own_index_is_not_read_back() {
        let (page, mut sender, mut receiver) = ring(5);
        sender.send(b"hello").unwrap();
        page.store_u32(4, 7, Ordering::Relaxed);
        let mut bytes = [0; 8];
        assert_eq!(receiver.receive(&mut bytes), Ok(5));
        assert_eq!(&bytes[..5], b"hello");
        page.store_u32(0, 5 + 33 + 5, Ordering::Relaxed);
        assert_eq!(receiver.receive(&mut bytes), Err(BadIndex));
    }
}
