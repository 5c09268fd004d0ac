//! The memory of a ring of one or more pages.

use core::sync::atomic::Ordering;

use abi::PAGE_SIZE;
use abi::ring::{MAX_PAGES, SharedMemory};

use crate::shared::SharedPage;

/// Pages that count as one piece of memory, in this order.
#[derive(Debug, Clone)]
pub struct RingPages(heapless::Vec<SharedPage, MAX_PAGES>);

impl RingPages {
    /// The first [`MAX_PAGES`] of these; `None` if there is none.
    pub fn new(pages: impl IntoIterator<Item = SharedPage>) -> Option<RingPages> {
        let pages: heapless::Vec<_, MAX_PAGES> = pages.into_iter().take(MAX_PAGES).collect();
        (!pages.is_empty()).then_some(RingPages(pages))
    }
}

/// Offsets are the ring's own, never a peer's: one beyond the pages panics, as within a page.
impl SharedMemory for RingPages {
    fn pages(&self) -> usize {
        self.0.len()
    }
    fn load(&self, offset: usize) -> u32 {
        self.0[offset / PAGE_SIZE].load_u32(offset % PAGE_SIZE, Ordering::Relaxed)
    }
    fn store(&self, offset: usize, value: u32) {
        self.0[offset / PAGE_SIZE].store_u32(offset % PAGE_SIZE, value, Ordering::Relaxed);
    }
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        let (first, rest) = bytes.split_at_mut(bytes.len().min(PAGE_SIZE - offset % PAGE_SIZE));
        self.0[offset / PAGE_SIZE].read_bytes(offset % PAGE_SIZE, first);
        if !rest.is_empty() {
            self.0[offset / PAGE_SIZE + 1].read_bytes(0, rest);
        }
    }
    fn write(&self, offset: usize, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(PAGE_SIZE - offset % PAGE_SIZE));
        self.0[offset / PAGE_SIZE].write_bytes(offset % PAGE_SIZE, first);
        if !rest.is_empty() {
            self.0[offset / PAGE_SIZE + 1].write_bytes(0, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_words_lie_across_pages_alike() {
        let pages = (0..3).map(|_| SharedPage::allocate().unwrap());
        let pages = RingPages::new(pages).unwrap();
        let bytes: [u8; 112] = core::array::from_fn(|index| index as u8);
        for offset in [0, 4096 - 64, 8192 - 4, 8192, 12288 - 112] {
            pages.write(offset, &bytes);
            assert_eq!(pages.load(offset + 108), u32::from_ne_bytes([108, 109, 110, 111]));
            let mut copy = [0; 112];
            pages.read(offset, &mut copy);
            assert_eq!(copy, bytes);
        }
        assert!(RingPages::new([]).is_none());
    }
}
