//! Turns a Rust program into a paravirtualized domain of Aurochs, or of Xen on arm64.
//!
//! A kernel names its main function with [`guest_main!`] and gets a heap, an async executor that
//! sleeps in WFI, events, grants, time and a console. It knows that it is a guest: after boot it
//! makes hypercalls and takes event interrupts, and touches no emulated device register.
//!
//! The kernel is one thread on vCPU 0; what the others do is in `smp`. Interrupts stay masked: the
//! [`executor`] looks for events between tasks and waits for them when nothing is ready. What
//! touches registers, page tables or assembly is in the `machine` module; everything else also runs
//! on the host, where the module `host` stands in for the monitor, so that drivers can be tested
//! there.

#![cfg_attr(target_os = "none", no_std)]
// Memory and hardware are touched in the modules that say so below, and nowhere else.
#![deny(unsafe_code)]

extern crate alloc;

pub mod block;
pub mod condition;
pub mod console;
pub mod device_tree;
pub mod entropy;
pub mod event;
#[cfg_attr(target_os = "none", expect(unsafe_code, reason = "tasks need not be Send"))]
pub mod executor;
#[expect(unsafe_code, reason = "maps and unmaps memory")]
pub mod foreign;
pub mod grant;
#[expect(unsafe_code, reason = "passes pointers to the monitor")]
pub mod hypercall;
pub mod interrupt;
#[cfg_attr(target_os = "none", expect(unsafe_code, reason = "lets only vCPU 0 in"))]
pub mod local;
#[cfg(target_os = "none")]
mod logger;
#[expect(unsafe_code, reason = "hardware")]
mod machine;
#[expect(unsafe_code, reason = "allocates and maps memory")]
pub mod memory;
#[cfg(feature = "network")]
pub mod network;
#[cfg(target_os = "none")]
mod panic;
pub mod power;
#[expect(unsafe_code, reason = "memory that others write")]
pub mod shared;
#[expect(unsafe_code, reason = "registers where the monitor announces events")]
pub mod smp;
#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "hands the RAM to the heap")]
mod start;
pub mod time;
pub mod xenbus;
pub mod xenstore;

pub use abi;
pub use device_tree::Environment;
#[cfg(not(target_os = "none"))]
pub use machine::host;

/// Names the kernel's main function: `async fn main(environment: &'static Environment)`.
///
/// The domain powers itself off when it returns.
#[macro_export]
macro_rules! guest_main {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn guest_main(environment: &'static $crate::Environment) -> $crate::executor::MainFuture {
            $crate::executor::main_future($main(environment))
        }
    };
}
