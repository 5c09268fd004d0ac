//! Writes the device tree of a domain: the same nodes for the privileged domain, which the monitor
//! builds, and for the others, which the toolstack builds. Only the places differ.

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use vm_fdt::FdtWriter;

use crate::guest_map::UART_INTID;

use super::{
    CELL_SPI, EVENT_PPI, HYPERVISOR_COMPATIBLE, HYPERVISOR_NODE, PHYSICAL_TIMER_PPI,
    SECURE_TIMER_PPI, VIRTUAL_TIMER_PPI, ppi_cells,
};

/// What went wrong while writing.
pub type Error = vm_fdt::Error;

/// phandle of the interrupt controller.
const GIC_PHANDLE: u32 = 1;
/// Third cell of an interrupt specifier: rising edge.
const CELL_EDGE_RISING: u32 = 1;
/// Third cell of an interrupt specifier: level-sensitive, active high.
const CELL_LEVEL_HIGH: u32 = 4;

/// A device on the bus of memory-mapped virtio devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtioDevice {
    /// Its registers.
    pub registers: Range<u64>,
    /// Its interrupt (an SPI; edge-triggered).
    pub intid: u32,
}

/// A machine as a domain sees it. All addresses are guest-physical.
#[derive(Debug, Clone)]
pub struct Platform<'a> {
    /// The root's `compatible`, most specific first.
    pub compatible: &'a [&'a str],
    /// The root's `model`.
    pub model: &'a str,
    /// Banks of RAM.
    pub memory: &'a [Range<u64>],
    /// How many vCPUs there are; their affinities count from zero.
    pub vcpus: u32,
    /// The distributor.
    pub gicd: Range<u64>,
    /// The redistributors.
    pub gicr: Range<u64>,
    /// Where grant-table frames may be mapped. Without it the hypervisor is not named: a kernel takes
    /// this for a plain machine.
    pub grant_window: Option<Range<u64>>,
    /// Addresses at which nothing is, for what the domain maps of others ("extended regions").
    pub unused: Option<Range<u64>>,
    /// The command line.
    pub bootargs: &'a str,
    /// The initial ramdisk.
    pub initrd: Option<Range<u64>>,
    /// The registers of its UART.
    pub uart: Option<Range<u64>>,
    /// Devices that the domain drives itself.
    pub virtio: &'a [VirtioDevice],
}

impl Platform<'_> {
    /// The flattened device tree.
    pub fn build(&self) -> Result<Vec<u8>, Error> {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_string_list("compatible", strings(self.compatible))?;
        fdt.property_string("model", self.model)?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_u32("interrupt-parent", GIC_PHANDLE)?;
        self.chosen(&mut fdt)?;
        self.memory(&mut fdt)?;
        self.cpus(&mut fdt)?;
        psci(&mut fdt)?;
        timer(&mut fdt)?;
        self.interrupt_controller(&mut fdt)?;
        self.hypervisor(&mut fdt)?;
        self.uart(&mut fdt)?;
        self.virtio(&mut fdt)?;
        fdt.end_node(root)?;
        fdt.finish()
    }

    fn chosen(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let node = fdt.begin_node("chosen")?;
        fdt.property_string("bootargs", self.bootargs)?;
        if let Some(initrd) = &self.initrd {
            fdt.property_u64("linux,initrd-start", initrd.start)?;
            fdt.property_u64("linux,initrd-end", initrd.end)?;
        }
        fdt.end_node(node)
    }

    fn memory(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        for bank in self.memory {
            let node = fdt.begin_node(&format!("memory@{:x}", bank.start))?;
            fdt.property_string("device_type", "memory")?;
            fdt.property_array_u64("reg", &reg(bank))?;
            fdt.end_node(node)?;
        }
        Ok(())
    }

    fn cpus(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        for number in 0..self.vcpus {
            let cpu = fdt.begin_node(&format!("cpu@{number:x}"))?;
            fdt.property_string("device_type", "cpu")?;
            fdt.property_string("compatible", "arm,armv8")?;
            fdt.property_string("enable-method", "psci")?;
            fdt.property_u32("reg", number)?;
            fdt.end_node(cpu)?;
        }
        fdt.end_node(cpus)
    }

    fn interrupt_controller(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let node = fdt.begin_node(&format!("interrupt-controller@{:x}", self.gicd.start))?;
        fdt.property_string("compatible", "arm,gic-v3")?;
        fdt.property_u32("#interrupt-cells", 3)?;
        fdt.property_u32("#address-cells", 0)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#redistributor-regions", 1)?;
        let [gicd, gicd_size] = reg(&self.gicd);
        let [gicr, gicr_size] = reg(&self.gicr);
        fdt.property_array_u64("reg", &[gicd, gicd_size, gicr, gicr_size])?;
        fdt.property_phandle(GIC_PHANDLE)?;
        fdt.end_node(node)
    }

    fn hypervisor(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let Some(grant_window) = &self.grant_window else { return Ok(()) };
        let node = fdt.begin_node(HYPERVISOR_NODE)?;
        fdt.property_string_list("compatible", strings(&HYPERVISOR_COMPATIBLE))?;
        let regions: Vec<u64> =
            [grant_window].into_iter().chain(&self.unused).flat_map(reg).collect();
        fdt.property_array_u64("reg", &regions)?;
        fdt.property_array_u32("interrupts", &ppi_cells(EVENT_PPI))?;
        fdt.end_node(node)
    }

    fn uart(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let Some(registers) = &self.uart else { return Ok(()) };
        let node = fdt.begin_node(&format!("uart@{:x}", registers.start))?;
        fdt.property_string("compatible", "arm,sbsa-uart")?;
        fdt.property_array_u64("reg", &reg(registers))?;
        let spi = UART_INTID.saturating_sub(32);
        fdt.property_array_u32("interrupts", &[CELL_SPI, spi, CELL_LEVEL_HIGH])?;
        fdt.property_u32("current-speed", 115_200)?;
        fdt.end_node(node)
    }

    fn virtio(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        for device in self.virtio {
            let node = fdt.begin_node(&format!("virtio_mmio@{:x}", device.registers.start))?;
            fdt.property_string("compatible", "virtio,mmio")?;
            fdt.property_array_u64("reg", &reg(&device.registers))?;
            let spi = device.intid.saturating_sub(32);
            fdt.property_array_u32("interrupts", &[CELL_SPI, spi, CELL_EDGE_RISING])?;
            fdt.property_null("dma-coherent")?;
            fdt.end_node(node)?;
        }
        Ok(())
    }
}

fn psci(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node("psci")?;
    fdt.property_string_list("compatible", strings(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]))?;
    fdt.property_string("method", "hvc")?;
    // The function numbers of PSCI 0.1, which had no fixed ones.
    fdt.property_u32("cpu_off", 1)?;
    fdt.property_u32("cpu_on", 2)?;
    fdt.end_node(node)
}

fn timer(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    let interrupts = [SECURE_TIMER_PPI, PHYSICAL_TIMER_PPI, VIRTUAL_TIMER_PPI].map(ppi_cells);
    fdt.property_array_u32("interrupts", interrupts.as_flattened())?;
    fdt.end_node(node)
}

/// Address and size, as a `reg` property has them.
fn reg(range: &Range<u64>) -> [u64; 2] {
    [range.start, range.end.saturating_sub(range.start)]
}

fn strings(list: &[&str]) -> Vec<alloc::string::String> {
    list.iter().map(|&text| text.into()).collect()
}
