//! A machine with Debian's Xen: what QEMU is told of the board, and Xen, by the device tree, of the
//! domains that it makes itself (Xen, docs/misc/arm/device-tree/booting.txt).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dtoolkit::ToPropertyValue;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use serde_json::json;

use super::Console;
use crate::build::Images;
use crate::qemu::{Process, Virt};
use crate::setup::{self, Qemu};

const OPTIONS: &str = "console=dtuart dtuart=/pl011@9000000 bootscrub=0";
/// For guests that Xen makes itself: they have no other console, and the default policy lets none
/// share with another. Xen counts down some seconds to warn of the latter.
const GUESTS_OPTIONS: &str = " guest_loglvl=all xsm=dummy";
/// Bytes from the start of RAM to what Xen shall boot.
const MODULES_OFFSET: u64 = 256 << 20;
/// Each of those begins at a multiple of this.
const ALIGNMENT: u64 = 2 << 20;
/// How long QEMU may take to describe its board.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with Xen.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its CPUs.
    pub cpus: u32,
    /// Its memory.
    pub memory_mib: u64,
    /// Whether one tick of its counter is one executed instruction.
    pub ruler: bool,
    /// Its disks, as raw images. Each has its number as its serial number: "disk0".
    pub disks: Vec<PathBuf>,
    /// The domain that runs the others.
    pub dom0: Option<Dom0>,
    /// Domains that Xen makes itself. It counts them from 1.
    pub guests: Vec<Guest>,
}

/// The domain that runs the others.
#[derive(Debug, Clone)]
pub struct Dom0 {
    /// Its kernel's image.
    pub kernel: PathBuf,
    /// Its initial ramdisk.
    pub ramdisk: PathBuf,
    /// Its kernel's command line.
    pub command_line: String,
    /// Its memory.
    pub memory_mib: u64,
    /// Its vCPUs.
    pub vcpus: u32,
}

/// A domain that Xen makes itself ("dom0less"): it has neither store nor devices.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its kernel's image.
    pub kernel: PathBuf,
    /// Its initial ramdisk. A guest that has one has a UART (vpl011), too.
    pub ramdisk: Option<PathBuf>,
    /// Its command line.
    pub command_line: String,
    /// Its memory.
    pub memory_kib: u32,
}

impl Guest {
    /// One of this project's, from the images that were built.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn ours(images: &Images, name: &str, command_line: &str, memory_kib: u32) -> Result<Guest> {
        let image = images.guests.iter().find(|image| image.name == name);
        let image = image.with_context(|| format!("there is no guest `{name}`"))?;
        let (kernel, command_line) = (image.flat.clone(), command_line.into());
        Ok(Guest { kernel, ramdisk: None, command_line, memory_kib })
    }
}

impl Machine {
    /// One of one CPU, under the ruler, where Xen makes these domains and there is no dom0. Not every
    /// QEMU has Xen boot with more CPUs there.
    pub fn dom0less(guests: Vec<Guest>) -> Machine {
        Machine { cpus: 1, memory_mib: 512, ruler: true, disks: Vec::new(), dom0: None, guests }
    }

    /// Boots it; it may take `timeout` in all. `name` is that of its console's log.
    ///
    /// # Errors
    /// Xen cannot be fetched, or QEMU cannot be started.
    pub fn boot(&self, qemu: &Qemu, name: &str, timeout: Duration) -> Result<Console> {
        let (virt, hypervisor) = (Virt::load(), setup::xen()?);
        let folder = tempfile::Builder::new().prefix("aurochs-xen-").tempdir()?;
        let tree = folder.path().join("machine.dtb");
        let dump = format!("dumpdtb={}", tree.display());
        run_to_end(qemu, &self.board(&virt, &[&dump])?)?;
        let mut modules = Modules::new(&virt);
        fs::write(&tree, self.describe(&fs::read(&tree)?, &mut modules)?)?;
        let mut arguments = self.board(&virt, &[])?;
        arguments.extend(["-serial", "stdio", "-kernel"].map(OsString::from));
        arguments.extend([hypervisor.into(), "-dtb".into(), tree.into()]);
        arguments.extend(modules.arguments);
        Console::open(Process::with_arguments(qemu, &arguments)?, folder, name, timeout)
    }

