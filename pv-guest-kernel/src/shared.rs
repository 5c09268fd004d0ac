//! Pages that somebody else writes at the same time: rings, granted and foreign memory.
//!
//! Such memory is never a Rust reference. It is read and written by atomic accesses and by
//! copies, and what was read is a value that cannot change any more.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use abi::hvm::Index;
use abi::{DomId, Errno, Gfn, PAGE_SIZE};

use crate::hypercall;
use crate::memory::{OutOfMemory, Page, Pages};

/// What keeps a page in place.
type Owner = Arc<dyn Any + Send + Sync>;

/// A page that another domain, or a device, may access at any time. Clones are the same page,
/// which lives (stays allocated, or mapped) as long as one of them does.
///
/// Offsets are this program's own, never a peer's: all methods panic if an access would leave the
/// page or is not aligned.
#[derive(Clone)]
pub struct SharedPage {
    start: NonNull<u8>,
    /// What keeps the page in place.
    _owner: Owner,
}

// SAFETY: memory that others write at any time is accessed by atomics and opaque copies only, so
// that it makes no difference whether another domain or another vCPU of this one does; the owner
// can be dropped anywhere.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedPage").field(&self.start).finish()
    }
}

impl From<Page> for SharedPage {
    fn from(page: Page) -> SharedPage {
        let start = page.as_ptr();
        // SAFETY: the page is one page of memory, and stays ours as long as it is owned.
        unsafe { SharedPage::new(start, Arc::new(page)) }
    }
}

macro_rules! accessors {
    ($($load:ident, $store:ident, $type:ty, $atomic:ty;)*) => {$(
        /// Reads the number at `offset`.
        pub fn $load(&self, offset: usize, order: Ordering) -> $type {
            let place = self.place(offset, size_of::<$type>()).cast::<$atomic>();
            // SAFETY: in the page, aligned; the reference is to an atomic, which others may write.
            unsafe { place.as_ref() }.load(order)
        }

        /// Writes the number at `offset`.
        pub fn $store(&self, offset: usize, value: $type, order: Ordering) {
            let place = self.place(offset, size_of::<$type>()).cast::<$atomic>();
            // SAFETY: in the page, aligned; the reference is to an atomic, which others may write.
            unsafe { place.as_ref() }.store(value, order)
        }
    )*};
}

impl SharedPage {
    /// Wraps a page that `owner` keeps in place.
    ///
    /// # Safety
    /// The page must be mapped memory, and no references to it exist, as long as `owner` lives.
    pub unsafe fn new(start: NonNull<u8>, owner: Owner) -> SharedPage {
        assert!(start.addr().get().is_multiple_of(PAGE_SIZE));
        SharedPage { start, _owner: owner }
    }

    /// A fresh page of zeroes, to be shared.
    ///
    /// # Errors
    /// If the heap is exhausted.
    pub fn allocate() -> Result<SharedPage, OutOfMemory> {
        Page::new().map(SharedPage::from)
    }

    /// Fresh pages of zeroes that lie one after the other. None of them is free before all are.
    ///
    /// # Errors
    /// If the heap is exhausted, or `count` is zero.
    pub fn allocate_run(count: usize) -> Result<Vec<SharedPage>, OutOfMemory> {
        let pages = Arc::new(Pages::new(count)?);
        let page = |index| {
            // SAFETY: one of the pages, all of which stay ours as long as they are owned.
            unsafe { SharedPage::new(pages.as_ptr().add(index * PAGE_SIZE), pages.clone()) }
        };
        Ok((0..count).map(page).collect())
    }

    /// The page that the toolstack named in a parameter of this domain, if it named one.
    ///
    /// # Errors
    /// What the monitor answers.
    pub fn from_parameter(index: Index) -> Result<Option<SharedPage>, Errno> {
        let frame = hypercall::hvm::parameter(DomId::SELF, index)?;
        // Xen says "later" by all ones; such a domain has no store or console yet.
        if frame == 0 || frame == u64::MAX {
            return Ok(None);
        }
        let address = Gfn(frame).address().ok_or(Errno::EINVAL)?;
        let address = usize::try_from(address).map_err(|_| Errno::EINVAL)?;
        let start = NonNull::new(core::ptr::with_exposed_provenance_mut(address));
        // SAFETY: the toolstack put the page outside of what it calls RAM, for this use only, and
        // everything that it may name is mapped as normal memory.
        Ok(start.map(|start| unsafe { SharedPage::new(start, Arc::new(())) }))
    }

    /// The page's guest frame number.
    pub fn gfn(&self) -> Gfn {
        Gfn::containing(self.start.addr().get() as u64)
    }

