//! Who gets which part of RAM before the monitor runs.
//!
//! QEMU itself loads a few start-up instructions, the monitor and the device tree near the start
//! of RAM. The modules go to its end, so that what lies between stays one piece: dom0 gets its
//! memory from it, contiguous.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::virt::Memory;

const MIB: u64 = 1 << 20;

/// Addresses of what is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The monitor.
    pub monitor: Range<u64>,
    /// The device tree.
    pub device_tree: Range<u64>,
    /// dom0's kernel image.
    pub kernel: Range<u64>,
    /// dom0's ramdisk.
    pub ramdisk: Range<u64>,
    /// MiB of memory for dom0: a piece without a gap, between the device tree and the modules.
    pub dom0_mib: u64,
}

impl Layout {
    /// Images start at a multiple of this, as the arm64 boot protocol wants it.
    pub const ALIGNMENT: u64 = 2 << 20;

    /// Places a monitor that takes `monitor` bytes of memory and modules of `kernel` and `ramdisk`
    /// bytes into `mib` MiB of RAM.
    ///
    /// # Errors
    /// They do not fit.
    pub fn new(
        memory: &Memory,
        mib: u64,
        monitor: u64,
        kernel: u64,
        ramdisk: u64,
    ) -> Result<Layout> {
        let (start, size) = (memory.ram_base, mib.saturating_mul(MIB));
        let end = start.saturating_add(size);
        let monitor_start = start + memory.monitor_offset;
        let monitor = monitor_start..monitor_start + monitor;
        let tree_start =
            align_up(monitor.end.max(start + (size / 2).min(memory.device_tree_max_offset)));
        let device_tree = tree_start..tree_start + memory.device_tree_size;
        let ramdisk = below(end, ramdisk);
        let kernel = below(ramdisk.start, kernel);
        let gap = kernel.start.saturating_sub(align_up(device_tree.end));
        let dom0_mib = (gap / MIB).min(memory.dom0_mib);
        ensure!(
            dom0_mib >= memory.dom0_least_mib,
            "{mib} MiB of memory do not hold the monitor, dom0 and the ramdisk: give more with --memory"
        );
        Ok(Layout { monitor, device_tree, kernel, ramdisk, dom0_mib })
    }
}

fn align_up(address: u64) -> u64 {
    address.next_multiple_of(Layout::ALIGNMENT)
}

/// The highest aligned range of `size` bytes that ends at or before `end`.
fn below(end: u64, size: u64) -> Range<u64> {
    let start = end.saturating_sub(size) / Layout::ALIGNMENT * Layout::ALIGNMENT;
    start..start + size
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::qemu::Virt;

    proptest! {
        #[test]
        fn nothing_overlaps_and_all_is_ram(
            mib in 32u64..4096, monitor in 1u64..(4 << 20),
            kernel in 1u64..(64 << 20), ramdisk in 1u64..(256 << 20),
        ) {
            let memory = Virt::load().memory;
            let Ok(layout) = Layout::new(&memory, mib, monitor, kernel, ramdisk) else {
                return Ok(());
            };
            let all = [&layout.monitor, &layout.device_tree, &layout.kernel, &layout.ramdisk];
            for pair in all.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start, "{layout:x?}");
            }
            prop_assert!(layout.ramdisk.end <= memory.ram_base + mib * MIB);
            prop_assert_eq!(layout.kernel.start % Layout::ALIGNMENT, 0);
            prop_assert_eq!(layout.ramdisk.end - layout.ramdisk.start, ramdisk);
        }
    }

    #[test]
    fn device_tree_is_where_qemu_puts_it() {
        // Read off `info roms` of QEMU 7.2 and 10.0.
        let memory = Virt::load().memory;
        for (mib, address) in [(128, 0x4400_0000), (512, 0x4800_0000), (2048, 0x4800_0000)] {
            let layout = Layout::new(&memory, mib, 0x3_0000, 0x1000, 0x1000).unwrap();
            assert_eq!(layout.device_tree.start, address);
        }
    }

    #[test]
    fn a_small_machine_has_a_small_dom0() {
        let memory = Virt::load().memory;
        for (mib, dom0) in [(512, 128), (256, 120), (128, 56)] {
            let layout = Layout::new(&memory, mib, 0x3_0000, 1 << 20, 3 << 20).unwrap();
            assert_eq!(layout.dom0_mib, dom0);
        }
    }

    #[test]
    fn too_little_memory_is_an_error() {
        let memory = Virt::load().memory;
        assert!(Layout::new(&memory, 64, MIB, 40 * MIB, MIB).is_err());
        assert!(Layout::new(&memory, 1, MIB, MIB, MIB).is_err());
        assert!(Layout::new(&memory, 512, MIB, u64::MAX / 2, MIB).is_err());
    }
}
