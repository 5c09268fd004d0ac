//! The domain's memory: the heap, whole pages out of it, and guest-physical space outside of it.

pub(crate) mod balloon;
#[cfg(any(target_os = "none", test))]
pub(crate) mod free;
#[cfg(target_os = "none")]
pub(crate) mod heap;
mod window;

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::fmt;
use core::ptr::NonNull;

use abi::{Gfn, PAGE_SIZE};

pub use window::{OutOfWindow, WINDOW, Window};

/// The heap has no room for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for OutOfMemory {}

impl From<OutOfMemory> for abi::Errno {
    fn from(_: OutOfMemory) -> abi::Errno {
        abi::Errno::ENOMEM
    }
}

/// One page of this domain's memory, owned.
#[derive(Debug)]
pub struct Page(Pages);

impl Page {
    /// A page of zeroes.
    ///
    /// # Errors
    /// If the heap is exhausted.
    pub fn new() -> Result<Page, OutOfMemory> {
        Pages::new(1).map(Page)
    }

    /// Its guest frame number.
    pub fn gfn(&self) -> Gfn {
        self.0.gfn()
    }

    /// Its first byte.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.0.as_ptr()
    }
}

/// Consecutive pages of this domain's memory, owned.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the pages are owned, and nothing is accessed through a reference to this.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// `count` pages of zeroes, which must not be zero.
    ///
    /// # Errors
    /// If the heap is exhausted.
    pub fn new(count: usize) -> Result<Pages, OutOfMemory> {
        let size = count.checked_mul(PAGE_SIZE).filter(|&size| size > 0).ok_or(OutOfMemory)?;
        let layout = Layout::from_size_align(size, PAGE_SIZE).map_err(|_| OutOfMemory)?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(OutOfMemory)?;
        Ok(Pages { start, layout })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.layout.size() / PAGE_SIZE
    }

    /// Guest frame number of the first. Memory is mapped 1:1.
    pub fn gfn(&self) -> Gfn {
        Gfn::containing(self.start.addr().get() as u64)
    }

    /// The first byte.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody has it any more.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Bytes of the heap that are free.
fn heap_spare() -> usize {
    let (used, all) = heap_usage();
    all.saturating_sub(used)
}

/// Bytes of the heap that are in use, and in all. Zero on the host.
pub fn heap_usage() -> (usize, usize) {
    #[cfg(target_os = "none")]
    return heap::usage();
    #[cfg(not(target_os = "none"))]
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_aligned_zero_and_counted() {
        let pages = Pages::new(3).unwrap();
        assert_eq!(pages.count(), 3);
        assert_eq!(pages.as_ptr().addr().get() % PAGE_SIZE, 0);
        // SAFETY: three pages, owned.
        let bytes = unsafe { core::slice::from_raw_parts(pages.as_ptr().as_ptr(), 3 * PAGE_SIZE) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn no_pages_or_too_many_are_refused() {
        assert_eq!(Pages::new(0).unwrap_err(), OutOfMemory);
        assert_eq!(Pages::new(usize::MAX / 2).unwrap_err(), OutOfMemory);
    }
}
