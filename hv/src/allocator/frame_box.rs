//! Values that live in frames of their own: the monitor has no heap.
//!
//! This is the one place in the allocator where a frame becomes a reference. What makes that
//! sound is that a frame of kind [`Kind::Private`] is never mapped for a guest and never handed
//! out again by [`FramePool::ram`]: the box is the only way to it.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use abi::{DomId, PAGE_SIZE};

use super::frame::{FramePool, Kind, OutOfFrames};
use super::ram::vouched;
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
