//! What the toolstack says about this domain, read from its device tree.
//!
//! The tree is trusted: who writes it also wrote this kernel into memory.

use alloc::vec::Vec;
use core::ops::Range;
use core::str::FromStr;

use abi::device_tree::{CELL_SPI, HYPERVISOR_NODE};
use fdt::Fdt;
use fdt::node::{FdtNode, NodeProperty};
use thiserror::Error;

/// The virtual timer's place among the timer node's interrupts: after the two physical ones.
const VIRTUAL_TIMER: usize = 2;

/// The facts, from the device tree.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The kernel's command line.
    pub bootargs: &'static str,
    /// The ramdisk; boot fills this in.
    pub initrd: Option<&'static [u8]>,
    /// Banks of RAM, guest-physical.
    pub memory: Vec<Range<u64>>,
    /// Virtual CPUs. The first runs the kernel; see [`crate::smp`] for the others.
    pub vcpus: usize,
    /// Where grant-table frames are to be mapped.
    pub grant_window: Range<u64>,
    /// virtio-mmio transports, by address (privileged domain).
    pub virtio: Vec<MmioDevice>,
    /// The interrupt controller.
    pub interrupt_controller: InterruptController,
    /// The private interrupts that this kernel takes.
    pub interrupts: PrivateInterrupts,
}

/// A device with registers in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmioDevice {
    /// Address of its registers.
    pub base: u64,
    /// Their bytes.
    pub size: u64,
    /// Its interrupt (INTID).
    pub intid: u32,
}

/// A GICv3's register frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterruptController {
    /// Distributor.
    pub distributor: u64,
    /// First redistributor.
    pub redistributor: u64,
}

/// INTIDs of interrupts that each vCPU has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrivateInterrupts {
    /// Announces events.
    pub events: u32,
    /// The virtual timer's.
    pub timer: u32,
}

/// What is missing from a device tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DeviceTreeError {
    /// It is not one.
    #[error("not a device tree")]
    NotADeviceTree,
    /// It has no such node, or the node lacks its `reg`.
    #[error("device tree has no usable {0} node")]
    Missing(&'static str),
}

/// The name of a command-line argument whose value makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}= makes no sense")]
pub struct InvalidArgument(pub &'static str);

impl Environment {
    /// Reads a device tree.
    ///
    /// # Errors
    /// If a node that every domain has is missing.
    pub fn from_device_tree(blob: &'static [u8]) -> Result<Environment, DeviceTreeError> {
        let tree = parse(blob)?;
        let missing = DeviceTreeError::Missing;
        let memory: Vec<Range<u64>> = memory(&tree).collect();
        if memory.is_empty() {
            return Err(missing("memory"));
        }
        Ok(Environment {
            bootargs: chosen(&tree, "bootargs").and_then(|text| text.as_str()).unwrap_or(""),
            initrd: None,
            memory,
            vcpus: vcpus(&tree),
            grant_window: grant_window(&tree).ok_or(missing(HYPERVISOR_NODE))?,
            virtio: virtio(&tree),
            interrupt_controller: interrupt_controller(&tree)
                .ok_or(missing("interrupt-controller"))?,
            interrupts: PrivateInterrupts {
                events: child(&tree, HYPERVISOR_NODE)
                    .and_then(|node| intid(node, 0))
                    .ok_or(missing(HYPERVISOR_NODE))?,
                timer: tree
                    .find_compatible(&["arm,armv8-timer"])
                    .and_then(|node| intid(node, VIRTUAL_TIMER))
                    .ok_or(missing("timer"))?,
            },
        })
    }

    /// The value of `name=value` on the command line; of several, the last.
    pub fn argument(&self, name: &str) -> Option<&'static str> {
        let words = self.bootargs.split_ascii_whitespace().rev();
        words.filter_map(|word| word.split_once('=')).find(|&(key, _)| key == name).map(|(_, v)| v)
    }

    /// The value of `name=value` on the command line, of a type; `default` without one.
    ///
    /// # Errors
    /// If there is one that is not of this type.
    pub fn parsed<T: FromStr>(&self, name: &'static str, default: T) -> Result<T, InvalidArgument> {
        match self.argument(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| InvalidArgument(name)),
        }
    }

    /// Bytes of RAM.
    pub fn memory_size(&self) -> u64 {
        self.memory.iter().map(|bank| bank.end - bank.start).sum()
    }
}

