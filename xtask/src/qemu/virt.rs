//! The board as data: `qemu/virt.toml`.

use serde::Deserialize;

/// QEMU's `virt` board as Aurochs uses it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Virt {
    /// The board and its processor.
    pub machine: Machine,
    /// What `--icount` changes.
    pub ruler: Ruler,
    /// Where things are in its memory.
    pub memory: Memory,
    /// Its device transports.
    pub virtio: Virtio,
    /// The disk that is made if none is given.
    pub disk: Disk,
}

/// The board and its processor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// QEMU's name of the board.
    pub r#type: String,
    /// Its properties.
    pub options: Vec<String>,
    /// QEMU's name of the processor.
    pub cpu: String,
    /// Memory in MiB if nothing else is said.
    pub memory_mib: u64,
    /// The oldest QEMU that has all of this.
    pub minimum_qemu: String,
}

/// The deterministic ruler.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ruler {
    /// The processor if nothing else is said.
    pub cpu: String,
    /// Value of `-icount`.
    pub icount: String,
    /// Ticks of the system counter per second.
    pub counter_hertz: u64,
}

/// Where things are in memory; addresses and sizes in bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// First address of RAM.
    pub ram_base: u64,
    /// From there to the monitor.
    pub monitor_offset: u64,
    /// From there to the device tree, at most.
    pub device_tree_max_offset: u64,
    /// What the device tree may take.
    pub device_tree_size: u64,
    /// MiB that dom0 gets.
    pub dom0_mib: u64,
    /// MiB that it gets at least where memory is short.
    pub dom0_least_mib: u64,
}

/// The virtio-mmio transports.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Virtio {
    /// Name of a transport's bus, without its number.
    pub bus_prefix: String,
    /// How many there are.
    pub transports: usize,
}

/// The disk that is made if none is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its size in MiB.
    pub default_mib: u64,
}

impl Virt {
    /// The board that this repository describes.
    pub fn load() -> Virt {
        // It is part of this program, and a test reads it: it cannot fail on a user.
        toml::from_str(include_str!("../../../qemu/virt.toml")).expect("qemu/virt.toml is valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_is_valid() {
        let virt = Virt::load();
        assert_eq!(virt.machine.r#type, "virt");
        assert!(virt.virtio.transports > 0);
    }
}
