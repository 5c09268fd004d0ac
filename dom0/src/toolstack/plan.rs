//! What a new domain will be, decided and checked before anything of it exists.

use alloc::{string::ToString, vec::Vec};
use core::ops::Range;

use abi::PAGE_SIZE;

use super::{
    config::DomainConfig,
    device_tree::{self, Named},
    error::Error,
    image::{Image, Segment},
    memory,
};
use crate::ramdisk::Ramdisk;

/// A domain's memory as it will be when it starts: the kernel at the start of RAM, and out of its
/// way, at the end, the initial ramdisk and the device tree, each in pages of its own.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Guest-physical RAM.
    pub ram: Range<u64>,
    /// The kernel.
    pub image: Image<'a>,
    /// The initial ramdisk.
    pub ramdisk: Option<Segment<'a>>,
    /// The device tree.
    pub tree: Vec<u8>,
    /// Where the device tree goes.
    pub tree_address: u64,
}

impl Plan<'_> {
    /// Decides what goes where.
    ///
    /// # Errors
    /// The kernel or the initial ramdisk is missing, or the kernel cannot be loaded; they do not
    /// fit together.
    pub fn new(config: &DomainConfig, files: &Ramdisk) -> Result<Plan<'static>, Error> {
        let kernel = config.kernel.as_str();
        let file = files.kernel(kernel).ok_or_else(|| Error::UnknownKernel {
            name: kernel.to_string(),
            known: files.kernel_names().map(ToString::to_string).collect(),
        })?;
        let ram = memory::ram(config.memory);
        let image = Image::parse(file, &ram)
            .map_err(|error| Error::BadKernel { name: kernel.to_string(), error })?;
        let ramdisk = ramdisk(config, files)?;
        let ramdisk_size = ramdisk.map_or(0, in_pages);

        // Its size does not depend on where the ramdisk lies.
        let tree_size = in_pages(&tree(config, &ram, ramdisk.map(|_| 0..0))?);
        let tail = tree_size.saturating_add(ramdisk_size);
        let start = match ram.end.checked_sub(tail) {
            Some(start) if start >= image.end => start,
            _ => {
                let needed = image.end.saturating_add(tail).saturating_sub(ram.start);
                return Err(Error::MemoryTooSmall {
                    memory: config.memory,
                    kernel: kernel.to_string(),
                    needed: needed.div_ceil(1 << 20),
                });
            }
        };
        let ramdisk = ramdisk.map(|bytes| Segment { address: start, bytes });
        let range = |part: &Segment<'_>| part.address..part.address + part.bytes.len() as u64;
        let tree = tree(config, &ram, ramdisk.as_ref().map(range))?;
        Ok(Plan { ram, image, ramdisk, tree, tree_address: start + ramdisk_size })
    }

    /// Everything that is to be copied.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let tree = Segment { address: self.tree_address, bytes: &self.tree };
        let loaded = self.image.segments.iter().chain(&self.ramdisk);
        loaded.map(|&Segment { address, bytes }| Segment { address, bytes }).chain([tree])
    }
}

/// The initial ramdisk that the domain file names.
fn ramdisk(config: &DomainConfig, files: &Ramdisk) -> Result<Option<&'static [u8]>, Error> {
    let Some(name) = config.ramdisk.as_deref() else { return Ok(None) };
    let unknown = || Error::UnknownRamdisk {
        name: name.to_string(),
        known: files.ramdisk_names().map(ToString::to_string).collect(),
    };
    files.ramdisk(name).map(Some).ok_or_else(unknown)
}

/// Its only variable text is the boot arguments.
fn tree(
    config: &DomainConfig,
    ram: &Range<u64>,
    ramdisk: Option<Range<u64>>,
) -> Result<Vec<u8>, Error> {
    let arguments = config.boot_arguments();
    let named = Named { hypervisor: config.enhanced.is_enabled(), uart: config.vuart.is_some() };
    device_tree::build(ram, config.max_vcpus(), &arguments, ramdisk, named)
        .map_err(|_| Error::BadCmdline)
}

/// Bytes of the pages that these take.
fn in_pages(bytes: impl AsRef<[u8]>) -> u64 {
    bytes.as_ref().len().next_multiple_of(PAGE_SIZE) as u64
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
    fn the_ramdisk_lies_before_the_device_tree_and_linux_is_told_where() {
        let files = Ramdisk::with_kernel("k", kernel(0x10_0000)).and_ramdisk("r", &[7; 5000]);
        let text = "name = 'a'\nkernel = 'k'\nramdisk = 'r'\nmemory = 4";
        let plan = Plan::new(&DomainConfig::parse(text, &[]).unwrap(), &files).unwrap();
        let Segment { address, bytes } = *plan.ramdisk.as_ref().unwrap();
        assert_eq!(address, plan.tree_address - 2 * PAGE_SIZE as u64);
        assert_eq!(bytes, [7; 5000]);
        let tree = fdt::Fdt::new(&plan.tree).unwrap();
        let end = tree.find_node("/chosen").unwrap().property("linux,initrd-end").unwrap();
        assert_eq!(end.value, (address + 5000).to_be_bytes());
        assert_eq!(plan.segments().count(), 3);
    }

    #[test]
    fn a_ramdisk_that_is_missing_or_too_large_is_told() {
        let files = Ramdisk::with_kernel("k", kernel(0x10_0000)).and_ramdisk("r", &[0; 0x30_0000]);
        let plan = |ramdisk: &str| {
            let text = format!("name = 'a'\nkernel = 'k'\nramdisk = '{ramdisk}'\nmemory = 4");
            Plan::new(&DomainConfig::parse(&text, &[]).unwrap(), &files).unwrap_err()
        };
        assert_eq!(plan("x"), Error::UnknownRamdisk { name: "x".into(), known: vec!["r".into()] });
        assert_eq!(plan("r"), Error::MemoryTooSmall { memory: 4, kernel: "k".into(), needed: 5 });
    }

    #[test]
    fn a_kernel_that_leaves_no_room_is_refused() {
        assert!(plan(4, 0x40_0000 - 0x1000).is_ok());
        assert_eq!(
            plan(4, 0x40_0000 - 0xFFF).unwrap_err(),
            Error::MemoryTooSmall { memory: 4, kernel: "k".into(), needed: 5 }
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
