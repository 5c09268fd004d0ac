//! State that belongs to this vCPU.
//!
//! On the target there is one thread and nothing preempts it, so such state needs no lock; on the
//! host every test thread has its own. Cells inside give the mutability.

/// A value that only this vCPU touches. Declared by [`crate::vcpu_local!`].
#[cfg(target_os = "none")]
#[derive(Debug)]
pub struct VcpuLocal<T>(T);

// SAFETY: the kernel runs on one vCPU with interrupts masked: there is no second thread that
// could hold a reference, and no interrupt handler that touches such state.
#[cfg(target_os = "none")]
unsafe impl<T> Sync for VcpuLocal<T> {}

#[cfg(target_os = "none")]
impl<T> VcpuLocal<T> {
    /// Used by [`crate::vcpu_local!`].
    pub const fn new(value: T) -> VcpuLocal<T> {
        VcpuLocal(value)
    }

    /// Gives access to the value, as `std::thread::LocalKey::with` does on the host.
    pub fn with<R>(&'static self, access: impl FnOnce(&T) -> R) -> R {
        access(&self.0)
    }
}

/// Declares a static that belongs to this vCPU: `vcpu_local!(static NAME: Type = constant;)`.
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
