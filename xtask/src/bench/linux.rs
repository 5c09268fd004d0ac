//! `cargo xtask bench linux`: what Debian's Linux takes as a guest, by the ruler.
//!
//! Its boot, transfers of its disk with `dd`, and TCP between two of it with `iperf3`. A figure
//! holds everything that was executed: in the guests, dom0 and the monitor.

use anyhow::{Context, Result, ensure};
use comfy_table::Cell;
use serde_json::{Value, json};

use super::io::{start, verdict};
use super::table::{empty, number};
use super::{Equipment, counters};
use crate::linux::Linux;
use crate::options;
use crate::session::Session;

/// How Xen's figures were taken.
const PEER: &str = "Debian Xen 4.17, Linux 6.1, QEMU 10.0.2: boot without a toolstack, dd and iperf3 with \
     a Linux dom0, iperf3\nbetween guest and dom0";
/// Debian's packages with the programs.
const PACKAGES: [&str; 2] = ["coreutils", "iperf3"];
/// MiB of the machine: for two guests.
const MEMORY_MIB: u64 = 1024;

/// A boot that ends at once.
const BOOT: &str = "disk=[] vif=[] memory=512 on_poweroff=preserve \
     cmdline='quiet rdinit=/bin/busybox -- poweroff -f'";
/// What Xen takes for it with kernel 6.1 and the same initial ramdisk: exits to the hypervisor, and
/// instructions until the power goes off, as the kernel's clock counts them.
const BOOT_PEER: [u64; 2] = [959, 771_398_000];

