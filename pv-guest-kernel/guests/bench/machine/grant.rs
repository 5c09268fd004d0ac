//! Batches for the grant table that are made once and used again and again.

use alloc::vec;
use alloc::vec::Vec;

use pv_guest_kernel::abi::grant::{
    Copy, CopyEnd, CopyFlags, MapFlags, MapGrantRef, Status, UnmapGrantRef,
};
use pv_guest_kernel::abi::{DomId, Errno, GrantRef, PAGE_SIZE};
use pv_guest_kernel::hypercall::grant_table;
use pv_guest_kernel::memory::Window;
use pv_guest_kernel::shared::SharedPage;

use crate::report::Failure;

/// Copies from one of this domain's grants, all to the same page of its own.
#[derive(Debug)]
pub struct Copies {
    elements: Vec<Copy>,
    destination: SharedPage,
}

impl Copies {
    /// Prepares `count` copies of `length` bytes each, at most a page.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(reference: GrantRef, length: usize, count: usize) -> Result<Copies, Errno> {
        let destination = SharedPage::allocate()?;
        let end = |frame| CopyEnd { frame, domid: DomId::SELF, ..Default::default() };
        let element = Copy {
            source: end(reference.0.into()),
            dest: end(destination.gfn().0),
            len: length.min(PAGE_SIZE) as u16,
            flags: CopyFlags::SOURCE_GREF.bits(),
            ..Default::default()
        };
        Ok(Copies { elements: vec![element; count], destination })
    }

    /// Makes them, in one call.
    #[inline(always)]
    pub fn make(&mut self) -> Result<(), Errno> {
        // SAFETY: the page is for this use only.
        unsafe { grant_table::copy(&mut self.elements) }
    }

    /// Whether each was made.
    pub fn check(&self) -> Result<(), Failure> {
        self.elements.iter().try_for_each(|element| okay(element.status))
    }

    /// The last byte that the last of them wrote.
    pub fn last_byte(&self) -> u8 {
        let length = self.elements.last().map_or(0, |element| usize::from(element.len));
        let mut byte = [0];
        self.destination.read_bytes(length.saturating_sub(1), &mut byte);
        byte[0]
    }
}

/// Maps another domain's grant, and unmaps it.
#[derive(Debug)]
pub struct Remapping {
    /// What is mapped there comes and goes.
    _window: Window,
    map: [MapGrantRef; 1],
    unmap: [UnmapGrantRef; 1],
}

impl Remapping {
    /// Reserves a place.
    ///
    /// # Errors
    /// There is none.
    pub fn new(granter: DomId, reference: GrantRef) -> Result<Remapping, Errno> {
        let window = Window::reserve(1)?;
        let host_addr = window.page(0).addr().get() as u64;
        let flags = MapFlags::HOST_MAP.bits();
        let map = MapGrantRef { host_addr, flags, reference, dom: granter, ..Default::default() };
        let unmap = UnmapGrantRef { host_addr, ..Default::default() };
        Ok(Remapping { _window: window, map: [map], unmap: [unmap] })
    }

    /// Maps it, and unmaps it.
    #[inline(always)]
    pub fn make(&mut self) -> Result<(), Errno> {
        // SAFETY: the place is reserved, so nothing is there; nobody uses the mapping.
        unsafe {
            grant_table::map(&mut self.map)?;
            self.unmap[0].handle = self.map[0].handle;
            grant_table::unmap(&mut self.unmap)
        }
    }

    /// Whether both were done.
    pub fn check(&self) -> Result<(), Failure> {
        okay(self.map[0].status)?;
        okay(self.unmap[0].status)
    }
}

fn okay(status: i16) -> Result<(), Failure> {
    if status == Status::Okay.raw() { Ok(()) } else { Err(Failure::Status(status)) }
}
