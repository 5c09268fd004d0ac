//! `cargo xtask bench io`: what a guest's disk costs.
//!
//! By the ruler, instructions for one transfer of a disk in dom0's memory, everything included. By
//! the clock, how much of dom0's own throughput on a disk of the machine a guest reaches: dom0 and
//! the guest in turns, in one run, on one CPU that they share and on one each.

use anyhow::{Context, Result, ensure};
use comfy_table::Cell;
use serde_json::{Value, json};

use super::table::{empty, number};
use super::{Equipment, TIMEOUT};
use crate::image::disk;
use crate::options;
use crate::qemu::Machine;
use crate::session::Session;

/// How Xen's figures were taken.
const PEER: &str = "Debian Xen 4.17 with Linux dom0 and guest, O_DIRECT dd, QEMU 10.0.2";
/// MiB of the disk that is read and written.
const DISK_MIB: u64 = 64;
/// How often throughput is measured, of dom0 and of the guest in turns; the median counts.
const ROUNDS: usize = 7;

/// A transfer of which the instructions are counted.
struct Transfer {
    title: &'static str,
    size: &'static str,
    count: u32,
    /// Instructions that a read is to take at most.
    bar: u64,
    /// What Xen takes to read and to write.
    peer: [&'static str; 2],
}

const TRANSFERS: [Transfer; 3] = [
    Transfer {
        title: "4 KiB",
        size: "4K",
        count: 500,
        bar: 8_000,
        peer: ["52,600", "53,600 to 60,700"],
    },
    Transfer { title: "64 KiB", size: "64K", count: 256, bar: 20_000, peer: ["98,500", "130,000"] },
    Transfer {
        title: "1 MiB",
        size: "1M",
        count: 16,
        bar: 220_000,
        peer: ["884,000 to 912,000", "1,400,000"],
    },
];

/// A block size at which throughput is measured.
struct Throughput {
    title: &'static str,
    size: &'static str,
    count: u32,
    /// Transfers at once, of the guest and of dom0 alike.
    depth: u32,
    /// How much of dom0's own a guest is to reach.
    bar: f64,
    peer: &'static str,
}

/// Where throughput is measured. dom0 is on CPU 0.
struct Place {
    cpus: u32,
    /// The guest's CPU.
    guest: u32,
}

const PLACES: [Place; 2] = [Place { cpus: 2, guest: 1 }, Place { cpus: 1, guest: 0 }];

const THROUGHPUTS: [Throughput; 4] = [
    Throughput { title: "1 MiB", size: "1M", count: 128, depth: 8, bar: 0.9, peer: "" },
    Throughput { title: "64 KiB", size: "64K", count: 512, depth: 8, bar: 0.8, peer: "" },
    Throughput { title: "1 MiB", size: "1M", count: 128, depth: 1, bar: 0.9, peer: "0.21 to 0.36" },
    Throughput { title: "64 KiB", size: "64K", count: 512, depth: 1, bar: 0.8, peer: "" },
];

/// Measures and prints.
///
/// # Errors
/// The machine or a guest fails. A bar that is missed is no error.
pub(super) fn run(equipment: &Equipment, options: &options::Bench) -> Result<()> {
    let instructions = count_instructions(equipment)?;
    let speeds = measure_speeds(equipment)?;
    if options.json {
        println!("{:#}", json!({ "instructions": instructions, "throughput": speeds }));
        return Ok(());
    }
    println!(
        "Instructions for one transfer, at EL1 and EL2 together: guest, monitor and dom0; one at a \
         time,\nof a disk in dom0's memory; median, by the ruler: QEMU {}, -icount {}.\nXen: {PEER}.",
        equipment.qemu.version, equipment.virt.ruler.icount
    );
    println!("{}\n", instructions_table(&instructions));
    println!(
        "Throughput of a guest on a disk of the machine, as a part of dom0's own on the same one, by \
         the clock:\nsequential, the same transfers and as many at once by both, in turns on one \
         machine; medians of {ROUNDS}.\n\
         \"Of times\": the ratio of the median times of one transfer.\n\
         Two CPUs: one for dom0, one for the guest. The disk is a file in the host's page cache.\n\
         A busy host makes the ratio worse: a guest needs more of its \
         threads. This one has {} CPUs.\nXen: {PEER}; reads, one at a time, 4 CPUs.",
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    println!("{}", speeds_table(&speeds));
    Ok(())
}

fn count_instructions(equipment: &Equipment) -> Result<Vec<Value>> {
    eprintln!("Counting instructions");
    let options = options::Machine { smp: 1, icount: true, ..Default::default() };
    let mut session = start(equipment, &options)?;
    let mut rows = Vec::new();
    for transfer in &TRANSFERS {
        let Transfer { size, count, .. } = transfer;
        // The first round makes the disk's pages.
        let line = format!("op=write,write,read bs={size} count={count}");
        let output = create(&mut session, "ram:16M,xvda,w", &line)?;
        let median = |operation: &str| result(&output, operation).map(|line| line.median);
        let (read, write) = (median("Read")?, median("Write")?);
        rows.push(json!({
            "transfer": transfer.title, "read": read, "write": write, "bar": transfer.bar,
            "within_bar": read <= transfer.bar, "xen": transfer.peer,
        }));
    }
    session.power_off()?;
    Ok(rows)
}

fn measure_speeds(equipment: &Equipment) -> Result<Vec<Value>> {
    eprintln!("Measuring throughput");
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("disk.img");
    disk::random(&image, DISK_MIB)?;
    let mut rows = Vec::new();
    for place in &PLACES {
        let options =
            options::Machine { smp: place.cpus, disks: vec![image.clone()], ..Default::default() };
        let mut session = start(equipment, &options)?;
        let pinned = session.run("xl vcpu-pin dom0 all 0")?;
        ensure!(pinned.status == 0, "dom0 cannot be pinned: {}", pinned.text.trim());
        for throughput in &THROUGHPUTS {
            for operation in ["read", "write"] {
                let speeds = speeds(&mut session, place, throughput, operation)?;
                rows.push(json!({
                    "transfer": format!("{} {operation}", throughput.title), "cpus": place.cpus,
                    "depth": throughput.depth, "guest": speeds.guest, "dom0": speeds.dom0,
                    "ratio": speeds.ratio, "ratio_of_times": speeds.ratio_of_times, "bar": throughput.bar,
                    "within_bar": speeds.ratio >= throughput.bar, "xen": throughput.peer,
                }));
            }
        }
        session.power_off()?;
    }
    Ok(rows)
}

/// Medians of all rounds.
struct Speeds {
    /// Bytes in a microsecond.
    guest: f64,
    dom0: f64,
    /// Of what the guest reached right after dom0.
    ratio: f64,
    /// The same of the median time of one transfer: what it takes when the host does not stop one of
    /// QEMU's threads meanwhile.
    ratio_of_times: f64,
}

/// Measures dom0 and a guest in turns.
fn speeds(
    session: &mut Session,
    place: &Place,
    throughput: &Throughput,
    operation: &str,
) -> Result<Speeds> {
    let Throughput { size, count, depth, .. } = throughput;
    let (mut guest, mut dom0) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let own = session.run(&format!("disk-speed disk0 {operation} {size} {count} {depth}"))?;
        ensure!(own.status == 0, "disk-speed failed: {}", own.text.trim());
        dom0.push(result(&own.text, operation)?);
        let line = format!("op={operation} bs={size} count={count} depth={depth}");
        let output = create(session, &format!("disk0,xvda,w cpus={}", place.guest), &line)?;
        let operation = if operation == "read" { "Read" } else { "Write" };
        guest.push(result(&output, operation)?);
    }
    let speed = |lines: &[Line]| median(lines.iter().map(Line::speed).collect());
    let ratio = |of: fn(&Line) -> f64| {
        median(guest.iter().zip(&dom0).map(|(guest, dom0)| of(guest) / of(dom0)).collect())
    };
    Ok(Speeds {
        guest: speed(&guest),
        dom0: speed(&dom0),
        ratio: ratio(Line::speed),
        ratio_of_times: ratio(|line| 1.0 / line.median.max(1) as f64),
    })
}

/// The middle one; there is at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Boots the machine.
pub(super) fn start(equipment: &Equipment, options: &options::Machine) -> Result<Session> {
    let machine = Machine::new(&equipment.qemu, &equipment.images, options)?;
    let mut session = Session::start(machine, TIMEOUT, None)?;
    session.wait_until_ready()?;
    Ok(session)
}

/// Runs the guest `dd`; returns what it printed.
fn create(session: &mut Session, disk: &str, command_line: &str) -> Result<String> {
    let output = session.run(&format!("xl create -c dd disk={disk} cmdline=\"{command_line}\""))?;
    ensure!(output.status == 0, "dd failed: {}", output.text.trim());
    Ok(output.text)
}

/// What a line such as `Read 256 of 65536 bytes in 5198 us, median 20100 ns` says.
struct Line {
    bytes: u64,
    microseconds: u64,
    median: u64,
}

impl Line {
    fn speed(&self) -> f64 {
        self.bytes as f64 / self.microseconds.max(1) as f64
    }
}

/// The last such line about an operation.
fn result(text: &str, operation: &str) -> Result<Line> {
    let parse = |line: &str| {
        let mut words = line.trim_start_matches("dd: ").split_whitespace();
        let mut number = |skip: usize| words.nth(skip)?.parse::<u64>().ok();
        let (count, size) = (number(1)?, number(1)?);
        let (microseconds, median) = (number(2)?, number(2)?);
        Some(Line { bytes: count * size, microseconds, median })
    };
    let about = |line: &&str| line.trim_start_matches("dd: ").starts_with(operation);
    let line = text.lines().map(str::trim).rfind(|line| about(line) && line.contains("median"));
    line.and_then(parse).with_context(|| format!("no figure for {operation} in: {text}"))
}

fn instructions_table(rows: &[Value]) -> comfy_table::Table {
    let header = ["Transfer", "Read", "Bar", "", "Write", "Xen: read", "Xen: write"];
    let mut table = empty(header.map(String::from));
    for row in rows {
        let count = |key: &str| number(row[key].as_u64().unwrap_or_default());
        let peer = |index: usize| Cell::new(row["xen"][index].as_str().unwrap_or_default());
        let transfer = Cell::new(row["transfer"].as_str().unwrap_or_default());
        table.add_row([
            transfer,
            count("read"),
            count("bar"),
            verdict(row),
            count("write"),
            peer(0),
            peer(1),
        ]);
    }
    table
}

fn speeds_table(rows: &[Value]) -> comfy_table::Table {
    let header = [
        "CPUs",
        "Transfer",
        "At once",
        "Guest MB/s",
        "dom0 MB/s",
        "Ratio",
        "Of times",
        "Bar",
        "",
        "Xen: ratio",
    ];
    let mut table = empty(header.map(String::from));
    for row in rows {
        let float = |key: &str| row[key].as_f64().unwrap_or_default();
        let text = |key: &str| Cell::new(row[key].as_str().unwrap_or_default());
        table.add_row([
            number(row["cpus"].as_u64().unwrap_or_default()),
            text("transfer"),
            number(row["depth"].as_u64().unwrap_or_default()),
            number(float("guest") as u64),
            number(float("dom0") as u64),
            Cell::new(format!("{:.2}", float("ratio"))),
            Cell::new(format!("{:.2}", float("ratio_of_times"))),
            Cell::new(format!("{:.1}", float("bar"))),
            verdict(row),
            text("xen"),
        ]);
    }
    table
}

/// Whether a row is within its bar.
pub(super) fn verdict(row: &Value) -> Cell {
    Cell::new(if row["within_bar"].as_bool() == Some(true) { "✓" } else { "✗" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_figure_counts() {
        let text = "dd: Write 4 of 65536 bytes in 5198 us, median 20100 ns, 0 errors\r\n\
            dd: Write 4 of 65536 bytes in 100 us, median 19999 ns, 0 errors\r\n\
            read 2 of 512 bytes in 10 us, median 5 ns\r\n";
        let line = result(text, "Write").unwrap();
        assert_eq!((line.bytes, line.microseconds, line.median), (262_144, 100, 19_999));
        let line = result(text, "read").unwrap();
        assert_eq!((line.bytes, line.microseconds, line.median), (1024, 10, 5));
        assert!(result(text, "Read").is_err());
    }
}
