//! What the guest is told to do, the same here and on Xen, and what its console then shows.

use anyhow::{Context, Result, bail};

/// Debian's packages with the programs.
pub(super) const PACKAGES: [&str; 2] = ["coreutils", "iperf3"];

/// The kernel's command line of a boot that ends at once, and the guest's memory.
pub(super) const BOOT_LINE: &str = "quiet rdinit=/bin/busybox -- poweroff -f";
pub(super) const BOOT_MIB: u32 = 512;

/// Addresses that no DHCP server gives.
const SERVER: &str = "10.9.0.1";
const CLIENT: &str = "10.9.0.2";
/// What the server says when it can be called.
pub(super) const LISTENING: &str = "Server listening";

/// A size of transfers, and how many are done: all within the 16 MiB that a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) title: &'static str,
    size: &'static str,
    count: u32,
}

pub(super) const TRANSFERS: [Transfer; 3] = [
    Transfer { title: "4 KiB", size: "4k", count: 2048 },
    Transfer { title: "64 KiB", size: "64k", count: 256 },
    Transfer { title: "1 MiB", size: "1M", count: 16 },
];

/// Instructions for one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) read: u64,
    pub(super) write: u64,
}

/// Moves blocks of each size: writes twice, because the first time makes the disk's pages, and reads.
pub(super) fn transfer_commands() -> String {
    let commands = TRANSFERS.map(|Transfer { size, count, .. }| {
        let write =
            format!("/bin/dd if=/dev/zero of=/dev/xvda bs={size} count={count} oflag=direct");
        let read =
            format!("/bin/dd if=/dev/xvda of=/dev/null bs={size} count={count} iflag=direct");
        [&write, &write, &read].map(|dd| format!("{dd} 2>&1 | tail -n 1")).join("; ")
    });
    commands.join("; ")
}

/// What that took.
pub(super) fn transfer_costs(console: &str) -> Result<Vec<Cost>> {
    let seconds: Vec<f64> = console.lines().filter_map(seconds_of_dd).collect();
    let (sizes, rest) = seconds.as_chunks::<3>();
    if sizes.len() != TRANSFERS.len() || !rest.is_empty() {
        bail!("not three figures of dd for each size: {console}");
    }
    let cost = |(transfer, &[_, write, read]): (&Transfer, &[f64; 3])| {
        let each = |seconds: f64| instructions(seconds) / u64::from(transfer.count);
        Cost { read: each(read), write: each(write) }
    };
    Ok(TRANSFERS.iter().zip(sizes).map(cost).collect())
}

/// MiB of the machine's disk on which throughput is measured, and how often; the median counts.
pub(super) const DISK_MIB: u64 = 64;
const ROUNDS: usize = 7;

/// MB/s by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speed {
    pub(super) read: u64,
    pub(super) write: u64,
}

/// Reads a whole disk of the machine and writes it, a MiB at a time, again and again.
pub(super) fn disk_commands() -> String {
    let dd = |what: &str| format!("/bin/dd {what} bs=1M count={DISK_MIB} 2>&1 | tail -n 1");
    let read = dd("if=/dev/xvda of=/dev/null iflag=direct");
    let write = dd("if=/dev/zero of=/dev/xvda oflag=direct");
    format!("for round in $(seq {ROUNDS}); do {read}; {write}; done")
}

/// What that reached.
pub(super) fn disk_speeds(console: &str) -> Result<Speed> {
    let seconds: Vec<f64> = console.lines().filter_map(seconds_of_dd).collect();
    let (rounds, rest) = seconds.as_chunks::<2>();
    if rounds.len() != ROUNDS || !rest.is_empty() {
        bail!("not two figures of dd for each round: {console}");
    }
    let median = |seconds: fn(&[f64; 2]) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(seconds).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.get(ROUNDS / 2).copied().unwrap_or(f64::INFINITY);
        ((DISK_MIB << 20) as f64 / middle / 1e6).round() as u64
    };
    Ok(Speed { read: median(|[read, _]| *read), write: median(|[_, write]| *write) })
}

/// From a line such as `16777216 bytes (17 MB, 16 MiB) copied, 0.0127938 s, 1.3 GB/s`.
fn seconds_of_dd(line: &str) -> Option<f64> {
    line.split_once("copied, ")?.1.split_whitespace().next()?.parse().ok()
}

/// Takes one connection.
pub(super) fn server_commands() -> String {
    format!("ip address add {SERVER}/24 dev eth0; iperf3 -s -1 --forceflush")
}

/// Sends to the server for a second.
pub(super) fn client_commands() -> String {
    format!("ip address add {CLIENT}/24 dev eth0; iperf3 -c {SERVER} -t 1 -f m")
}

/// What the client got through, in Mbit for 10^9 instructions.
pub(super) fn throughput(console: &str) -> Result<u64> {
    let line = console.lines().find_map(mbit_of_iperf);
    line.with_context(|| format!("no figure of iperf3: {console}"))
}

/// From a line such as `[  5] 0.00-1.00 sec 367 MBytes 3066 Mbits/sec receiver`.
fn mbit_of_iperf(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [.., mbit, "Mbits/sec", "receiver"] = words[..] else { return None };
    mbit.parse().ok()
}

/// How many instructions the kernel counts until it powers off.
pub(super) fn instructions_to_power_off(console: &str) -> Option<u64> {
    let before = console.lines().find_map(|line| line.split_once("] reboot: Power down"))?.0;
    let seconds = before.rsplit('[').next()?;
    Some(instructions(seconds.trim().parse().ok()?))
}

/// By the ruler a nanosecond is an instruction.
fn instructions(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_has_its_figures() {
        let line = |seconds: &str| format!("1 bytes (1 B, 1 B) copied, {seconds} s, 1.3 GB/s\r\n");
        let seconds = ["9", "0.002048", "0.004096", "9", "0.0256", "0.0512", "9", "1.6", "3.2"];
        let console = format!("noise\n{}", seconds.map(line).concat());
        let costs = transfer_costs(&console).unwrap();
        let expected = [(2000, 1000), (200_000, 100_000), (200_000_000, 100_000_000)];
        let found: Vec<(u64, u64)> = costs.iter().map(|cost| (cost.read, cost.write)).collect();
        assert_eq!(found, expected);
        assert!(transfer_costs(&line("1")).is_err());
    }

    #[test]
    fn the_median_round_counts() {
        let line = |seconds: u64| format!("1 bytes (1 B, 1 B) copied, 0.{seconds} s, 1.3 GB/s\n");
        let rounds = [9, 5, 1, 2, 8, 3, 4].map(|n| [line(n), line(10 + n)].concat()).concat();
        let expected = Speed { read: 168, write: 479 };
        assert_eq!(disk_speeds(&rounds).unwrap(), expected);
        assert!(disk_speeds(&line(1)).is_err());
    }

    #[test]
    fn figures_are_found_in_what_programs_print() {
        let iperf =
            "[  5]   0.00-1.00   sec   367 MBytes  3066 Mbits/sec                  receiver";
        assert_eq!(throughput(iperf).unwrap(), 3066);
        assert!(throughput(&iperf.replace("receiver", "sender")).is_err());
        for line in
            ["[    0.769002] reboot: Power down\r", "(XEN) DOM1: [    0.769002] reboot: Power down"]
        {
            assert_eq!(instructions_to_power_off(&format!("x\n{line}\n")), Some(769_002_000));
        }
    }
}
