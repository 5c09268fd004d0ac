//! What the machine consists of, as its device tree tells.

use core::fmt;
use core::ops::Range;

use fdt::Fdt;
use fdt::node::FdtNode;
use heapless::Vec;

use super::gic::{Intid, Trigger};
use crate::types::MAX_CPUS;

/// The machine. Addresses are physical.
#[derive(Debug)]
pub struct Machine {
    /// RAM.
    pub memory: Vec<Range<u64>, 8>,
    /// Parts of it that are not free at boot: firmware's, the monitor, the device tree, modules.
    pub reserved: Vec<Range<u64>, 16>,
    /// Affinities (MPIDR_EL1) of the CPUs that the monitor uses, in the tree's order.
    pub cpus: Vec<u64, MAX_CPUS>,
    /// The interrupt controller's distributor.
    pub gicd: Range<u64>,
    /// Its redistributors.
    pub gicr: Range<u64>,
    /// Its maintenance interrupt.
    pub maintenance: Intid,
    /// The console.
    pub uart: Device,
    /// The real-time clock, if there is one.
    pub rtc: Option<Range<u64>>,
    /// Interrupts of the generic timers.
    pub timer: TimerInterrupts,
    /// How the firmware is called.
    pub conduit: Conduit,
    /// virtio-mmio transports, in address order.
    pub virtio: Vec<Device, 32>,
    /// dom0's kernel.
    pub kernel: Option<Module>,
    /// dom0's ramdisk.
    pub ramdisk: Option<Module>,
    /// The monitor's command line.
    pub bootargs: &'static str,
    /// The tree itself.
    pub fdt: Fdt<'static>,
}

/// A device with one register region and one interrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its registers.
    pub registers: Range<u64>,
    /// Its interrupt.
    pub interrupt: Intid,
    /// How it signals.
    pub trigger: Trigger,
}

/// What the boot loader loaded beside the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Where it is.
    pub range: Range<u64>,
    /// Its command line; empty if it has none.
    pub bootargs: &'static str,
}

/// The generic timers' interrupts on each CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerInterrupts {
    /// EL1's physical timer.
    pub physical: Intid,
    /// EL1's virtual timer.
    pub virtual_: Intid,
    /// EL2's physical timer.
    pub hypervisor: Intid,
}

/// The instruction that calls the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduit {
    /// Secure monitor call.
    Smc,
    /// Hypervisor call: the "firmware" is another hypervisor.
    Hvc,
}

/// Why a device tree does not describe a machine that the monitor can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptionError {
    /// It is no device tree.
    Malformed,
    /// It has no node compatible with this.
    MissingNode(&'static str),
    /// The node compatible with the first lacks a usable property called the second.
    MissingProperty(&'static str, &'static str),
    /// It has more of these than the monitor has room for.
    TooMany(&'static str),
}

impl fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DescriptionError::Malformed => write!(f, "not a device tree"),
            DescriptionError::MissingNode(node) => write!(f, "no node for {node}"),
            DescriptionError::MissingProperty(node, property) => {
                write!(f, "the node for {node} has no usable property {property}")
            }
            DescriptionError::TooMany(what) => write!(f, "too many {what}"),
        }
    }
}

const GIC: &str = "arm,gic-v3";
const UART: &str = "arm,pl011";
const RTC: &str = "arm,pl031";
const TIMER: &str = "arm,armv8-timer";
const PSCI: &str = "arm,psci-0.2";
const VIRTIO: &str = "virtio,mmio";