/// Where the monitor and the toolstack put things, as far as boot must know before the heap.
pub(crate) fn parse(blob: &'static [u8]) -> Result<Fdt<'static>, DeviceTreeError> {
    Fdt::new(blob).map_err(|_| DeviceTreeError::NotADeviceTree)
}

/// The banks of RAM.
pub(crate) fn memory<'a>(tree: &'a Fdt<'static>) -> impl Iterator<Item = Range<u64>> + 'a {
    let is_memory = |node: &FdtNode<'_, '_>| {
        node.property("device_type").and_then(|kind| kind.as_str()) == Some("memory")
    };
    tree.all_nodes().filter(is_memory).flat_map(registers)
}

/// The register ranges of all devices; not memory, nor what the monitor keeps for the domain.
#[cfg(any(target_os = "none", test))]
pub(crate) fn devices<'a>(tree: &'a Fdt<'static>) -> impl Iterator<Item = Range<u64>> + 'a {
    let is_device = |node: &FdtNode<'_, '_>| {
        node.property("device_type").is_none()
            && node.name != HYPERVISOR_NODE
            && node.property("compatible").is_some()
    };
    tree.all_nodes().filter(is_device).flat_map(registers)
}

/// Where grant-table frames are to be mapped.
pub(crate) fn grant_window(tree: &Fdt<'static>) -> Option<Range<u64>> {
    registers(child(tree, HYPERVISOR_NODE)?).next()
}

/// Where the ramdisk is.
#[cfg(any(target_os = "none", test))]
pub(crate) fn initrd_range(tree: &Fdt<'static>) -> Option<Range<u64>> {
    let start = number(chosen(tree, "linux,initrd-start")?.value)?;
    let end = number(chosen(tree, "linux,initrd-end")?.value)?;
    (start < end).then_some(start..end)
}

fn child<'a>(tree: &'a Fdt<'static>, name: &str) -> Option<FdtNode<'a, 'static>> {
    tree.find_node("/")?.children().find(|node| node.name.split('@').next() == Some(name))
}

