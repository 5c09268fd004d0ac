//! The formats of what the machine is given: kernel images, ramdisks, disks.

pub mod disk;
mod flat;
mod initramfs;
pub mod kernel;
mod ramdisk;
mod symbols;

pub use flat::{FlatImage, ImageKind};
pub use initramfs::Initramfs;
pub use ramdisk::Ramdisk;
pub use symbols::Symbols;
