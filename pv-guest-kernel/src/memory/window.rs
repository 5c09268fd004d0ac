//! Guest-physical space that holds nothing: where foreign and granted frames are mapped.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;

use abi::{Gfn, PAGE_SIZE};

/// Addresses at which no domain has memory of its own; mapped 1:1 as normal memory.
pub const WINDOW: Range<u64> = 0x20_0000_0000..0x30_0000_0000;

/// No gap in the window is large enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfWindow;

impl fmt::Display for OutOfWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of address space for mappings")
    }
}

impl core::error::Error for OutOfWindow {}

impl From<OutOfWindow> for abi::Errno {
    fn from(_: OutOfWindow) -> abi::Errno {
        abi::Errno::ENOSPC
    }
}

/// A reserved range of the window, owned. Nothing is mapped there until somebody does.
#[derive(Debug)]
pub struct Window {
    frames: Range<u64>,
}

impl Window {
    /// Reserves this many pages.
    ///
    /// # Errors
    /// If no gap is large enough.
    pub fn reserve(pages: usize) -> Result<Window, OutOfWindow> {
        let pages = u64::try_from(pages).map_err(|_| OutOfWindow)?;
        let frames = RESERVED.with(|reserved| reserved.borrow_mut().reserve(pages))?;
        Ok(Window { frames })
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        usize::try_from(self.frames.end - self.frames.start).unwrap_or(usize::MAX)
    }

    /// Guest frame number of page `index`, which must be less than [`Window::pages`].
    pub fn gfn(&self, index: usize) -> Gfn {
        assert!(index < self.pages(), "page is not in the window");
        Gfn(self.frames.start + index as u64)
    }

    /// Where page `index` is, once something is mapped there.
    pub fn page(&self, index: usize) -> NonNull<u8> {
        let address = self.gfn(index).0 as usize * PAGE_SIZE;
        // The window does not begin at zero, so this is never replaced.
        NonNull::new(core::ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        RESERVED.with(|reserved| reserved.borrow_mut().release(&self.frames));
    }
}

crate::vcpu_local! {
    static RESERVED: RefCell<Reserved> = RefCell::new(Reserved(Vec::new()));
}

/// The reserved ranges, in frames, ordered and disjoint.
#[derive(Debug)]
struct Reserved(Vec<Range<u64>>);

impl Reserved {
    /// First fit.
    fn reserve(&mut self, pages: u64) -> Result<Range<u64>, OutOfWindow> {
        let (mut start, limit) = (Gfn::containing(WINDOW.start).0, Gfn::containing(WINDOW.end).0);
        let mut position = 0;
        for taken in &self.0 {
            if taken.start - start >= pages {
                break;
            }
            (start, position) = (taken.end, position + 1);
        }
        let end = start.checked_add(pages).filter(|&end| end <= limit).ok_or(OutOfWindow)?;
        self.0.insert(position, start..end);
        Ok(start..end)
    }

    fn release(&mut self, frames: &Range<u64>) {
        self.0.retain(|taken| taken != frames);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reservations_are_disjoint_and_gaps_are_used_again(
            steps in prop::collection::vec((1u64..50, any::<prop::sample::Index>(), any::<bool>()), 1..80)
        ) {
            let mut reserved = Reserved(Vec::new());
            let mut held: Vec<Range<u64>> = Vec::new();
            for (pages, victim, release) in steps {
                if release && !held.is_empty() {
                    let range = held.swap_remove(victim.index(held.len()));
                    reserved.release(&range);
                } else {
                    held.push(reserved.reserve(pages).unwrap());
                }
                prop_assert_eq!(reserved.0.len(), held.len());
                for pair in reserved.0.windows(2) {
                    prop_assert!(pair[0].end <= pair[1].start);
                }
            }
            for range in held {
                reserved.release(&range);
            }
            prop_assert!(reserved.0.is_empty());
        }
    }

    #[test]
    fn a_window_is_given_back_on_drop() {
        let first = Window::reserve(4).unwrap().gfn(0);
        assert_eq!(Window::reserve(2).unwrap().gfn(0), first);
        assert_eq!(first, Gfn::containing(WINDOW.start));
    }

    #[test]
    fn too_large_a_window_is_refused() {
        assert_eq!(Window::reserve(usize::MAX).unwrap_err(), OutOfWindow);
        let all = Gfn::containing(WINDOW.end - WINDOW.start).0 as usize;
        let whole = Window::reserve(all).unwrap();
        assert_eq!(Window::reserve(1).unwrap_err(), OutOfWindow);
        drop(whole);
    }
}