impl Machine {
    /// Reads a device tree. It is trusted: whoever wrote it controls the machine anyway. `image`
    /// is the monitor's own memory.
    pub fn parse(blob: &'static [u8], image: Range<u64>) -> Result<Machine, DescriptionError> {
        let fdt = Fdt::new(blob).map_err(|_| DescriptionError::Malformed)?;
        let blob_start = blob.as_ptr().expose_provenance() as u64;
        let uart = Node::find(&fdt, UART)?.device()?;
        let gic = Node::find(&fdt, GIC)?;
        let timer = Node::find(&fdt, TIMER)?;
        let kernel = module(&fdt, "multiboot,kernel");
        let ramdisk = module(&fdt, "multiboot,ramdisk");
        let mut reserved = firmware_reserved(&fdt)?;
        let own = [Some(image), Some(blob_start..blob_start + blob.len() as u64)];
        let modules = [&kernel, &ramdisk].map(|m| m.as_ref().map(|module| module.range.clone()));
        for range in own.into_iter().chain(modules).flatten() {
            push(&mut reserved, range, "reserved ranges")?;
        }
        Ok(Machine {
            memory: memory(&fdt)?,
            reserved,
            cpus: fdt.cpus().map(|cpu| cpu.ids().first() as u64).take(MAX_CPUS).collect(),
            gicd: gic.region(0)?,
            gicr: gic.region(1)?,
            maintenance: gic.interrupt(0)?.0,
            uart,
            rtc: Node::find(&fdt, RTC).and_then(|rtc| rtc.region(0)).ok(),
            timer: TimerInterrupts {
                physical: timer.interrupt(1)?.0,
                virtual_: timer.interrupt(2)?.0,
                hypervisor: timer.interrupt(3)?.0,
            },
            conduit: conduit(&fdt)?,
            virtio: virtio(&fdt)?,
            kernel,
            ramdisk,
            bootargs: fdt.chosen().bootargs().unwrap_or_default(),
            fdt,
        })
    }
}

impl Machine {
    /// RAM that nothing occupies at boot: `memory` without `reserved`.
    pub fn free_memory(&self) -> Vec<Range<u64>, 32> {
        let mut free = Vec::new();
        for bank in &self.memory {
            let mut start = bank.start;
            while start < bank.end {
                // The reserved range that comes next, if any; what lies before it is free.
                let next = self.reserved.iter().filter(|range| range.end > start);
                let next = next.min_by_key(|range| range.start);
                let end = next.map_or(bank.end, |range| range.start.clamp(start, bank.end));
                if start < end {
                    // Cannot overflow: each reserved range splits one bank at most once.
                    let _ = free.push(start..end);
                }
                start = next.map_or(bank.end, |range| range.end);
            }
        }
        free
    }
}

/// The console alone, of a tree that may lack all else: whoever reads the complaint needs it.
pub fn find_uart(blob: &'static [u8]) -> Result<Device, DescriptionError> {
    let fdt = Fdt::new(blob).map_err(|_| DescriptionError::Malformed)?;
    Node::find(&fdt, UART)?.device()
}

/// A node, and what it was found by, to blame it.
struct Node<'a> {
    node: FdtNode<'a, 'static>,
    compatible: &'static str,
}

impl<'a> Node<'a> {
    fn find(fdt: &'a Fdt<'static>, compatible: &'static str) -> Result<Self, DescriptionError> {
        let node = fdt.find_compatible(&[compatible]);
        let node = node.ok_or(DescriptionError::MissingNode(compatible))?;
        Ok(Node { node, compatible })
    }

    fn region(&self, index: usize) -> Result<Range<u64>, DescriptionError> {
        regions(self.node)
            .nth(index)
            .ok_or(DescriptionError::MissingProperty(self.compatible, "reg"))
    }

    /// The interrupt at that index: three cells of a GIC's binding.
    fn interrupt(&self, index: usize) -> Result<(Intid, Trigger), DescriptionError> {
        const CELLS: usize = 3;
        let missing = DescriptionError::MissingProperty(self.compatible, "interrupts");
        let cells = self.node.property("interrupts").ok_or(missing)?.value;
        let mut cells = cells.chunks_exact(4).skip(index * CELLS).map(be_u32);
        match (cells.next(), cells.next(), cells.next()) {
            (Some(kind), Some(number), Some(flags)) => decode_interrupt(kind, number, flags),
            _ => None,
        }
        .ok_or(missing)
    }

