//! Names and interrupt numbers of the device tree that a domain sees (Linux's binding
//! arm/xen.yaml; the rest of the tree is what any arm64 machine has).

#[cfg(feature = "device-tree-builder")]
pub mod builder;

/// Name of the node that says "you are a guest": directly below the root.
pub const HYPERVISOR_NODE: &str = "hypervisor";
/// Its `compatible`, in this order.
pub const HYPERVISOR_COMPATIBLE: [&str; 2] = ["xen,xen-4.17", "xen,xen"];
/// The root's `compatible` for an unprivileged domain.
pub const ROOT_COMPATIBLE: [&str; 2] = ["xen,xenvm-4.17", "xen,xenvm"];
/// The root's `model` for an unprivileged domain.
pub const ROOT_MODEL: &str = "XENVM-4.17";

/// INTID of the interrupt that announces events.
pub const EVENT_PPI: u32 = 31;
/// INTID of the EL1 virtual timer.
pub const VIRTUAL_TIMER_PPI: u32 = 27;
/// INTID of the EL1 physical timer.
pub const PHYSICAL_TIMER_PPI: u32 = 30;
/// INTID of the secure EL1 physical timer.
pub const SECURE_TIMER_PPI: u32 = 29;
/// First cell of an `interrupts` property: a shared peripheral interrupt.
pub const CELL_SPI: u32 = 0;
/// First cell of an `interrupts` property: a private peripheral interrupt.
pub const CELL_PPI: u32 = 1;
/// Third cell: level-sensitive, active low, to the first four CPUs.
pub const CELL_LEVEL_LOW: u32 = 0xf08;

/// The three cells that name a private interrupt.
pub const fn ppi_cells(intid: u32) -> [u32; 3] {
    [CELL_PPI, intid - 16, CELL_LEVEL_LOW]
}
