//! Values that live in frames of their own: the monitor has no heap.
//!
//! This is the one place in the allocator where a frame becomes a reference. What makes that
//! sound is that a frame of kind [`Kind::Private`] is never mapped for a guest and never handed
//! out again by [`FramePool::ram`]: the box is the only way to it.

use core::fmt;
use core::ops::{Deref, DerefMut, Range};
use core::ptr::NonNull;

use abi::{DomId, PAGE_SIZE};

use super::frame::{FramePool, Kind, OutOfFrames};
use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// A value that owns the frames it lies in. They go back only through [`FrameBox::free`]:
/// dropping a box loses them.
#[must_use = "a dropped box loses its frames"]
pub struct FrameBox<T> {
    // Not a frame number: an optional box is then one word, and following it one instruction.
    value: NonNull<T>,
}

// SAFETY: a box is the only way to its value, as `Box` is.
unsafe impl<T: Send> Send for FrameBox<T> {}

impl<T> FrameBox<T> {
    /// log2 of the frames that one value takes.
    const ORDER: u8 = {
        assert!(size_of::<T>() > 0 && align_of::<T>() <= PAGE_SIZE);
        size_of::<T>().div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros() as u8
    };

    /// Moves `value` into frames that are charged to `owner`'s overhead.
    pub fn new(pool: &mut FramePool, owner: DomId, value: T) -> Result<Self, OutOfFrames> {
        let frame = pool.allocate(owner, Kind::Private, Self::ORDER)?;
        let pointer = NonNull::new(frame.pointer().cast::<T>()).ok_or(OutOfFrames::PoolEmpty)?;
        // SAFETY: the frames are ours alone (see the module), large and aligned enough (`ORDER`).
        unsafe { pointer.write(value) };
        Ok(FrameBox { value: pointer })
    }

    /// The first of its frames.
    fn frame(&self) -> RamFrame {
        // SAFETY: `new` got it from the pool.
        unsafe { vouched(Mfn::containing(self.value.as_ptr().expose_provenance() as u64)) }
    }

    /// Takes the value out and gives its frames back.
    pub fn free(self, pool: &mut FramePool) -> T {
        // SAFETY: the value was written by `new`; `self` is consumed, so it is read out once.
        let value = unsafe { self.value.read() };
        pool.release_block(self.frame(), Self::ORDER);
        value
    }
}

impl<T> Deref for FrameBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` wrote a value, and only this box leads to it.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for FrameBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; `&mut self` makes the access exclusive.
        unsafe { self.value.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for FrameBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

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
