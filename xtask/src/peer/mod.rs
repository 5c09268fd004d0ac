//! Debian's Xen on the same QEMU, as the peer of Aurochs.
//!
//! [`Machine`] is a machine with Xen and the domains that Xen makes itself, [`Console`] what it says.
//! [`LinuxDom0`] is one whose dom0 is Debian's Linux, which creates each [`Domain`] with Xen's `xl`
//! and serves it by its own backends.

mod console;
mod dom0;
mod domain;
mod machine;

pub use console::{Console, log};
pub use dom0::{LinuxDom0, Report, Step};
pub use domain::Domain;
pub use machine::{Dom0, Guest, Machine};
