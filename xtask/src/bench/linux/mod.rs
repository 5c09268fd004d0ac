//! `cargo xtask bench linux`: what Debian's Linux takes as a guest, by the ruler.
//!
//! Its boot, transfers of its disk with `dd`, and TCP between two of it with `iperf3` ([`workload`]).
//! A figure holds everything that was executed: in the guests, dom0 and the monitor. With `--peer`
//! the same is measured on Debian's Xen ([`xen`]), else what was measured once is shown.

mod workload;
mod xen;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comfy_table::Cell;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::io::{start, verdict};
use super::table::{empty, number};
use super::{Equipment, TIMEOUT, counters};
use crate::image::disk;
use crate::linux::Linux;
use crate::options;
use crate::session::Session;
use workload::{BOOT_LINE, BOOT_MIB, Cost, DISK_MIB, PACKAGES, Speed, TRANSFERS};

/// MiB of the machine: for two guests.
const MEMORY_MIB: u64 = 1024;

/// What Xen 4.17 takes for a boot of kernel 6.1: exits to the hypervisor. They are not counted here.
const XEN_EXITS: u64 = 959;
/// The same machine with Linux 6.1 as dom0 and guest, measured once with QEMU 10.0.2. TCP is that
/// between a guest and dom0, of which one end needs no backend; a guest to a guest is dearer.
const XEN_TRANSFERS: [Cost; 3] = [
    Cost { read: 52_600, write: 53_600 },
    Cost { read: 98_500, write: 130_000 },
    Cost { read: 884_000, write: 1_400_000 },
];
const XEN_TCP: u64 = 2388;
const XEN_BOOT: u64 = 771_398_000;
/// CPUs of the machine whose disk's throughput is measured.
const CPUS: u32 = 4;
/// How many times Xen's throughput there a guest is to reach.
const SPEED_UP: u64 = 3;

/// What was measured on one hypervisor.
#[derive(Debug)]
struct Figures {
    /// Instructions until the power goes off, as the kernel's clock counts them.
    boot: u64,
    /// For each of [`TRANSFERS`].
    transfers: Vec<Cost>,
    /// Mbit for 10^9 instructions.
    tcp: u64,
    /// On a disk of the machine. Measured only where both are: it says nothing beside another host's.
    speed: Option<Speed>,
}

/// A disk of the machine.
#[derive(Debug)]
struct Disk(TempDir);

impl Disk {
    fn new() -> Result<Disk> {
        let disk = Disk(tempfile::tempdir()?);
        disk::random(&disk.path(), DISK_MIB)?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("disk.img")
    }
}

/// Measures and prints.
///
/// # Errors
/// The machine or a guest fails. A bar that is missed is no error.
pub(super) fn run(equipment: &Equipment, options: &options::Bench) -> Result<()> {
    let release = options.linux_release.as_deref();
    let (exits, mut ours) = measure(equipment, release)?;
    if options.peer {
        ours.speed = Some(speed(equipment, release)?);
    }
    let theirs = match options.peer {
        true => xen::measure(equipment, release).context("on Xen")?,
        false => {
            Figures { boot: XEN_BOOT, transfers: XEN_TRANSFERS.into(), tcp: XEN_TCP, speed: None }
        }
    };
    let rows = rows(exits, &ours, &theirs);
    if options.json {
        println!("{:#}", json!({ "measured_on_xen": options.peer, "rows": rows }));
        return Ok(());
    }
    let how = if options.peer {
        "measured in the same go; throughput with four CPUs, a disk of the machine, medians"
    } else {
        "measured once, Linux 6.1; TCP between guest and dom0"
    };
    println!(
        "Linux as a guest, by the ruler: QEMU {}, -icount {}. Instructions in guests, dom0 and\n\
         hypervisor together; transfers are one O_DIRECT operation of dd on a disk in dom0's memory.\n\
         Xen: Debian Xen 4.17 with Linux as dom0, {how}.",
        equipment.qemu.version, equipment.virt.ruler.icount
    );
    println!("{}", table(&rows));
    Ok(())
}

/// The exits of a boot, and all figures.
fn measure(equipment: &Equipment, release: Option<&str>) -> Result<(u64, Figures)> {
    let machine = options::Machine {
        smp: 1,
        icount: true,
        linux: true,
        linux_release: release.map(String::from),
        memory: Some(MEMORY_MIB),
        ..Default::default()
    };
    eprintln!("On Aurochs: boot");
    let (exits, boot) = boot(start(equipment, &machine)?)?;
    let linux_packages = PACKAGES.map(String::from).into();
    let mut session = start(equipment, &options::Machine { linux_packages, ..machine })?;
    eprintln!("On Aurochs: disk");
    let commands = workload::transfer_commands();
    let console = create(&mut session, &format!("disk=ram:16M,xvda,w vif=[] run='{commands}'"))?;
    let transfers = workload::transfer_costs(&console)?;
    eprintln!("On Aurochs: network");
    let serve = workload::server_commands();
    succeed(&mut session, &format!("xl create linux name=server disk=[] run='{serve}'"))?;
    // Until it listens.
    succeed(&mut session, "sleep 3")?;
    let send = workload::client_commands();
    let console = create(&mut session, &format!("name=client disk=[] run='{send}'"))?;
    let tcp = workload::throughput(&console)?;
    session.power_off()?;
    Ok((exits, Figures { boot, transfers, tcp, speed: None }))
}

