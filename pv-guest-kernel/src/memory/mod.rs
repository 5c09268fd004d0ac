//! The domain's memory: the heap, whole pages out of it, and guest-physical space outside of it.

pub(crate) mod balloon;
#[cfg(any(target_os = "none", test))]
pub(crate) mod free;
#[cfg(target_os = "none")]
pub(crate) mod heap;
mod window;

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Gfn, PAGE_SIZE};

pub use window::{OutOfWindow, WINDOW, Window};

/// Where RAM ends at the latest that this kernel can use: it is mapped so far. Xen's and Aurochs'
/// toolstacks put the first 3 GiB of a guest's RAM before it.
pub(crate) const RAM_LIMIT: u64 = 4 << 30;

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

/// What RAM there is, with or without memory behind it now.
#[derive(Debug)]
pub(crate) struct Ram {
    bytes: AtomicU64,
    end: AtomicU64,
}

static RAM: Ram = Ram { bytes: AtomicU64::new(0), end: AtomicU64::new(0) };

/// What RAM there is.
pub(crate) fn ram() -> &'static Ram {
    &RAM
}

impl Ram {
    /// Notes a bank of it.
    pub(crate) fn add(&self, bank: &Range<u64>) {
        self.bytes.fetch_add(bank.end.saturating_sub(bank.start), Ordering::Relaxed);
        self.end.fetch_max(bank.end, Ordering::Relaxed);
    }

    /// How many pages.
    fn pages(&self) -> usize {
        (self.bytes.load(Ordering::Relaxed) / PAGE_SIZE as u64) as usize
    }

    /// The first address behind all of it.
    fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }
}

/// Whether RAM that begins at this address and ends within its 2 MiB could be used: it is mapped.
fn can_be_ram(address: u64) -> bool {
    address < RAM_LIMIT
}

/// Gives the heap RAM that came after boot.
///
/// # Safety
/// Memory is behind the range, and nothing else uses it, ever.
unsafe fn add_ram(range: &Range<u64>) {
    ram().add(range);
    #[cfg(target_os = "none")]
    // SAFETY: the caller's promise.
    unsafe {
        heap::add(range);
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