    fn device(&self) -> Result<Device, DescriptionError> {
        let (interrupt, trigger) = self.interrupt(0)?;
        Ok(Device { registers: self.region(0)?, interrupt, trigger })
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// A GIC's interrupt specifier: type (0 shared, 1 private), number in its class, flags.
fn decode_interrupt(kind: u32, number: u32, flags: u32) -> Option<(Intid, Trigger)> {
    const EDGE: u32 = 0b11;
    let intid = match kind {
        0 => Some(Intid(number.checked_add(32)?)).filter(|intid| intid.is_spi()),
        1 => Some(Intid(number.checked_add(16)?)).filter(|intid| intid.is_ppi()),
        _ => None,
    };
    let trigger = if flags & EDGE != 0 { Trigger::Edge } else { Trigger::Level };
    Some((intid?, trigger))
}

/// The regions that a node's `reg` names.
fn regions(node: FdtNode<'_, 'static>) -> impl Iterator<Item = Range<u64>> {
    node.reg().into_iter().flatten().filter_map(|region| {
        let start = region.starting_address as u64;
        Some(start..start.checked_add(region.size? as u64)?)
    })
}

fn memory(fdt: &Fdt<'static>) -> Result<Vec<Range<u64>, 8>, DescriptionError> {
    let mut memory = Vec::new();
    let nodes = fdt.all_nodes().filter(|node| {
        node.property("device_type").and_then(|kind| kind.as_str()) == Some("memory")
    });
    for range in nodes.flat_map(regions).filter(|range| !range.is_empty()) {
        push(&mut memory, range, "memory regions")?;
    }
    match memory.is_empty() {
        true => Err(DescriptionError::MissingNode("memory")),
        false => Ok(memory),
    }
}

/// What firmware keeps: the tree's reservation block, and /reserved-memory.
fn firmware_reserved(fdt: &Fdt<'static>) -> Result<Vec<Range<u64>, 16>, DescriptionError> {
    let mut reserved = Vec::new();
    let block = fdt.memory_reservations().map(|entry| {
        let start = entry.address() as u64;
        start..start.saturating_add(entry.size() as u64)
    });
    let node = fdt.find_node("/reserved-memory");
    let nodes = node.iter().flat_map(|node| node.children()).flat_map(regions);
    for range in block.chain(nodes).filter(|range| !range.is_empty()) {
        push(&mut reserved, range, "reserved ranges")?;
    }
    Ok(reserved)
}

fn push<T, const N: usize>(
    to: &mut Vec<T, N>,
    item: T,
    what: &'static str,
) -> Result<(), DescriptionError> {
    to.push(item).map_err(|_| DescriptionError::TooMany(what))
}

fn conduit(fdt: &Fdt<'static>) -> Result<Conduit, DescriptionError> {
    let psci = Node::find(fdt, PSCI)?;
    match psci.node.property("method").and_then(|method| method.as_str()) {
        Some("smc") => Ok(Conduit::Smc),
        Some("hvc") => Ok(Conduit::Hvc),
        _ => Err(DescriptionError::MissingProperty(PSCI, "method")),
    }
}

fn virtio(fdt: &Fdt<'static>) -> Result<Vec<Device, 32>, DescriptionError> {
    let mut devices = Vec::new();
    for node in fdt.all_nodes().filter(|node| is_compatible(*node, VIRTIO)) {
        let device = Node { node, compatible: VIRTIO }.device()?;
        push(&mut devices, device, "virtio devices")?;
    }
    devices.sort_unstable_by_key(|device| device.registers.start);
    Ok(devices)
}

fn is_compatible(node: FdtNode<'_, 'static>, with: &str) -> bool {
    node.compatible().is_some_and(|compatible| compatible.all().any(|one| one == with))
}

/// The boot module of a kind, as QEMU's guest-loader and the multiboot binding describe it.
fn module(fdt: &Fdt<'static>, kind: &str) -> Option<Module> {
    let chosen = fdt.find_node("/chosen")?;
    let node = chosen.children().find(|node| is_compatible(*node, kind))?;
    let bootargs = node.property("bootargs").and_then(|bootargs| bootargs.as_str());
    // Two cells each, as in the root node: QEMU does not say so in /chosen.
    let (start, size) = node.property("reg")?.value.split_first_chunk::<8>()?;
    let (start, size) = (u64::from_be_bytes(*start), u64::from_be_bytes(size.try_into().ok()?));
    let range = start..start.checked_add(size)?;
    Some(Module { range, bootargs: bootargs.unwrap_or_default() })
}

#[cfg(test)]
mod tests;