/// By the clock, on a disk of the machine.
fn speed(equipment: &Equipment, release: Option<&str>) -> Result<Speed> {
    eprintln!("On Aurochs: throughput");
    let image = Disk::new()?;
    let machine = options::Machine {
        smp: CPUS,
        disks: vec![image.path()],
        linux: true,
        linux_release: release.map(String::from),
        linux_packages: PACKAGES.map(String::from).into(),
        memory: Some(MEMORY_MIB),
        ..Default::default()
    };
    let mut session = start(equipment, &machine)?;
    let commands = workload::disk_commands();
    let console = create(&mut session, &format!("disk=disk0,xvda,w vif=[] run='{commands}'"))?;
    session.power_off()?;
    workload::disk_speeds(&console)
}

fn boot(mut session: Session) -> Result<(u64, u64)> {
    let arguments =
        format!("disk=[] vif=[] memory={BOOT_MIB} on_poweroff=preserve cmdline='{BOOT_LINE}'");
    let console = create(&mut session, &arguments)?;
    let counters = succeed(&mut session, "xl counters")?;
    session.power_off()?;
    let exits = counters::exits(&counters, Linux::NAME).context("no counters of linux")?;
    let instructions = workload::instructions_to_power_off(&console);
    Ok((exits, instructions.with_context(|| format!("it did not power off: {console}"))?))
}

/// Runs the guest until it has powered off; returns what it printed.
fn create(session: &mut Session, arguments: &str) -> Result<String> {
    succeed(session, &format!("xl create -c linux {arguments}"))
}

fn succeed(session: &mut Session, command: &str) -> Result<String> {
    let output = session.run(command)?;
    ensure!(output.status == 0, "`{command}` failed: {}", output.text.trim());
    Ok(output.text)
}

/// What was measured, what it is to be at most, and what Xen takes.
fn rows(exits: u64, ours: &Figures, theirs: &Figures) -> Vec<Value> {
    let at_most = |title: String, ours: u64, bar: u64, theirs: u64| json!({ "title": title, "aurochs": ours, "bar": bar, "within_bar": ours <= bar, "xen": theirs });
    let mut rows = vec![
        at_most("boot to power-off, exits".into(), exits, XEN_EXITS, XEN_EXITS),
        at_most("boot to power-off".into(), ours.boot, theirs.boot, theirs.boot),
    ];
    for ((transfer, ours), theirs) in TRANSFERS.iter().zip(&ours.transfers).zip(&theirs.transfers) {
        let title = transfer.title;
        rows.push(at_most(format!("{title} read"), ours.read, theirs.read / 2, theirs.read));
        rows.push(at_most(format!("{title} write"), ours.write, theirs.write / 2, theirs.write));
    }
    let at_least = |title: &str, ours: u64, bar: u64, theirs: u64| json!({ "title": title, "aurochs": ours, "bar": bar, "within_bar": ours >= bar, "xen": theirs });
    let tcp = "TCP, Mbit for 10^9 instructions, at least";
    rows.push(at_least(tcp, ours.tcp, theirs.tcp * 2, theirs.tcp));
    if let (Some(ours), Some(theirs)) = (ours.speed, theirs.speed) {
        let mut add = |title, ours, theirs| {
            rows.push(at_least(title, ours, theirs * SPEED_UP, theirs));
        };
        add("1 MiB reads, MB/s by the clock, at least", ours.read, theirs.read);
        add("1 MiB writes, MB/s by the clock, at least", ours.write, theirs.write);
    }
    rows
}

fn table(rows: &[Value]) -> comfy_table::Table {
    let mut table = empty(["", "Aurochs", "Bar", "", "Xen", "Xen / Aurochs"].map(String::from));
    for row in rows {
        let value = |key: &str| row[key].as_u64().unwrap_or_default();
        let ratio = value("xen") as f64 / value("aurochs").max(1) as f64;
        table.add_row([
            Cell::new(row["title"].as_str().unwrap_or_default()),
            number(value("aurochs")),
            number(value("bar")),
            verdict(row),
            number(value("xen")),
            Cell::new(format!("{ratio:.2}")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_the_bar_of_what_costs_and_twice_that_of_what_yields() {
        let figures = |factor: u64| Figures {
            boot: 100,
            transfers: vec![Cost { read: 10 * factor, write: 20 * factor }; TRANSFERS.len()],
            tcp: 1000 / factor,
            speed: Some(Speed { read: 3000 / factor, write: 6000 / factor }),
        };
        let rows = rows(959, &figures(1), &figures(3));
        assert!(rows.iter().all(|row| row["within_bar"] == true), "{rows:?}");
        let rows = super::rows(960, &figures(1), &figures(1));
        let missed = rows.iter().filter(|row| row["within_bar"] == false).count();
        assert_eq!(missed, rows.len() - 1);
    }
}
