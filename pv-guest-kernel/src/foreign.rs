//! Other domains' memory, mapped by the privileged domain to build or to serve them.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;

use abi::{DomId, Errno, Gfn, PAGE_SIZE};

use crate::memory::Window;
use crate::shared::{self, SharedPage};
use crate::{hypercall, machine};

/// Frames of another domain, mapped one after the other. They are unmapped when the map and all
/// pages taken from it are gone.
#[derive(Debug, Clone)]
pub struct Map(Arc<Mapped>);

#[derive(Debug)]
struct Mapped {
    window: ManuallyDrop<Window>,
    /// Which of the pages are mapped; not all if mapping failed half-way.
    present: Vec<bool>,
}

impl Map {
    /// Maps these frames of `domain`.
    ///
    /// # Errors
    /// The first frame's that cannot be mapped; none is mapped then. `ENOSPC`: out of window.
    pub fn new(domain: DomId, frames: &[Gfn]) -> Result<Map, Errno> {
        let window = Window::reserve(frames.len())?;
        let places: Vec<Gfn> = (0..frames.len()).map(|index| window.gfn(index)).collect();
        let mut errors = vec![0; frames.len()];
        // SAFETY: the window is reserved: nothing is at those places.
        let result =
            unsafe { hypercall::memory::map_foreign(domain, frames, &places, &mut errors) };
        let present = errors.iter().map(|&error| result.is_ok() && error == 0).collect();
        // Unmaps what was mapped if something was not.
        let mapped = Mapped { window: ManuallyDrop::new(window), present };
        result?;
        for &error in &errors {
            Errno::check(i64::from(error))?;
        }
        Ok(Map(Arc::new(mapped)))
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.0.window.pages()
    }

    /// One of the pages; `index` must be less than [`Map::pages`].
    pub fn page(&self, index: usize) -> SharedPage {
        // SAFETY: the page is mapped as long as the map is kept.
        unsafe { SharedPage::new(self.0.window.page(index), self.0.clone()) }
    }

    /// Copies bytes to the mapped frames, which lie one after the other.
    ///
    /// # Errors
    /// `E2BIG` if they do not fit; nothing is written then.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        let size = self.pages().saturating_mul(PAGE_SIZE);
        if bytes.is_empty() {
            return Ok(());
        }
        if offset.checked_add(bytes.len()).is_none_or(|end| end > size) {
            return Err(Errno::E2BIG);
        }
        // SAFETY: within what is mapped, checked above; private memory is not in the window.
        unsafe {
            let destination = self.0.window.page(0).as_ptr().add(offset);
            shared::copy(bytes.as_ptr(), destination, bytes.len());
        }
        Ok(())
    }

    /// Makes what was written visible to a guest that starts with its caches off.
    pub fn clean_to_memory(&self) {
        if self.pages() > 0 {
            machine::clean_to_memory(self.0.window.page(0), self.pages() * PAGE_SIZE);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut failed = 0;
        for (index, _) in self.present.iter().enumerate().filter(|(_, present)| **present) {
            let gfn = self.window.gfn(index);
            // SAFETY: nobody holds the map or a page of it any more.
            let result = unsafe { hypercall::memory::remove_from_physmap(DomId::SELF, gfn) };
            failed += usize::from(result.is_err());
        }
        if failed == 0 {
            // SAFETY: dropped here only, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.window) };
        } else {
            // The addresses stay reserved: nothing else must be mapped there.
            log::error!("{failed} foreign frames stay mapped");
        }
    }
}
