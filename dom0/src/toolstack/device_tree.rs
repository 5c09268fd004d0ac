//! The device tree that a guest is started with. All addresses are the guest's.

use alloc::vec::Vec;
use core::ops::Range;

use abi::device_tree::builder::{Error, Platform};
use abi::device_tree::{ROOT_COMPATIBLE, ROOT_MODEL};
use abi::guest_map as map;

const GRANT_WINDOW: Range<u64> =
    map::GRANT_TABLE_BASE..map::GRANT_TABLE_BASE + map::GRANT_TABLE_SIZE;

/// What a guest has in any case, and is told of or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The hypervisor, which is to say all that is paravirtual.
    pub hypervisor: bool,
    /// The UART.
    pub uart: bool,
}

/// Writes the device tree of a guest with this RAM, number of vCPUs, boot arguments and initial
/// ramdisk.
///
/// # Errors
/// `bootargs` has a NUL in it.
pub fn build(
    ram: &Range<u64>,
    vcpus: u32,
    bootargs: &str,
    initrd: Option<Range<u64>>,
    named: Named,
) -> Result<Vec<u8>, Error> {
    let platform = Platform {
        compatible: &ROOT_COMPATIBLE,
        model: ROOT_MODEL,
        memory: core::slice::from_ref(ram),
        vcpus,
        gicd: map::GICD_BASE..map::GICD_BASE + map::GICD_SIZE,
        gicr: map::GICR_BASE..map::GICR_BASE + map::GICR_SIZE,
        grant_window: named.hypervisor.then_some(GRANT_WINDOW),
        unused: unused(ram),
        bootargs,
        initrd,
        uart: named.uart.then_some(map::UART_BASE..map::UART_BASE + map::UART_SIZE),
        virtio: &[],
    };
    platform.build()
}

/// What is left of the first bank of RAM, in whole 2 MiB.
fn unused(ram: &Range<u64>) -> Option<Range<u64>> {
    let end = map::RAM_BASE + map::RAM_MAX_SIZE;
    let start = ram.end.checked_next_multiple_of(2 << 20)?;
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use fdt::Fdt;

    use super::*;

    const RAM: Range<u64> = 0x4000_0000..0x4200_0000;
    const USUAL: Named = Named { hypervisor: true, uart: false };

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
        let blob = build(&RAM, 3, "write=42 verbose", None, USUAL).unwrap();
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
        let blob = build(&RAM, 1, "", None, USUAL).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        assert_eq!(strings(&tree, "/hypervisor", "compatible"), ["xen,xen-4.17", "xen,xen"]);
        assert_eq!(cells(&tree, "/hypervisor", "interrupts"), [1, 15, 0xf08]);
        assert_eq!(
            cells(&tree, "/hypervisor", "reg"),
            [0, 0x3800_0000, 0, 0x100_0000, 0, 0x4200_0000, 0, 0xBE00_0000]
        );
        assert_eq!(tree.root().model(), "XENVM-4.17");
        assert_eq!(strings(&tree, "/", "compatible"), ["xen,xenvm-4.17", "xen,xenvm"]);
    }

    #[test]
    fn a_guest_need_not_see_that_it_is_one() {
        let blob = build(&RAM, 1, "", None, Named { hypervisor: false, uart: true }).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        assert!(tree.find_node("/hypervisor").is_none());
        assert!(tree.find_node("/uart@22000000").is_some());
    }

    #[test]
    fn timer_gic_and_psci_are_those_of_a_machine() {
        let blob = build(&RAM, 1, "", None, USUAL).unwrap();
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
    fn the_initial_ramdisk_is_where_linux_looks_for_it() {
        let blob = build(&RAM, 1, "", Some(0x4100_0000..0x4100_1234), USUAL).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        assert_eq!(cells(&tree, "/chosen", "linux,initrd-start"), [0, 0x4100_0000]);
        assert_eq!(cells(&tree, "/chosen", "linux,initrd-end"), [0, 0x4100_1234]);
        let without = build(&RAM, 1, "", None, USUAL).unwrap();
        let tree = Fdt::new(&without).unwrap();
        let chosen = tree.find_node("/chosen").unwrap();
        assert!(chosen.property("linux,initrd-start").is_none());
    }

    #[test]
    fn a_uart_is_named_if_it_is_wanted() {
        let blob = build(&RAM, 1, "", None, Named { uart: true, ..USUAL }).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let uart = "/uart@22000000";
        assert_eq!(strings(&tree, uart, "compatible"), ["arm,sbsa-uart"]);
        assert_eq!(cells(&tree, uart, "interrupts"), [0, 0, 4]);
        let without = build(&RAM, 1, "", None, USUAL).unwrap();
        assert!(Fdt::new(&without).unwrap().find_node(uart).is_none());
    }

    #[test]
    fn a_nul_in_the_arguments_is_an_error() {
        assert_eq!(build(&RAM, 1, "a\0b", None, USUAL), Err(Error::InvalidString));
    }
}