fn chosen(tree: &Fdt<'static>, name: &str) -> Option<NodeProperty<'static>> {
    child(tree, "chosen")?.property(name)
}

/// Lists what `reg` holds; nothing for nodes whose `reg` is not an address range (CPUs).
fn registers(node: FdtNode<'_, 'static>) -> impl Iterator<Item = Range<u64>> {
    node.reg().into_iter().flatten().filter_map(|region| {
        let start = region.starting_address.addr() as u64;
        let size = region.size.filter(|&size| size > 0)? as u64;
        Some(start..start.checked_add(size)?)
    })
}

/// How many vCPUs there are.
pub(crate) fn vcpus(tree: &Fdt<'static>) -> usize {
    let is_cpu = |node: &FdtNode<'_, '_>| {
        node.property("device_type").and_then(|kind| kind.as_str()) == Some("cpu")
    };
    tree.all_nodes().filter(is_cpu).count()
}

fn interrupt_controller(tree: &Fdt<'static>) -> Option<InterruptController> {
    let mut frames = registers(tree.find_compatible(&["arm,gic-v3"])?);
    let distributor = frames.next()?.start;
    Some(InterruptController { distributor, redistributor: frames.next()?.start })
}

fn virtio(tree: &Fdt<'static>) -> Vec<MmioDevice> {
    let is_virtio = |node: &FdtNode<'_, '_>| {
        node.compatible().is_some_and(|names| names.all().any(|name| name == "virtio,mmio"))
    };
    let mut devices: Vec<MmioDevice> =
        tree.all_nodes().filter(is_virtio).filter_map(mmio_device).collect();
    devices.sort_by_key(|device| device.base);
    devices
}

fn mmio_device(node: FdtNode<'_, 'static>) -> Option<MmioDevice> {
    let registers = registers(node).next()?;
    Some(MmioDevice {
        base: registers.start,
        size: registers.end - registers.start,
        intid: intid(node, 0)?,
    })
}

/// The INTID of a node's interrupt number `index`. Each has three cells: kind, number, flags.
fn intid(node: FdtNode<'_, 'static>, index: usize) -> Option<u32> {
    let cells = node.property("interrupts")?.value.get(index * 12..index * 12 + 12)?;
    let (kind, number) = (number(cells.get(..4)?)?, number(cells.get(4..8)?)?);
    let first = if kind == u64::from(CELL_SPI) { 32 } else { 16 };
    u32::try_from(number).ok()?.checked_add(first)
}

/// A big-endian number of one or two cells.
fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => Some(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        8 => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use vm_fdt::FdtWriter;

    use super::*;

    const GIC: u32 = 1;

    /// Writes a node with these properties.
    macro_rules! node {
        ($writer:ident, $name:expr, { $($property:ident($($argument:expr),*);)* }) => {
            let node = $writer.begin_node($name).unwrap();
            $($writer.$property($($argument),*).unwrap();)*
            $writer.end_node(node).unwrap();
        };
    }

    /// A device tree as the toolstack makes it; `skip` names a node to leave out.
    fn tree(skip: &str) -> &'static [u8] {
        let mut writer = FdtWriter::new().unwrap();
        let root = writer.begin_node("").unwrap();
        writer.property_u32("#address-cells", 2).unwrap();
        writer.property_u32("#size-cells", 2).unwrap();
        writer.property_u32("interrupt-parent", GIC).unwrap();
        node!(writer, "chosen", {
            property_string("bootargs", "one=1 two=2 plain two=3");
            property_u64("linux,initrd-start", 0x4400_0000);
            property_u64("linux,initrd-end", 0x4400_1000);
        });
        let cpus = writer.begin_node("cpus").unwrap();
        writer.property_u32("#address-cells", 1).unwrap();
        writer.property_u32("#size-cells", 0).unwrap();
        node!(writer, "cpu@0", {
            property_string("device_type", "cpu");
            property_u32("reg", 0);
        });
        node!(writer, "cpu@1", {
            property_string("device_type", "cpu");
            property_u32("reg", 1);
        });
        writer.end_node(cpus).unwrap();
        if skip != "memory" {
            node!(writer, "memory@40000000", {
                property_string("device_type", "memory");
                property_array_u64("reg", &[0x4000_0000, 0x100_0000, 0x2_0000_0000, 0x1000]);
            });
        }
        if skip != "hypervisor" {
            node!(writer, "hypervisor", {
                property_string("compatible", "xen,xen");
                property_array_u64("reg", &[0x3800_0000, 0x100_0000]);
                property_array_u32("interrupts", &[1, 15, 0xf08]);
            });
        }
        if skip != "interrupt-controller" {
            node!(writer, "interrupt-controller@3001000", {
                property_string("compatible", "arm,gic-v3");
                property_array_u64("reg", &[0x300_1000, 0x1_0000, 0x302_0000, 0x100_0000]);
                property_phandle(GIC);
            });
        }
        if skip != "timer" {
            node!(writer, "timer", {
                property_string("compatible", "arm,armv8-timer");
                property_array_u32("interrupts", &[1, 13, 8, 1, 14, 8, 1, 11, 8, 1, 10, 8]);
            });
        }
        node!(writer, "virtio_mmio@a000200", {
            property_string("compatible", "virtio,mmio");
            property_array_u64("reg", &[0xa00_0200, 0x200]);
            property_array_u32("interrupts", &[0, 17, 1]);
        });
        node!(writer, "virtio_mmio@a000000", {
            property_string("compatible", "virtio,mmio");
            property_array_u64("reg", &[0xa00_0000, 0x200]);
            property_array_u32("interrupts", &[0, 16, 1]);
        });
        writer.end_node(root).unwrap();
        writer.finish().unwrap().leak()
    }

    #[test]
    fn all_facts_are_found() {
        let blob = tree("");
        let parsed = parse(blob).unwrap();
        assert_eq!(initrd_range(&parsed), Some(0x4400_0000..0x4400_1000));
        let environment = Environment::from_device_tree(blob).unwrap();
        assert_eq!(environment.memory, [0x4000_0000..0x4100_0000, 0x2_0000_0000..0x2_0000_1000]);
        assert_eq!(environment.memory_size(), 0x100_1000);
        assert_eq!(environment.vcpus, 2);
        assert_eq!(environment.grant_window, 0x3800_0000..0x3900_0000);
        assert_eq!(environment.interrupts, PrivateInterrupts { events: 31, timer: 27 });
        assert_eq!(
            environment.interrupt_controller,
            InterruptController { distributor: 0x300_1000, redistributor: 0x302_0000 }
        );
        let devices = [(0xa00_0000, 48), (0xa00_0200, 49)];
        assert_eq!(
            environment.virtio,
            devices.map(|(base, intid)| MmioDevice { base, size: 0x200, intid })
        );
    }

    #[test]
    fn the_last_of_equal_arguments_counts() {
        let environment = Environment::from_device_tree(tree("")).unwrap();
        assert_eq!(environment.argument("one"), Some("1"));
        assert_eq!(environment.argument("two"), Some("3"));
        assert_eq!(environment.argument("plain"), None);
        assert_eq!(environment.argument("absent"), None);
        assert_eq!(environment.parsed("two", 0), Ok(3));
        assert_eq!(environment.parsed("absent", 0), Ok(0));
        assert_eq!(environment.parsed("two", true), Err(InvalidArgument("two")));
    }

    #[test]
    fn a_missing_node_is_named() {
        for node in ["memory", "hypervisor", "interrupt-controller", "timer"] {
            let error = Environment::from_device_tree(tree(node)).unwrap_err();
            assert_eq!(error, DeviceTreeError::Missing(node));
        }
        let error = Environment::from_device_tree(&[0; 64]).unwrap_err();
        assert_eq!(error, DeviceTreeError::NotADeviceTree);
    }

    #[test]
    fn devices_are_neither_memory_nor_the_monitors_window() {
        let parsed = parse(tree("")).unwrap();
        let found: Vec<u64> = devices(&parsed).map(|range| range.start).collect();
        assert_eq!(found, [0x300_1000, 0x302_0000, 0xa00_0200, 0xa00_0000]);
    }
}
