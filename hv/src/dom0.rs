//! Building the privileged domain at boot: its RAM mapped one to one, the kernel and the ramdisk
//! that the boot loader brought, the machine's virtio devices, and a device tree that says so.
//!
//! Its RAM is one range, at the same addresses in the machine and in the domain:
//! `[kernel ... | ramdisk | device tree]`.

#![expect(unsafe_code, reason = "boot modules are copied from where the loader put them")]

use core::fmt;
use core::ops::Range;
use core::str::FromStr;

use abi::device_tree::builder::{self, Platform, VirtioDevice};
use abi::{DomId, Errno, PAGE_SIZE, VcpuId};
use alloc::vec::Vec;

use crate::allocator::domain::DomainConfig;
use crate::allocator::ram::RamRange;
use crate::allocator::{CreateError, Monitor, Privileged};
use crate::dispatcher::start_vcpu;
use crate::machine::cache;
use crate::machine::description::{Machine, Module};
use crate::machine::memory::RamFrame;
use crate::types::{Ipa, MAX_VCPUS, Mfn, VcpuKey};

/// RAM of the privileged domain unless the command line says otherwise, in MiB.
const DEFAULT_MEMORY_MIB: u64 = 128;
/// Its vCPUs, unless the command line says otherwise.
const DEFAULT_VCPUS: u32 = 1;
/// Bytes kept for the device tree at the end of RAM.
const DEVICE_TREE_SIZE: u64 = 0x1_0000;
/// Frames beyond its RAM that it may have: none, but for what it gives up and takes back.
const GRANT_FRAMES: u32 = 64;
/// Bytes of the window in which it may map its grant table.
const GRANT_WINDOW_SIZE: u64 = GRANT_FRAMES as u64 * PAGE_SIZE as u64;
const MIB: u64 = 1 << 20;

/// Why there is no privileged domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildError {
    /// The boot loader brought no kernel.
    NoKernel,
    /// The kernel has no arm64 Image header.
    NotAnImage,
    /// Kernel, ramdisk and device tree do not fit into this many MiB.
    TooSmall(u64),
    /// The domain could not be made.
    Create(CreateError),
    /// Its RAM or its devices could not be mapped.
    Map(Errno),
    /// Its device tree could not be written.
    DeviceTree,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoKernel => f.write_str(
                "no dom0 kernel was loaded (QEMU: -device guest-loader,kernel=...,addr=...)",
            ),
            BuildError::NotAnImage => f.write_str("dom0's kernel has no arm64 Image header"),
            BuildError::TooSmall(mib) => {
                write!(f, "dom0 does not fit into {mib} MiB: give it more with dom0_mem=<MiB>")
            }
            BuildError::Create(error) => write!(f, "dom0 could not be created: {error:?}"),
            BuildError::Map(errno) => write!(f, "dom0's memory could not be mapped: {errno}"),
            BuildError::DeviceTree => f.write_str("dom0's device tree could not be written"),
        }
    }
}

/// Where things lie in the domain's RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    ram: Range<u64>,
    entry: u64,
    ramdisk: Option<Range<u64>>,
    device_tree: u64,
}

impl Layout {
    /// `None` if it does not all fit.
    fn new(ram: Range<u64>, header: ImageHeader, ramdisk: Option<u64>) -> Option<Layout> {
        let entry = ram.start.checked_add(header.text_offset)?;
        let device_tree = ram.end.checked_sub(DEVICE_TREE_SIZE)?;
        let ramdisk = match ramdisk {
            Some(size) => {
                let start = device_tree.checked_sub(size)? & !(PAGE_SIZE as u64 - 1);
                Some(start..start + size)
            }
            None => None,
        };
        let lowest = ramdisk.as_ref().map_or(device_tree, |ramdisk| ramdisk.start);
        let kernel_end = entry.checked_add(header.image_size)?;
        (kernel_end <= lowest).then_some(Layout { ram, entry, ramdisk, device_tree })
    }
}

/// What an arm64 Image says of itself (Linux, Documentation/arch/arm64/booting.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ImageHeader {
    /// Bytes from a 2 MiB boundary at which it wants to be.
    text_offset: u64,
    /// Bytes of memory that it takes, uninitialised data included.
    image_size: u64,
}

impl ImageHeader {
    const SIZE: usize = 64;
    const MAGIC: &[u8] = b"ARM\x64";