    /// The page's first byte, for a driver that hands it to a device or builds a ring in it.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    fn place(&self, offset: usize, size: usize) -> NonNull<u8> {
        assert!(offset < PAGE_SIZE && size <= PAGE_SIZE - offset, "access leaves the page");
        assert!(offset.is_multiple_of(size), "access is not aligned");
        // SAFETY: within the page.
        unsafe { self.start.add(offset) }
    }

    accessors! {
        load_u8, store_u8, u8, AtomicU8;
        load_u16, store_u16, u16, AtomicU16;
        load_u32, store_u32, u32, AtomicU32;
        load_u64, store_u64, u64, AtomicU64;
    }

    /// Writes `value` at `offset` and returns what was there.
    pub fn swap_u64(&self, offset: usize, value: u64, order: Ordering) -> u64 {
        let place = self.place(offset, size_of::<u64>()).cast::<AtomicU64>();
        // SAFETY: as for the accessors.
        unsafe { place.as_ref() }.swap(value, order)
    }

    /// Clears the bits that are not in `mask` and returns what was there.
    pub fn fetch_and_u64(&self, offset: usize, mask: u64, order: Ordering) -> u64 {
        let place = self.place(offset, size_of::<u64>()).cast::<AtomicU64>();
        // SAFETY: as for the accessors.
        unsafe { place.as_ref() }.fetch_and(mask, order)
    }

    /// Sets the bits of `mask` and returns what was there.
    pub fn fetch_or_u64(&self, offset: usize, mask: u64, order: Ordering) -> u64 {
        let place = self.place(offset, size_of::<u64>()).cast::<AtomicU64>();
        // SAFETY: as for the accessors.
        unsafe { place.as_ref() }.fetch_or(mask, order)
    }

    /// Writes `new` if `current` is there, with acquire and release order.
    ///
    /// # Errors
    /// What is there instead.
    pub fn compare_exchange_u16(&self, offset: usize, current: u16, new: u16) -> Result<u16, u16> {
        let place = self.place(offset, size_of::<u16>()).cast::<AtomicU16>();
        // SAFETY: as for the accessors.
        unsafe { place.as_ref() }.compare_exchange(
            current,
            new,
            Ordering::AcqRel,
            Ordering::Acquire,
        )
    }

    /// Copies bytes out of the page.
    pub fn read_bytes(&self, offset: usize, bytes: &mut [u8]) {
        assert!(bytes.len() <= PAGE_SIZE.saturating_sub(offset), "access leaves the page");
        // SAFETY: in the page, and private memory cannot overlap it. A peer that writes meanwhile
        // tears the bytes, which are plain data; the call keeps the compiler from reading again.
        unsafe { copy(self.start.as_ptr().add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Copies bytes from another page.
    pub fn copy_from(&self, offset: usize, source: &SharedPage, from: usize, length: usize) {
        assert!(length <= PAGE_SIZE.saturating_sub(offset), "access leaves the page");
        assert!(length <= PAGE_SIZE.saturating_sub(from), "access leaves the page");
        assert!(self.start != source.start, "a page is copied to itself");
        // SAFETY: in the pages, which do not overlap and of which nobody has a reference. Bytes that
        // a peer writes meanwhile are torn, but plain data.
        unsafe { copy(source.start.as_ptr().add(from), self.start.as_ptr().add(offset), length) }
    }

    /// Copies bytes into the page.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        assert!(bytes.len() <= PAGE_SIZE.saturating_sub(offset), "access leaves the page");
        // SAFETY: in the page, and private memory cannot overlap it.
        unsafe { copy(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len()) }
    }
}

/// A copy that the compiler can neither look into nor repeat.
///
/// # Safety
/// As for [`core::ptr::copy_nonoverlapping`].
#[inline(never)]
pub(crate) unsafe fn copy(source: *const u8, destination: *mut u8, length: usize) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(source, destination, length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_the_same_page() {
        let page = SharedPage::allocate().unwrap();
        let other = page.clone();
        page.store_u32(8, 0x0403_0201, Ordering::Relaxed);
        drop(page);
        let mut bytes = [0; 4];
        other.read_bytes(8, &mut bytes);
        assert_eq!(u32::from_ne_bytes(bytes), 0x0403_0201);
        other.write_bytes(4092, &bytes);
        assert_eq!(other.load_u32(4092, Ordering::Relaxed), 0x0403_0201);
    }

    #[test]
    fn a_run_of_pages_has_no_gaps() {
        let pages = SharedPage::allocate_run(3).unwrap();
        let first = pages[0].gfn().0;
        assert!(pages.iter().zip(first..).all(|(page, gfn)| page.gfn().0 == gfn));
        pages[2].store_u8(4095, 7, Ordering::Relaxed);
        assert_eq!(pages[2].load_u8(4095, Ordering::Relaxed), 7);
        assert!(SharedPage::allocate_run(0).is_err());
    }

    #[test]
    #[should_panic(expected = "leaves the page")]
    fn an_access_beyond_the_page_panics() {
        SharedPage::allocate().unwrap().write_bytes(4090, &[0; 7]);
    }

    #[test]
    #[should_panic(expected = "not aligned")]
    fn a_misaligned_access_panics() {
        SharedPage::allocate().unwrap().load_u64(4, Ordering::Relaxed);
    }
}
