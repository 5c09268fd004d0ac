//! What crosses a border: numbers, layouts and protocols shared by the monitor, the privileged
//! domain and the guests.
//!
//! Everything here is Xen's arm64 guest ABI unless a module says otherwise ([`domctl`] and
//! [`sysctl`] keep Xen's command numbers but have layouts of their own, as Xen does not promise
//! theirs either; [`control`] is spoken with the host alone). Each module names the public Xen header that it restates. Layouts are checked
//! at compile time with [`layout!`]; byte conversions are safe through `zerocopy`.
//!
//! This crate depends on no other room of the project.

#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "device-tree-builder")]
extern crate alloc;

pub mod block;
pub mod console;
pub mod control;
pub mod device_tree;
pub mod domctl;
pub mod entropy;
pub mod errno;
pub mod event;
pub mod grant;
pub mod guest_map;
pub mod hvm;
pub mod hypercall;
mod ids;
pub mod memory;
pub mod net;
pub mod psci;
pub mod ring;
pub mod sched;
pub mod shared_info;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod xenbus;
pub mod xenstore;

pub use errno::Errno;
pub use ids::{DomId, Gfn, GrantRef, Port, VcpuId};

/// Size in bytes of the ABI's page, whatever granule a guest uses for its own tables.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// Asserts at compile time the size of a structure and the offsets of its fields.
///
/// `layout!(Type, size, field @ offset, ...)`
#[macro_export]
macro_rules! layout {
    ($type:ty, $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}

/// Declares a `u32`-valued command enumeration with a checked conversion from the raw number.
#[macro_export]
macro_rules! numbers {
    ($(#[$meta:meta])* $vis:vis enum $name:ident : $raw:ty {
        $($(#[$vmeta:meta])* $variant:ident = $value:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr($raw)]
        $vis enum $name { $($(#[$vmeta])* $variant = $value),* }

        impl $name {
            /// The variant with this number, or `None` if it names nothing here.
            pub const fn from_raw(raw: $raw) -> Option<Self> {
                match raw { $($value => Some(Self::$variant),)* _ => None }
            }
            /// The number that crosses the border.
            pub const fn raw(self) -> $raw { self as $raw }
        }
    };
}