    /// What QEMU is told of the board; more of the machine's properties may follow.
    fn board(&self, virt: &Virt, more: &[&str]) -> Result<Vec<OsString>> {
        let (machine, ruler) = (&virt.machine, &virt.ruler);
        let mut properties = vec![machine.r#type.as_str()];
        properties.extend(machine.options.iter().map(String::as_str));
        properties.extend(more);
        let mut line = Line::default();
        line.option("-machine", properties.join(","));
        if self.ruler {
            line.option("-cpu", format!("{},cntfrq={}", ruler.cpu, ruler.counter_hertz));
            line.option("-icount", &ruler.icount);
        } else {
            line.option("-cpu", &machine.cpu);
        }
        line.option("-smp", self.cpus.to_string());
        line.option("-m", format!("{}M", self.memory_mib));
        line.option("-display", "none");
        line.0.extend(["-nodefaults".into(), "-no-reboot".into()]);
        line.option("-global", "virtio-mmio.force-legacy=false");
        for (number, image) in self.disks.iter().enumerate() {
            let path = image.to_str().context("a disk's path is not UTF-8")?;
            let (node, bus) = (format!("disk{number}"), &virt.virtio.bus_prefix);
            let file = json!({ "driver": "file", "filename": path });
            let drive = json!({ "driver": "raw", "node-name": node, "file": file });
            let device = json!({
                "driver": "virtio-blk-device", "drive": node, "serial": node,
                "bus": format!("{bus}{number}"),
            });
            line.option("-blockdev", drive.to_string());
            line.option("-device", device.to_string());
        }
        Ok(line.0)
    }

    /// The board's device tree with what Xen reads: its own options, and the domains.
    fn describe(&self, board: &[u8], modules: &mut Modules) -> Result<Vec<u8>> {
        let mut tree = DeviceTree::from_fdt(&Fdt::new(board)?);
        let chosen = tree.root.child_mut("chosen").context("the board has no /chosen")?;
        let mut options = OPTIONS.to_string();
        if let Some(dom0) = &self.dom0 {
            let Dom0 { memory_mib, vcpus, .. } = dom0;
            options.push_str(&format!(" dom0_mem={memory_mib}M dom0_max_vcpus={vcpus}"));
            chosen.add_property(property("xen,dom0-bootargs", dom0.command_line.as_str())?);
            chosen.add_child(modules.add("kernel", &dom0.kernel)?);
            chosen.add_child(modules.add("ramdisk", &dom0.ramdisk)?);
        }
        if !self.guests.is_empty() {
            options.push_str(GUESTS_OPTIONS);
        }
        chosen.add_property(property("xen,xen-bootargs", options.as_str())?);
        chosen.add_property(property("#address-cells", 2_u32)?);
        chosen.add_property(property("#size-cells", 2_u32)?);
        for (index, guest) in self.guests.iter().enumerate() {
            chosen.add_child(guest.node(index + 1, modules)?);
        }
        Ok(tree.to_dtb())
    }
}

impl Guest {
    fn node(&self, number: usize, modules: &mut Modules) -> Result<DeviceTreeNode> {
        let mut node = DeviceTreeNode::new(format!("domU{number}"))?;
        node.add_property(property("compatible", "xen,domain")?);
        node.add_property(property("#address-cells", 2_u32)?);
        node.add_property(property("#size-cells", 2_u32)?);
        node.add_property(property("memory", [0, self.memory_kib])?);
        node.add_property(property("cpus", 1_u32)?);
        node.add_property(property("xen,enhanced", "no-xenstore")?);
        let mut kernel = modules.add("kernel", &self.kernel)?;
        kernel.add_property(property("bootargs", self.command_line.as_str())?);
        node.add_child(kernel);
        if let Some(ramdisk) = &self.ramdisk {
            node.add_property(property("vpl011", [0_u8; 0])?);
            node.add_child(modules.add("ramdisk", ramdisk)?);
        }
        Ok(node)
    }
}

/// What Xen shall boot, and where it is in memory.
struct Modules {
    /// The next one's address.
    address: u64,
    /// Has QEMU load them.
    arguments: Vec<OsString>,
}

impl Modules {
    fn new(virt: &Virt) -> Modules {
        Modules { address: virt.memory.ram_base + MODULES_OFFSET, arguments: Vec::new() }
    }

    /// Places a file; returns the node that says where it is.
    fn add(&mut self, kind: &str, file: &Path) -> Result<DeviceTreeNode> {
        let (address, size) = (self.address, file.metadata()?.len());
        let loader = format!("loader,file={},addr={address:#x},force-raw=on", file.display());
        self.arguments.extend(["-device".into(), loader.into()]);
        self.address = (address + size).next_multiple_of(ALIGNMENT);
        let mut node = DeviceTreeNode::new(format!("module@{address:x}"))?;
        let kinds = [&format!("multiboot,{kind}"), "multiboot,module"];
        node.add_property(property("compatible", kinds.as_slice())?);
        node.add_property(property("reg", [address, size].map(u64::to_be_bytes).concat())?);
        Ok(node)
    }
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.extend([name.into(), value.into()]);
    }
}

fn run_to_end(qemu: &Qemu, arguments: &[OsString]) -> Result<()> {
    let mut process = Process::with_arguments(qemu, arguments)?;
    match process.wait(Some(Instant::now() + PATIENCE))? {
        Some(exit) if exit.status.success() => Ok(()),
        Some(exit) => bail!("QEMU ended ({}): {}", exit.status, exit.message),
        None => bail!("QEMU did not describe its board"),
    }
}

fn property(name: &str, value: impl ToPropertyValue) -> Result<DeviceTreeProperty> {
    DeviceTreeProperty::new(name, value).map_err(|error| anyhow!("{name}: {error}"))
}
