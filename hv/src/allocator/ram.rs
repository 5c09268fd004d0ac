//! Which of the machine's memory the monitor may manage: what the boot code vouches for.

use core::ops::Range;

use abi::PAGE_SIZE;

use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// A range of the machine's RAM that the monitor may manage.
#[derive(Debug, Clone)]
pub struct RamRange(Range<u64>);

impl RamRange {
    /// Vouches for the frames from `start` up to, not including, `end`.
    ///
    /// # Safety
    /// Each of them must satisfy [`RamFrame::new`].
    pub const unsafe fn new(start: Mfn, end: Mfn) -> Self {
        RamRange(start.0..end.0)
    }

    /// The frame numbers.
    pub fn mfns(&self) -> Range<u64> {
        self.0.clone()
    }

    /// Takes the first frames off the range for a table of `len` elements, or `None` if they do
    /// not fit.
    pub(super) fn carve<T: Copy>(&mut self, len: usize, fill: T) -> Option<&'static mut [T]> {
        const { assert!(align_of::<T>() <= PAGE_SIZE) };
        let frames = len.checked_mul(size_of::<T>())?.div_ceil(PAGE_SIZE) as u64;
        let start = self.0.start;
        let end = start.checked_add(frames).filter(|&end| end <= self.0.end)?;
        self.0.start = end;
        // SAFETY: the maker of the range vouched for its frames.
        let first = unsafe { RamFrame::new(Mfn(start)) }.pointer().cast::<T>();
        for index in 0..len {
            // SAFETY: `len` elements fit in the frames taken, which nothing else leads to now.
            unsafe { first.add(index).write(fill) };
        }
        // SAFETY: the elements were just initialised, and RAM stays mapped for ever.
        Some(unsafe { core::slice::from_raw_parts_mut(first, len) })
    }
}

/// The frame behind an entry of the pool's table.
///
/// # Safety
/// The frame must lie in a [`RamRange`] that the pool was given.
pub(super) unsafe fn vouched(mfn: Mfn) -> RamFrame {
    // SAFETY: the maker of the range vouched for its frames.
    unsafe { RamFrame::new(mfn) }
}