/// A size of transfers, and how many are done.
struct Transfer {
    title: &'static str,
    size: &'static str,
    count: u32,
    /// Instructions for a read and for a write: half of what Xen takes.
    bars: [u64; 2],
    peer: [&'static str; 2],
}

const TRANSFERS: [Transfer; 3] = [
    Transfer {
        title: "4 KiB",
        size: "4k",
        count: 2048,
        bars: [26_300, 26_800],
        peer: ["52,600", "53,600 to 60,700"],
    },
    Transfer {
        title: "64 KiB",
        size: "64k",
        count: 256,
        bars: [49_250, 65_000],
        peer: ["98,500", "130,000"],
    },
    Transfer {
        title: "1 MiB",
        size: "1M",
        count: 16,
        bars: [442_000, 700_000],
        peer: ["884,000 to 912,000", "1,400,000"],
    },
];

/// Mbit for 10^9 instructions, twice what Xen reaches; and that.
const TCP_BAR: u64 = 4776;
const TCP_PEER: &str = "2,388 to 2,807";

/// Measures and prints.
///
/// # Errors
/// The machine or a guest fails. A bar that is missed is no error.
pub(super) fn run(equipment: &Equipment, options: &options::Bench) -> Result<()> {
    let machine = options::Machine {
        smp: 1,
        icount: true,
        linux: true,
        linux_release: options.linux_release.clone(),
        memory: Some(MEMORY_MIB),
        ..Default::default()
    };
    let boot = boot(start(equipment, &machine)?)?;
    let linux_packages = PACKAGES.map(String::from).into();
    let mut session = start(equipment, &options::Machine { linux_packages, ..machine })?;
    let transfers = transfers(&mut session)?;
    let tcp = tcp(&mut session)?;
    session.power_off()?;
    if options.json {
        println!("{:#}", json!({ "boot": boot, "transfers": transfers, "tcp": tcp }));
        return Ok(());
    }
    println!(
        "Linux as a guest, by the ruler: QEMU {}, -icount {}.\nXen: {PEER}.",
        equipment.qemu.version, equipment.virt.ruler.icount
    );
    println!("{}\n", summary(&boot, &tcp));
    println!(
        "Instructions for one O_DIRECT transfer of dd, of a disk in dom0's memory: guest, monitor \
         and dom0."
    );
    println!("{}", transfers_table(&transfers));
    Ok(())
}

/// The exits of a quiet boot to power-off, and its instructions.
fn boot(mut session: Session) -> Result<Value> {
    eprintln!("Counting exits and instructions of a boot");
    let console = create(&mut session, BOOT)?;
    let counters = succeed(&mut session, "xl counters")?;
    session.power_off()?;
    let exits = counters::exits(&counters, Linux::NAME)
        .with_context(|| format!("no counters of linux: {counters}"))?;
    let instructions = power_down(&console).with_context(|| format!("no end: {console}"))?;
    let [most_exits, most_instructions] = BOOT_PEER;
    let within = exits <= most_exits && instructions <= most_instructions;
    Ok(json!({ "exits": exits, "instructions": instructions, "within_bar": within }))
}

/// The nanoseconds, which are instructions, at which the kernel says that it powers off.
fn power_down(console: &str) -> Option<u64> {
    let line = console.lines().find(|line| line.contains("reboot: Power down"))?;
    let seconds: f64 = line.trim_start_matches(['[', ' ']).split(']').next()?.parse().ok()?;
    Some((seconds * 1e9) as u64)
}

fn transfers(session: &mut Session) -> Result<Vec<Value>> {
    eprintln!("Counting instructions of transfers");
    let mut rows = Vec::new();
    for Transfer { title, size, count, bars, peer } in &TRANSFERS {
        // The first write makes the disk's pages.
        let write =
            format!("/bin/dd if=/dev/zero of=/dev/xvda bs={size} count={count} oflag=direct");
        let read =
            format!("/bin/dd if=/dev/xvda of=/dev/null bs={size} count={count} iflag=direct");
        let commands =
            [&write, &write, &read].map(|dd| format!("{dd} 2>&1 | tail -n 1")).join("; ");
        let console = create(session, &format!("disk=ram:16M,xvda,w vif=[] run='{commands}'"))?;
        let seconds: Vec<f64> = console.lines().filter_map(seconds_of_dd).collect();
        let [_, write, read] = seconds[..] else {
            anyhow::bail!("not three figures of dd: {console}");
        };
        let each = |seconds: f64| (seconds * 1e9) as u64 / u64::from(*count);
        let (read, write) = (each(read), each(write));
        rows.push(json!({
            "transfer": title, "read": read, "write": write, "read_bar": bars[0],
            "write_bar": bars[1], "xen": peer, "read_within_bar": read <= bars[0],
            "write_within_bar": write <= bars[1],
        }));
    }
    Ok(rows)
}

/// From a line such as `16777216 bytes (17 MB, 16 MiB) copied, 0.0127938 s, 1.3 GB/s`.
fn seconds_of_dd(line: &str) -> Option<f64> {
    line.split_once("copied, ")?.1.split_whitespace().next()?.parse().ok()
}

/// TCP from one guest to another.
fn tcp(session: &mut Session) -> Result<Value> {
    eprintln!("Counting instructions of TCP");
    let address = |host: u8| format!("ip address add 10.9.0.{host}/24 dev eth0");
    let serve = format!("{}; iperf3 -s -1 > /dev/null", address(1));
    succeed(session, &format!("xl create linux name=server disk=[] run='{serve}'"))?;
    // Until it listens.
    succeed(session, "sleep 3")?;
    let send = format!("{}; iperf3 -c 10.9.0.1 -t 1 -f m", address(2));
    let console = create(session, &format!("name=client disk=[] run='{send}'"))?;
    let mbit = console.lines().find_map(mbit_of_iperf);
    let mbit = mbit.with_context(|| format!("no figure of iperf3: {console}"))?;
    Ok(json!({ "mbit": mbit, "bar": TCP_BAR, "xen": TCP_PEER, "within_bar": mbit >= TCP_BAR }))
}

/// From a line such as `[  5] 0.00-1.00 sec 367 MBytes 3066 Mbits/sec receiver`.
fn mbit_of_iperf(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [.., mbit, "Mbits/sec", "receiver"] = words[..] else { return None };
    mbit.parse().ok()
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

fn summary(boot: &Value, tcp: &Value) -> comfy_table::Table {
    let mut table = empty(["", "", "Bar", "", "Xen"].map(String::from));
    let count = |value: &Value| number(value.as_u64().unwrap_or_default());
    let [exits, instructions] = BOOT_PEER;
    for (title, key, bar) in [
        ("Quiet boot to power-off: exits", "exits", exits),
        ("Quiet boot to power-off: instructions", "instructions", instructions),
    ] {
        table.add_row([
            Cell::new(title),
            count(&boot[key]),
            number(bar),
            verdict(boot),
            number(bar),
        ]);
    }
    table.add_row([
        Cell::new("TCP, Mbit for 10^9 instructions, at least"),
        count(&tcp["mbit"]),
        count(&tcp["bar"]),
        verdict(tcp),
        Cell::new(TCP_PEER),
    ]);
    table
}

fn transfers_table(rows: &[Value]) -> comfy_table::Table {
    let header = ["Transfer", "Read", "Bar", "", "Write", "Bar", "", "Xen: read", "Xen: write"];
    let mut table = empty(header.map(String::from));
    for row in rows {
        let count = |key: &str| number(row[key].as_u64().unwrap_or_default());
        let peer = |index: usize| Cell::new(row["xen"][index].as_str().unwrap_or_default());
        let mark = |key: &str| verdict(&json!({ "within_bar": row[key] }));
        table.add_row([
            Cell::new(row["transfer"].as_str().unwrap_or_default()),
            count("read"),
            count("read_bar"),
            mark("read_within_bar"),
            count("write"),
            count("write_bar"),
            mark("write_within_bar"),
            peer(0),
            peer(1),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_programs_print() {
        let dd = "16777216 bytes (17 MB, 16 MiB) copied, 0.0127938 s, 1.3 GB/s\r";
        assert_eq!(seconds_of_dd(dd), Some(0.012_793_8));
        assert_eq!(seconds_of_dd("16+0 records in"), None);
        let iperf =
            "[  5]   0.00-1.00   sec   367 MBytes  3066 Mbits/sec                  receiver";
        assert_eq!(mbit_of_iperf(iperf), Some(3066));
        assert_eq!(mbit_of_iperf(&iperf.replace("receiver", "sender")), None);
        assert_eq!(power_down("x\n[    0.769002] reboot: Power down\r\n"), Some(769_002_000));
    }
}
