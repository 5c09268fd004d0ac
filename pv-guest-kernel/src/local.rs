//! State that belongs to vCPU 0, and state that every vCPU may use.
//!
//! This kernel has one thread of its own: the executor on vCPU 0, with interrupts masked. Its state
//! needs no lock; on the host every test thread has its own. Other vCPUs run what [`crate::smp`]
//! gives them, and may use only a [`VcpuShared`], the heap, and what the standard library's `Sync`
//! types guard.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::machine;

/// The vCPU on which the kernel's own thread runs.
pub(crate) const HOME: u32 = 0;

/// Whether this is the kernel's own thread. On the host each test's is.
#[inline]
pub(crate) fn at_home() -> bool {
    cfg!(not(target_os = "none")) || machine::vcpu() == HOME
}

/// Keeps what contains it on the vCPU where it was made: it is neither `Send` nor `Sync`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StaysHome(PhantomData<*const ()>);

impl StaysHome {
    /// Of what uses a [`crate::vcpu_local!`], say.
    pub(crate) const fn new() -> StaysHome {
        StaysHome(PhantomData)
    }
}

/// A value that only vCPU 0 touches. Declared by [`crate::vcpu_local!`].
#[cfg(target_os = "none")]
#[derive(Debug)]
pub struct VcpuLocal<T>(T);

// SAFETY: `with` lets nobody but vCPU 0 reach the value, which runs one thread with interrupts
// masked: no other thread could hold a reference, and no interrupt handler touches such state.
#[cfg(target_os = "none")]
unsafe impl<T> Sync for VcpuLocal<T> {}

#[cfg(target_os = "none")]
impl<T> VcpuLocal<T> {
    /// Used by [`crate::vcpu_local!`].
    pub const fn new(value: T) -> VcpuLocal<T> {
        VcpuLocal(value)
    }

    /// Gives access to the value, as `std::thread::LocalKey::with` does on the host.
    ///
    /// # Panics
    /// On another vCPU than vCPU 0.
    #[inline]
    pub fn with<R>(&'static self, access: impl FnOnce(&T) -> R) -> R {
        assert!(at_home(), "vCPU {} uses what belongs to vCPU {HOME}", machine::vcpu());
        access(&self.0)
    }
}

/// Declares a static that belongs to vCPU 0: `vcpu_local!(static NAME: Type = constant;)`.
/// It is used by `NAME.with(|value| ...)`.
#[macro_export]
macro_rules! vcpu_local {
    ($(#[$meta:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;) => {
        #[cfg(target_os = "none")]
        $(#[$meta])*
        $vis static $name: $crate::local::VcpuLocal<$type> = $crate::local::VcpuLocal::new($init);
        #[cfg(not(target_os = "none"))]
        std::thread_local! { $(#[$meta])* $vis static $name: $type = const { $init }; }
    };
}

/// A value that every vCPU may use, one at a time.
#[derive(Debug)]
pub struct VcpuShared<T> {
    value: spin::Mutex<T>,
    /// The vCPU that is using it; [`VcpuShared::NOBODY`] if none is.
    user: AtomicU32,
}

impl<T> VcpuShared<T> {
    const NOBODY: u32 = u32::MAX;

    /// Nobody uses it yet.
    pub const fn new(value: T) -> VcpuShared<T> {
        VcpuShared { value: spin::Mutex::new(value), user: AtomicU32::new(Self::NOBODY) }
    }

    /// Gives access to the value when no other vCPU has it any more. `None` if this one has: it is
    /// within `access` already, and tells of a panic there, say.
    pub fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> Option<R> {
        // A vCPU reads its own number here only if it wrote it itself.
        if self.user.load(Ordering::Relaxed) == machine::vcpu() {
            return None;
        }
        let mut value = self.value.lock();
        self.user.store(machine::vcpu(), Ordering::Relaxed);
        let result = access(&mut value);
        self.user.store(Self::NOBODY, Ordering::Relaxed);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_used_twice_at_a_time() {
        let shared = VcpuShared::new(1);
        let inner = shared.with(|value| {
            *value = 2;
            shared.with(|value| *value = 3)
        });
        assert_eq!(inner, Some(None));
        assert_eq!(shared.with(|value| *value), Some(2));
    }

    #[test]
    fn threads_take_turns() {
        let shared = VcpuShared::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        assert_eq!(shared.with(|value| *value += 1), Some(()));
                    }
                });
            }
        });
        assert_eq!(shared.with(|value| *value), Some(4000));
    }
}
