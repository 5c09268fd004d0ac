//! The bench guest on Debian's Xen: two domains that Xen makes itself when it boots ("dom0less"),
//! described in its device tree.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use super::row::Rows;
use super::{Equipment, Request, TIMEOUT};
use crate::qemu::Process;

/// Bytes of the machine, and from the start of its RAM to the guests' images.
const MEMORY_MIB: u64 = 1024;
const IMAGES_OFFSET: u64 = 256 << 20;
/// Between one image and the next.
const IMAGE_DISTANCE: u64 = 16 << 20;
/// A guest's memory.
const GUEST_KIB: u32 = 32 << 10;
/// `xsm=dummy`: the default policy lets no guest share with another. `guest_loglvl`: a guest has no
/// other console.
const OPTIONS: &str = "console=dtuart dtuart=/pl011@9000000 bootscrub=0 guest_loglvl=all xsm=dummy";

/// A domain that Xen is to make. It counts them from 1.
struct Domain {
    number: u16,
    command_line: String,
    image_address: u64,
    image_size: u64,
}

/// Measures with the hypervisor at `hypervisor`.
///
/// # Errors
/// QEMU or the guest fails.
pub(super) fn measure(equipment: &Equipment, hypervisor: &Path, request: &Request) -> Result<Rows> {
    let image = equipment.images.guests.iter().find(|image| image.name == "bench");
    let image = &image.context("there is no bench guest")?.flat;
    let folder = tempfile::Builder::new().prefix("aurochs-xen-").tempdir()?;
    let tree = folder.path().join("machine.dtb");
    let domains = domains(equipment, request, image.metadata()?.len());

    let dump = format!("dumpdtb={}", tree.display());
    run_to_end(equipment, &board(equipment, request, &[&dump]))?;
    fs::write(&tree, with_domains(&fs::read(&tree)?, &domains)?)?;

    let mut arguments = board(equipment, request, &[]);
    let ruler = &equipment.virt.ruler.icount;
    arguments.extend(["-icount", ruler, "-serial", "stdio", "-kernel"].map(OsString::from));
    arguments.extend([hypervisor.into(), "-dtb".into(), tree.into()]);
    for domain in &domains {
        let place = format!("addr={:#x},force-raw=on", domain.image_address);
        let loader = format!("loader,file={},{place}", image.display());
        arguments.extend(["-device".into(), loader.into()]);
    }
    Rows::parse(&console(equipment, &arguments)?)
}

/// The one that measures, and its partner.
fn domains(equipment: &Equipment, request: &Request, image_size: u64) -> [Domain; 2] {
    let lines = [request.command_line(2), Request::partner_command_line(1)];
    let mut number = 0;
    lines.map(|command_line| {
        number += 1;
        let offset = IMAGES_OFFSET + u64::from(number - 1) * IMAGE_DISTANCE;
        let image_address = equipment.virt.memory.ram_base + offset;
        Domain { number, command_line, image_address, image_size }
    })
}

/// What QEMU is told of the board; more of the machine's properties may follow.
fn board(equipment: &Equipment, request: &Request, more: &[&str]) -> Vec<OsString> {
    let (machine, ruler) = (&equipment.virt.machine, &equipment.virt.ruler);
    let mut properties = vec![machine.r#type.as_str()];
    properties.extend(machine.options.iter().map(String::as_str));
    properties.extend(more);
    let values = [
        ("-machine", properties.join(",")),
        ("-cpu", format!("{},cntfrq={}", ruler.cpu, ruler.counter_hertz)),
        ("-smp", request.cpus.to_string()),
        ("-m", format!("{MEMORY_MIB}M")),
        ("-display", "none".into()),
    ];
    let words = values.into_iter().flat_map(|(name, value)| [name.into(), value.into()]);
    words.chain(["-nodefaults".into(), "-no-reboot".into()]).collect()
}

fn run_to_end(equipment: &Equipment, arguments: &[OsString]) -> Result<()> {
    let mut process = Process::with_arguments(&equipment.qemu, arguments)?;
    match process.wait(Some(Instant::now() + TIMEOUT))? {
        Some(exit) if exit.status.success() => Ok(()),
        Some(exit) => bail!("QEMU ended ({}): {}", exit.status, exit.message),
        None => bail!("QEMU did not describe its board"),
    }
}

/// What the console shows until the guest ends.
fn console(equipment: &Equipment, arguments: &[OsString]) -> Result<String> {
    let mut process = Process::with_arguments(&equipment.qemu, arguments)?;
    let deadline = Instant::now() + TIMEOUT;
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if Rows::ended(&text) {
            process.terminate();
            return Ok(text.into_owned());
        }
        match process.read(deadline) {
            Ok(Some(more)) => bytes.extend(more),
            Ok(None) => bail!("QEMU ended; the console showed:\n{text}"),
            Err(_) => bail!("timeout after {} s; the console showed:\n{text}", TIMEOUT.as_secs()),
        }
    }
}

/// The board's device tree with what Xen reads: its own options, and the domains (Xen,
/// docs/misc/arm/device-tree/booting.txt).
fn with_domains(board: &[u8], domains: &[Domain]) -> Result<Vec<u8>> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(board)?);
    let chosen = tree.root.child_mut("chosen").context("the board has no /chosen")?;
    chosen.add_property(property("xen,xen-bootargs", OPTIONS)?);
    chosen.add_property(property("#address-cells", 2_u32)?);
    chosen.add_property(property("#size-cells", 2_u32)?);
    for domain in domains {
        chosen.add_child(domain.node()?);
    }
    Ok(tree.to_dtb())
}

impl Domain {
    fn node(&self) -> Result<DeviceTreeNode> {
        let mut node = DeviceTreeNode::new(format!("domU{}", self.number))?;
        node.add_property(property("compatible", "xen,domain")?);
        node.add_property(property("#address-cells", 2_u32)?);
        node.add_property(property("#size-cells", 2_u32)?);
        node.add_property(property("memory", [0, GUEST_KIB])?);
        node.add_property(property("cpus", 1_u32)?);
        node.add_property(property("xen,enhanced", "no-xenstore")?);
        let mut module = DeviceTreeNode::new(format!("module@{:x}", self.image_address))?;
        let kinds = ["multiboot,kernel", "multiboot,module"];
        module.add_property(property("compatible", kinds.as_slice())?);
        let place = [self.image_address, self.image_size].map(u64::to_be_bytes).concat();
        module.add_property(property("reg", place)?);
        module.add_property(property("bootargs", self.command_line.as_str())?);
        node.add_child(module);
        Ok(node)
    }
}

fn property(name: &str, value: impl dtoolkit::ToPropertyValue) -> Result<DeviceTreeProperty> {
    DeviceTreeProperty::new(name, value).map_err(|error| anyhow!("{name}: {error}"))
}
