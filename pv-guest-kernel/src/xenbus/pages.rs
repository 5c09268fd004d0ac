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
}
