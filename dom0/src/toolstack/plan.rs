//! What a new domain will be, decided and checked before anything of it exists.

use alloc::{string::ToString, vec::Vec};
use core::ops::Range;

use abi::PAGE_SIZE;

use super::{
    config::DomainConfig,
    device_tree,
    error::Error,
    image::{Image, Segment},
    memory,
};
use crate::ramdisk::Ramdisk;

/// A domain's memory as it will be when it starts.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Guest-physical RAM.
    pub ram: Range<u64>,
    /// The kernel.
    pub image: Image<'a>,
    /// The device tree.
    pub tree: Vec<u8>,
    /// Where the device tree goes: the last pages of RAM, out of the kernel's way.
    pub tree_address: u64,
}

impl Plan<'_> {
    /// Decides what goes where.
    ///
    /// # Errors
    /// The kernel is missing or cannot be loaded; it does not fit together with its device tree.
    pub fn new(config: &DomainConfig, ramdisk: &Ramdisk) -> Result<Plan<'static>, Error> {
        let kernel = config.kernel.as_str();
        let file = ramdisk.kernel(kernel).ok_or_else(|| Error::UnknownKernel {
            name: kernel.to_string(),
            known: ramdisk.kernel_names().map(ToString::to_string).collect(),
        })?;
        let ram = memory::ram(config.memory);
        let image = Image::parse(file, &ram)
            .map_err(|error| Error::BadKernel { name: kernel.to_string(), error })?;
        // Its only variable text is the boot arguments.
        let tree = device_tree::build(&ram, config.max_vcpus(), &config.cmdline)
            .map_err(|_| Error::BadCmdline)?;
        let size = tree.len().next_multiple_of(PAGE_SIZE) as u64;
        match ram.end.checked_sub(size) {
            Some(tree_address) if tree_address >= image.end => {
                Ok(Plan { ram, image, tree, tree_address })
            }
            _ => Err(Error::MemoryTooSmall { memory: config.memory, kernel: kernel.to_string() }),
        }
    }

    /// Everything that is to be copied.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let tree = Segment { address: self.tree_address, bytes: &self.tree };
        let kernel = self.image.segments.iter();
        kernel.map(|&Segment { address, bytes }| Segment { address, bytes }).chain([tree])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An arm64 Image that wants this many bytes.
    fn kernel(size: u64) -> &'static [u8] {
        let mut file = vec![0; 128];
        file[16..24].copy_from_slice(&size.to_le_bytes());
        file[56..60].copy_from_slice(b"ARM\x64");
        file.leak()
    }

    fn plan(memory: u32, size: u64) -> Result<Plan<'static>, Error> {
        let ramdisk = Ramdisk::with_kernel("k", kernel(size));
        let text = format!("name = 'a'\nkernel = 'k'\nmemory = {memory}\ncmdline = 'quiet'");
        Plan::new(&DomainConfig::parse(&text, &[]).unwrap(), &ramdisk)
    }

    #[test]
    fn the_device_tree_lies_at_the_end_of_ram() {
        let plan = plan(4, 0x10_0000).unwrap();
        assert_eq!(plan.ram, 0x4000_0000..0x4040_0000);
        assert!(plan.tree_address.is_multiple_of(PAGE_SIZE as u64));
        let end = plan.tree_address + plan.tree.len() as u64;
        assert!(end <= plan.ram.end && plan.ram.end - end < PAGE_SIZE as u64);
        let addresses: Vec<u64> = plan.segments().map(|segment| segment.address).collect();
        assert_eq!(addresses, [plan.ram.start, plan.tree_address]);
    }

    #[test]
    fn a_kernel_that_leaves_no_room_is_refused() {
        assert!(plan(4, 0x40_0000 - 0x1000).is_ok());
        assert_eq!(
            plan(4, 0x40_0000 - 0xFFF).unwrap_err(),
            Error::MemoryTooSmall { memory: 4, kernel: "k".into() }
        );
        assert!(matches!(plan(4, 0x40_0001), Err(Error::BadKernel { .. })));
    }

    #[test]
    fn a_missing_kernel_is_told_with_those_there_are() {
        let ramdisk = Ramdisk::with_kernel("hello", kernel(4096));
        let config = DomainConfig::parse("name = 'a'\nkernel = 'linux'", &[]).unwrap();
        assert_eq!(
            Plan::new(&config, &ramdisk).unwrap_err(),
            Error::UnknownKernel { name: "linux".into(), known: vec!["hello".into()] }
        );
    }
}