    fn parse(header: &[u8; Self::SIZE]) -> Option<ImageHeader> {
        let field = |at: usize| {
            let bytes = header.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let (text_offset, image_size) = (field(8)?, field(16)?);
        (header.get(56..60)? == Self::MAGIC && image_size != 0)
            .then_some(ImageHeader { text_offset, image_size })
    }
}

/// Makes the privileged domain, ready to run. `monitor` must have no other domain yet.
pub fn build(monitor: &mut Monitor, machine: &Machine) -> Result<DomId, BuildError> {
    let privileged = Privileged::granted_by_dispatcher();
    let kernel = machine.kernel.as_ref().ok_or(BuildError::NoKernel)?;
    let header = image_header(kernel).ok_or(BuildError::NotAnImage)?;
    let mib = option(machine.bootargs, "dom0_mem").unwrap_or(DEFAULT_MEMORY_MIB);
    let vcpus = vcpus(machine.bootargs);
    let frames = mib.saturating_mul(MIB) / PAGE_SIZE as u64;

    let config = DomainConfig {
        privileged: true,
        direct_mapped: true,
        max_frames: frames,
        max_vcpus: vcpus,
        max_grant_frames: GRANT_FRAMES,
        max_event_port: u32::MAX,
        gicd_base: Ipa(machine.gicd.start),
        gicr_base: Ipa(machine.gicr.start),
    };
    let id = monitor.create_domain(privileged, &config).map_err(BuildError::Create)?;
    let mut space = monitor.physmap(id).map_err(BuildError::Map)?;
    let ram = space.populate_contiguous(frames).map_err(BuildError::Map)?;
    for frames in device_frames(machine) {
        space.map_device(privileged, frames).map_err(BuildError::Map)?;
    }

    let start = ram.mfn().address();
    let ramdisk = machine.ramdisk.as_ref();
    let size = ramdisk.map(|module| module.range.end - module.range.start);
    let layout =
        Layout::new(start..start + mib * MIB, header, size).ok_or(BuildError::TooSmall(mib))?;
    copy_module(kernel, layout.entry);
    if let (Some(module), Some(to)) = (ramdisk, &layout.ramdisk) {
        copy_module(module, to.start);
    }
    let tree =
        device_tree(machine, kernel.bootargs, vcpus, &layout).ok_or(BuildError::DeviceTree)?;
    copy_bytes(&tree, layout.device_tree);
    cache::clean(layout.ram.start, mib * MIB);
    cache::invalidate_instructions();

    let domain = monitor.domains.get_mut(id).ok_or(BuildError::Map(Errno::ESRCH))?;
    let prepared = domain.grants.prepare_to_map(&mut monitor.frames, id);
    prepared.map_err(|error| BuildError::Map(error.into()))?;
    for device in &machine.virtio {
        if let Some(domain) = monitor.domains.get_mut(id)
            && !domain.interrupts.assign_physical(device.interrupt.0)
        {
            log::warn!("interrupt {} is out of dom0's range", device.interrupt.0);
        }
    }
    let key = VcpuKey { domain: id, vcpu: VcpuId(0) };
    start_vcpu(monitor, key, layout.entry, layout.device_tree).map_err(BuildError::Map)?;
    monitor.unpause_domain(privileged, id).map_err(BuildError::Map)?;
    log::info!("dom0: {mib} MiB at {:#x}, entry {:#x}", layout.ram.start, layout.entry);
    Ok(id)
}

/// The number in `name=<number>` on the monitor's command line.
fn option<T: FromStr>(bootargs: &str, name: &str) -> Option<T> {
    let options = bootargs.split_whitespace().filter_map(|word| word.split_once('='));
    options.filter(|&(key, _)| key == name).find_map(|(_, value)| value.parse().ok())
}

/// `dom0_max_vcpus=<number>`. More than a domain can have, or none, is set right: a machine that
/// does not boot has no prompt at which to read why.
fn vcpus(bootargs: &str) -> u32 {
    let wanted = option(bootargs, "dom0_max_vcpus").unwrap_or(DEFAULT_VCPUS);
    let given = wanted.clamp(1, MAX_VCPUS as u32);
    if given != wanted {
        log::warn!("dom0_max_vcpus={wanted}: dom0 has {given}, a domain may have 1 to {MAX_VCPUS}");
    }
    given
}

/// Frames of the virtio devices' registers, each once: several devices share a page.
fn device_frames(machine: &Machine) -> impl Iterator<Item = Range<u64>> {
    let frame = |address: u64| Mfn::containing(address).0;
    let devices = machine.virtio.iter();
    let mut mapped = 0;
    devices.filter_map(move |device| {
        let start = frame(device.registers.start).max(mapped);
        let end = frame(device.registers.end.checked_sub(1)?).checked_add(1)?;
        mapped = mapped.max(end);
        (start < end).then_some(start..end)
    })
}

/// The domain's device tree.
fn device_tree(machine: &Machine, bootargs: &str, vcpus: u32, layout: &Layout) -> Option<Vec<u8>> {
    let virtio: Vec<VirtioDevice> = machine
        .virtio
        .iter()
        .map(|device| VirtioDevice {
            registers: device.registers.clone(),
            intid: device.interrupt.0,
        })
        .collect();
    let platform = Platform {
        compatible: &["aurochs,dom0", "linux,dummy-virt"],
        model: "Aurochs dom0",
        memory: core::slice::from_ref(&layout.ram),
        vcpus,
        gicd: machine.gicd.clone(),
        gicr: machine.gicr.clone(),
        grant_window: Some(grant_window(machine)?),
        bootargs,
        initrd: layout.ramdisk.clone(),
        unused: None,
        uart: None,
        virtio: &virtio,
    };
    let tree = platform.build().inspect_err(report).ok()?;
    (tree.len() as u64 <= DEVICE_TREE_SIZE).then_some(tree)
}

fn report(error: &builder::Error) {
    log::error!("dom0's device tree: {error:?}");
}

/// Guest-physical addresses with nothing behind them in the machine: beyond all RAM.
fn grant_window(machine: &Machine) -> Option<Range<u64>> {
    const ALIGNMENT: u64 = 1 << 30;
    let end = machine.memory.iter().map(|range| range.end).max()?;
    let start = end.checked_next_multiple_of(ALIGNMENT)?;
    Some(start..start.checked_add(GRANT_WINDOW_SIZE)?)
}

fn image_header(module: &Module) -> Option<ImageHeader> {
    let mut header = [0; ImageHeader::SIZE];
    if module.range.end.checked_sub(module.range.start)? < header.len() as u64 {
        return None;
    }
    boot_frame(module.range.start).read(page_offset(module.range.start), &mut header);
    ImageHeader::parse(&header)
}

/// Copies a module to a machine address that is the domain's.
fn copy_module(module: &Module, to: u64) {
    let (mut from, mut to) = (module.range.start, to);
    while from < module.range.end {
        let room = PAGE_SIZE - page_offset(from).max(page_offset(to));
        let length = room.min((module.range.end - from) as usize);
        boot_frame(from).copy_to(page_offset(from), boot_frame(to), page_offset(to), length);
        from += length as u64;
        to += length as u64;
    }
}

/// Copies bytes to a machine address, at the start of a frame, that is the domain's.
fn copy_bytes(bytes: &[u8], to: u64) {
    for (frame, chunk) in (Mfn::containing(to).0..).zip(bytes.chunks(PAGE_SIZE)) {
        boot_frame(Mfn(frame).address()).write(0, chunk);
    }
}

/// The frame of a module or of the new domain's RAM.
fn boot_frame(address: u64) -> RamFrame {
    // SAFETY: both are RAM, which the monitor maps for ever; at boot nothing else refers to
    // either.
    unsafe { RamFrame::new(Mfn::containing(address)) }
}

const fn page_offset(address: u64) -> usize {
    (address % PAGE_SIZE as u64) as usize
}

/// Gives the modules' memory to the pool once they have been copied.
pub fn release_modules(monitor: &mut Monitor, machine: &Machine) {
    for module in [&machine.kernel, &machine.ramdisk].into_iter().flatten() {
        let start = Mfn(module.range.start.div_ceil(PAGE_SIZE as u64));
        let end = Mfn::containing(module.range.end);
        if start < end {
            // SAFETY: the module was RAM that only the copy used, and is not used any more.
            monitor.frames.add(&unsafe { RamRange::new(start, end) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: ImageHeader = ImageHeader { text_offset: 0x8_0000, image_size: 0x20_0000 };

    #[test]
    fn kernel_ramdisk_and_tree_do_not_overlap() {
        let layout = Layout::new(0x4800_0000..0x4880_0000, HEADER, Some(0x1234)).expect("it fits");
        assert_eq!(layout.entry, 0x4808_0000);
        assert_eq!(layout.device_tree, 0x487F_0000);
        assert_eq!(layout.ramdisk, Some(0x487E_E000..0x487E_F234));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(Layout::new(0x4800_0000..0x4820_0000, HEADER, None), None);
        assert_eq!(Layout::new(0x4800_0000..0x4880_0000, HEADER, Some(1 << 24)), None);
    }

    #[test]
    fn only_an_image_is_an_image() {
        let mut header = [0; ImageHeader::SIZE];
        assert_eq!(ImageHeader::parse(&header), None);
        header[16] = 1;
        header[56..60].copy_from_slice(b"ARM\x64");
        let expected = ImageHeader { text_offset: 0, image_size: 1 };
        assert_eq!(ImageHeader::parse(&header), Some(expected));
    }

    #[test]
    fn an_option_is_found_among_others() {
        assert_eq!(option("console=x dom0_mem=64 loglvl=all", "dom0_mem"), Some(64));
        assert_eq!(option::<u64>("dom0_memory=64", "dom0_mem"), None);
        assert_eq!(option::<u64>("dom0_mem=lots", "dom0_mem"), None);
    }

    #[test]
    fn dom0_has_at_least_one_vcpu_and_as_many_as_there_can_be() {
        assert_eq!(vcpus("dom0_mem=64"), 1);
        assert_eq!(vcpus("dom0_max_vcpus=4"), 4);
        assert_eq!((vcpus("dom0_max_vcpus=0"), vcpus("dom0_max_vcpus=9")), (1, 8));
    }
}
