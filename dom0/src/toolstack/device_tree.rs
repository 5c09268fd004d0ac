//! The device tree that a guest is started with.
//!
//! It says what any arm64 machine's says, plus `/hypervisor` (Linux's binding arm/xen.yaml). All
//! addresses are the guest's.

use alloc::{format, string::ToString, vec::Vec};
use core::ops::Range;

use abi::{device_tree as names, guest_map as map};
use vm_fdt::{Error, FdtWriter};

/// Handle of the interrupt controller, to which the root's `interrupt-parent` points.
const GIC_HANDLE: u32 = 1;

/// Writes the device tree of a guest with this RAM, number of vCPUs and boot arguments.
///
/// # Errors
/// `cmdline` has a NUL in it.
pub fn build(ram: &Range<u64>, vcpus: u32, cmdline: &str) -> Result<Vec<u8>, Error> {
    let mut tree = FdtWriter::new()?;
    let root = tree.begin_node("")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_u32("interrupt-parent", GIC_HANDLE)?;
    tree.property_string("model", names::ROOT_MODEL)?;
    compatible(&mut tree, &names::ROOT_COMPATIBLE)?;
    chosen(&mut tree, cmdline)?;
    memory(&mut tree, ram)?;
    cpus(&mut tree, vcpus)?;
    psci(&mut tree)?;
    interrupt_controller(&mut tree)?;
    timer(&mut tree)?;
    hypervisor(&mut tree)?;
    tree.end_node(root)?;
    tree.finish()
}

fn compatible(tree: &mut FdtWriter, names: &[&str]) -> Result<(), Error> {
    tree.property_string_list("compatible", names.iter().map(ToString::to_string).collect())
}

fn chosen(tree: &mut FdtWriter, cmdline: &str) -> Result<(), Error> {
    let node = tree.begin_node("chosen")?;
    tree.property_string("bootargs", cmdline)?;
    tree.end_node(node)
}

fn memory(tree: &mut FdtWriter, ram: &Range<u64>) -> Result<(), Error> {
    let node = tree.begin_node(&format!("memory@{:x}", ram.start))?;
    tree.property_string("device_type", "memory")?;
    tree.property_array_u64("reg", &[ram.start, ram.end.saturating_sub(ram.start)])?;
    tree.end_node(node)
}

fn cpus(tree: &mut FdtWriter, vcpus: u32) -> Result<(), Error> {
    let cpus = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    for vcpu in 0..vcpus {
        // At most 8 vCPUs: the number is the whole of the MPIDR's lowest affinity level.
        let cpu = tree.begin_node(&format!("cpu@{vcpu:x}"))?;
        tree.property_string("device_type", "cpu")?;
        compatible(tree, &["arm,armv8"])?;
        tree.property_string("enable-method", "psci")?;
        tree.property_u32("reg", vcpu)?;
        tree.end_node(cpu)?;
    }
    tree.end_node(cpus)
}

fn psci(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node("psci")?;
    compatible(tree, &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"])?;
    tree.property_string("method", "hvc")?;
    // What PSCI 0.1 would call by; later versions have fixed numbers.
    tree.property_u32("cpu_off", 1)?;
    tree.property_u32("cpu_on", 2)?;
    tree.end_node(node)
}

fn interrupt_controller(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node(&format!("interrupt-controller@{:x}", map::GICD_BASE))?;
    compatible(tree, &["arm,gic-v3"])?;
    tree.property_u32("#interrupt-cells", 3)?;
    tree.property_null("interrupt-controller")?;
    let reg = [map::GICD_BASE, map::GICD_SIZE, map::GICR_BASE, map::GICR_SIZE];
    tree.property_array_u64("reg", &reg)?;
    tree.property_phandle(GIC_HANDLE)?;
    tree.end_node(node)
}

fn timer(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node("timer")?;
    compatible(tree, &["arm,armv8-timer"])?;
    let interrupts = [names::SECURE_TIMER_PPI, names::PHYSICAL_TIMER_PPI, names::VIRTUAL_TIMER_PPI];
    tree.property_array_u32("interrupts", &interrupts.map(names::ppi_cells).concat())?;
    tree.end_node(node)
}

fn hypervisor(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node(names::HYPERVISOR_NODE)?;
    compatible(tree, &names::HYPERVISOR_COMPATIBLE)?;
    tree.property_array_u64("reg", &[map::GRANT_TABLE_BASE, map::GRANT_TABLE_SIZE])?;
    tree.property_array_u32("interrupts", &names::ppi_cells(names::EVENT_PPI))?;
    tree.end_node(node)
}

#[cfg(test)]
mod tests {
    use fdt::Fdt;

    use super::*;

    const RAM: Range<u64> = 0x4000_0000..0x4200_0000;

    fn cells(tree: &Fdt<'_>, path: &str, property: &str) -> Vec<u32> {
        let value = tree.find_node(path).unwrap().property(property).unwrap().value;
        value.chunks(4).map(|cell| u32::from_be_bytes(cell.try_into().unwrap())).collect()
    }

    fn strings(tree: &Fdt<'_>, path: &str, property: &str) -> Vec<String> {
        let value = tree.find_node(path).unwrap().property(property).unwrap().value;
        let text = std::str::from_utf8(value).unwrap();
        text.trim_end_matches('\0').split('\0').map(str::to_string).collect()
    }

    use std::string::String;

    #[test]
    fn memory_cpus_and_arguments_are_the_domains() {
        let blob = build(&RAM, 3, "write=42 verbose").unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let region = tree.memory().regions().next().unwrap();
        assert_eq!(region.starting_address as u64, RAM.start);
        assert_eq!(region.size, Some(0x200_0000));
        assert_eq!(tree.chosen().bootargs(), Some("write=42 verbose"));
        let ids: Vec<usize> = tree.cpus().map(|cpu| cpu.ids().first()).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert_eq!(strings(&tree, "/cpus/cpu@2", "enable-method"), ["psci"]);
    }

    #[test]
    fn a_guest_sees_that_it_is_one() {
        let blob = build(&RAM, 1, "").unwrap();
        let tree = Fdt::new(&blob).unwrap();
        assert_eq!(strings(&tree, "/hypervisor", "compatible"), ["xen,xen-4.17", "xen,xen"]);
        assert_eq!(cells(&tree, "/hypervisor", "interrupts"), [1, 15, 0xf08]);
        assert_eq!(cells(&tree, "/hypervisor", "reg"), [0, 0x3800_0000, 0, 0x100_0000]);
        assert_eq!(tree.root().model(), "XENVM-4.17");
        assert_eq!(strings(&tree, "/", "compatible"), ["xen,xenvm-4.17", "xen,xenvm"]);
    }

    #[test]
    fn timer_gic_and_psci_are_those_of_a_machine() {
        let blob = build(&RAM, 1, "").unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let timer = cells(&tree, "/timer", "interrupts");
        assert_eq!(timer, [1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08]);
        assert_eq!(strings(&tree, "/psci", "method"), ["hvc"]);
        let gic = "/interrupt-controller@3001000";
        assert_eq!(strings(&tree, gic, "compatible"), ["arm,gic-v3"]);
        assert_eq!(
            cells(&tree, gic, "reg"),
            [0, 0x0300_1000, 0, 0x1_0000, 0, 0x0302_0000, 0, 0x100_0000]
        );
        assert_eq!(cells(&tree, gic, "phandle"), cells(&tree, "/", "interrupt-parent"));
    }

    #[test]
    fn a_nul_in_the_arguments_is_an_error() {
        assert_eq!(build(&RAM, 1, "a\0b"), Err(Error::InvalidString));
    }
}
