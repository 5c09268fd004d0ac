//! The formats of what the machine is given: kernel images, the ramdisk, disks.

pub mod disk;
mod flat;
pub mod kernel;
mod ramdisk;
mod symbols;

pub use flat::{FlatImage, ImageKind};
pub use ramdisk::Ramdisk;
pub use symbols::Symbols;
