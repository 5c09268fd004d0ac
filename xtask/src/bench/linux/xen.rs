//! The same on Debian's Xen, whose dom0 is Debian's Linux, too.

use std::fs;

use anyhow::{Context, Result};

use super::workload::{
    BOOT_LINE, BOOT_MIB, LISTENING, PACKAGES, Speed, client_commands, disk_commands, disk_speeds,
    instructions_to_power_off, server_commands, throughput, transfer_commands, transfer_costs,
};
use super::{CPUS, Disk, Equipment, Figures, TIMEOUT};
use crate::linux::Linux;
use crate::peer::{Domain, Guest, LinuxDom0, Machine, Step};

/// dom0 holds the images of three guests.
const DOM0_MIB: u64 = 1024;
const MEMORY_MIB: u64 = 2048;

/// Measures there.
pub(super) fn measure(equipment: &Equipment, release: Option<&str>) -> Result<Figures> {
    let boot = boot(equipment, release)?;
    let linux = |name: &str, commands: String| -> Result<Domain> {
        let domain = Domain::linux(release, &PACKAGES, &[])?;
        Ok(domain.named(name).with("run", commands))
    };
    let disk = vec!["vdev=xvda, access=rw, target=/dev/ram0"];
    let nothing: Vec<String> = Vec::new();
    let machine = LinuxDom0 {
        name: "bench-linux".into(),
        cpus: 1,
        memory_mib: MEMORY_MIB,
        dom0_mib: DOM0_MIB,
        ruler: true,
        guests: vec![
            linux("disk", transfer_commands())?.with("disk", disk).with("vif", nothing),
            linux("server", server_commands())?,
            linux("client", client_commands())?,
        ],
        steps: vec![
            Step::new("disk", "run_guest disk"),
            Step::new("server", format!("create server && wait_for_line server '{LISTENING}'")),
            Step::new("client", "run_guest client"),
        ],
        timeout: TIMEOUT,
        ..LinuxDom0::default()
    };
    let report = machine.run(&equipment.qemu, &|step| eprintln!("On Xen: {step}"))?;
    let transfers = transfer_costs(report.of("disk")?)?;
    report.of("server")?;
    let tcp = throughput(report.of("client")?)?;
    Ok(Figures { boot, transfers, tcp, speed: Some(speed(equipment, release)?) })
}

/// By the clock, on a disk of the machine.
fn speed(equipment: &Equipment, release: Option<&str>) -> Result<Speed> {
    let disk = Disk::new()?;
    let nothing: Vec<String> = Vec::new();
    let guest = Domain::linux(release, &PACKAGES, &[0])?.with("vif", nothing);
    let machine = LinuxDom0 {
        name: "bench-linux-disk".into(),
        cpus: CPUS,
        memory_mib: MEMORY_MIB,
        dom0_mib: DOM0_MIB,
        ruler: false,
        disks: vec![disk.path()],
        guests: vec![guest.with("run", disk_commands())],
        steps: vec![Step::new("throughput", format!("run_guest {}", Linux::NAME))],
        timeout: TIMEOUT,
        ..LinuxDom0::default()
    };
    let report = machine.run(&equipment.qemu, &|step| eprintln!("On Xen: {step}"))?;
    disk_speeds(report.of("throughput")?)
}

/// Without a toolstack: Xen makes the guest when it boots.
fn boot(equipment: &Equipment, release: Option<&str>) -> Result<u64> {
    eprintln!("On Xen: boot");
    let folder = tempfile::tempdir()?;
    let [kernel, ramdisk] = ["kernel", "ramdisk"].map(|name| folder.path().join(name));
    let linux = Linux::fetched(release, &[])?;
    fs::write(&kernel, &linux.kernel)?;
    fs::write(&ramdisk, &linux.ramdisk)?;
    let guest = Guest {
        kernel,
        ramdisk: Some(ramdisk),
        command_line: format!("console=ttyAMA0 {BOOT_LINE}"),
        memory_kib: BOOT_MIB << 10,
    };
    let machine = Machine {
        cpus: 1,
        memory_mib: MEMORY_MIB,
        ruler: true,
        disks: Vec::new(),
        dom0: None,
        guests: vec![guest],
    };
    let mut console = machine.boot(&equipment.qemu, "bench-linux-boot", TIMEOUT)?;
    console.wait_for("the guest's end", |text| instructions_to_power_off(text).is_some())?;
    instructions_to_power_off(&console.text()).context("the guest did not power off")
}
