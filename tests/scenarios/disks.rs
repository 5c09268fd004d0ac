//! Real disks through frontend, ring, backend and device.

use anyhow::{Context, Result, ensure};
use tests::{Counters, Scenario, Shell, Stage, disk};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("disks::sum_of_64_mib_is_the_hosts", sum).with_disks(&[64]),
    Scenario::new("disks::sums_of_three_disks", sum).with_disks(&[4, 1, 3]),
    Scenario::new("disks::sum_on_two_cpus", sum).with_disks(&[16]).on(|machine| machine.smp = 2),
    Scenario::new("disks::what_is_written_reaches_the_host", write).with_disks(&[8]),
    Scenario::new("disks::two_guests_on_two_disks", two_guests).with_disks(&[32, 8]),
    Scenario::new("disks::a_hash_run_takes_no_traps", no_traps).with_disks(&[128]),
    Scenario::new("disks::a_disk_survives_many_guests", many_guests).with_disks(&[1]),
];

/// The sums in what `hash` printed, in order: "sha256 <hex> <device> <bytes>".
fn sums(output: &str) -> Vec<(String, u64)> {
    let lines = output.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "sha256").skip(1);
        let sum = words.next()?.to_string();
        let bytes = words.nth(1)?.parse().ok()?;
        Some((sum, bytes))
    });
    lines.collect()
}

/// Every disk's sum must be among what a guest printed.
fn check_sums(output: &str, stage: &Stage) -> Result<()> {
    let printed = sums(output);
    ensure!(printed.len() == stage.disks.len(), "{} sums in: {output}", printed.len());
    for path in &stage.disks {
        let expected = (disk::sha256(path)?, disk::size(path)?);
        ensure!(printed.contains(&expected), "{expected:?} is not among {printed:?}");
    }
    Ok(())
}

fn sum(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    let output = shell.succeeds("xl create -c hash")?;
    check_sums(&output, stage)?;
    shell.wait_until_gone("hash")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

fn write(shell: &mut Shell, stage: &Stage) -> Result<()> {
    const PATTERN: &str = "Aurochs";
    let disk = stage.disks.first().context("a disk")?;
    let output = shell.succeeds(&format!("xl create -c hash cmdline=write={PATTERN}"))?;
    disk::check_pattern(disk, PATTERN.as_bytes())?;
    check_sums(&output, stage)
}

fn two_guests(shell: &mut Shell, stage: &Stage) -> Result<()> {
    shell.succeeds("xl create hash name=first disk=disk0,xvda,w")?;
    let second = shell.succeeds("xl create -c hash name=second disk=disk1,xvda,w")?;
    // It is the larger disk's, and a console shows what was printed before.
    let first = shell.succeeds("xl console first")?;
    check_sums(&format!("{first}\n{second}"), stage)
}

fn no_traps(shell: &mut Shell, _: &Stage) -> Result<()> {
    /// Events after which it is surely up and reads its disk.
    const UP: u64 = 100;
    shell.succeeds("xl create hash")?;
    let mut seen: Vec<Counters> = Vec::new();
    // Until it has gone.
    while let Ok(counters) = shell.counters("hash") {
        if counters.events > UP {
            seen.push(counters);
        }
    }
    let traps: Vec<u64> = seen.iter().map(|seen| seen.mmio + seen.system_registers).collect();
    ensure!(seen.len() >= 2, "it was seen only {} times while it read", seen.len());
    ensure!(traps.iter().min() == traps.iter().max(), "traps while it read: {traps:?}");
    Ok(())
}

fn many_guests(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    for _ in 0..10 {
        let output = shell.succeeds("xl create -c hash")?;
        check_sums(&output, stage)?;
    }
    shell.wait_until_gone("hash")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}
