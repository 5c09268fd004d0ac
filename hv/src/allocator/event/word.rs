//! A word that the monitor and a guest change at the same time.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// A word that the monitor and a guest change at the same time. A trait, so that a model checker's
/// atomics can take the place of the machine's.
///
/// All accesses are sequentially consistent: one side clears a mask bit and then looks at the
/// pending bit, while the other sets the pending bit and then looks at the mask.
pub(super) trait SharedWord {
    /// What is in it.
    type Value;
    /// Reads it.
    fn load(&self) -> Self::Value;
    /// Writes it.
    fn store(&self, value: Self::Value);
    /// Writes it, and returns what it was.
    fn swap(&self, value: Self::Value) -> Self::Value;
    /// Sets bits, and returns what it was.
    fn set(&self, bits: Self::Value) -> Self::Value;
    /// Clears bits, and returns what it was.
    fn clear(&self, bits: Self::Value) -> Self::Value;
    /// Writes `new` if it still is `old`. Returns whether it was.
    fn replace(&self, old: Self::Value, new: Self::Value) -> bool;
}

macro_rules! shared_words {
    ($($atomic:ty: $value:ty;)*) => {$(
        impl SharedWord for $atomic {
            type Value = $value;

            #[inline(always)]
            fn load(&self) -> $value {
                self.load(SeqCst)
            }

            #[inline(always)]
            fn store(&self, value: $value) {
                self.store(value, SeqCst);
            }

            #[inline(always)]
            fn swap(&self, value: $value) -> $value {
                self.swap(value, SeqCst)
            }

            #[inline(always)]
            fn set(&self, bits: $value) -> $value {
                self.fetch_or(bits, SeqCst)
            }

            #[inline(always)]
            fn clear(&self, bits: $value) -> $value {
                self.fetch_and(!bits, SeqCst)
            }

            #[inline(always)]
            fn replace(&self, old: $value, new: $value) -> bool {
                self.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
            }
        }
    )*};
}

shared_words! {
    AtomicU8: u8;
    AtomicU32: u32;
    AtomicU64: u64;
}
