//! The scheduler: shares, caps, how soon who wakes runs, ticks, pinning. By the ruler, in whose
//! virtual time all of it is the same from run to run, however slow the host is.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Scenario, Shell, Stage};
use xtask::options;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("scheduler::weights_on_one_cpu", weights_on_one_cpu).on(|m| by_the_ruler(m, 1)),
    Scenario::new("scheduler::weights_on_four_cpus", weights_on_four_cpus)
        .on(|m| by_the_ruler(m, 4)),
    Scenario::new("scheduler::caps", caps).on(|m| by_the_ruler(m, 1)),
    Scenario::new("scheduler::wakes_among_hogs", wakes).on(|m| by_the_ruler(m, 1)),
    Scenario::new("scheduler::no_ticks_for_nothing", no_ticks).on(|m| by_the_ruler(m, 2)),
    Scenario::new("scheduler::pinned", pinned).on(|m| m.smp = 3),
    Scenario::new("scheduler::watched_live", watched).on(|m| m.smp = 2),
];

fn by_the_ruler(machine: &mut options::Machine, cpus: u32) {
    machine.icount = true;
    machine.smp = cpus;
}

/// Percent of a CPU that each domain used, by `xl top`, in so many seconds of the machine.
fn shares(shell: &mut Shell, seconds: u32) -> Result<BTreeMap<String, f64>> {
    let table = shell.succeeds(&format!("xl top -b -n 1 -d {seconds}"))?;
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() == 9 && row[0] != "Name");
    rows.map(|row| Ok((row[0].to_string(), row[4].parse().context("CPU(%)")?))).collect()
}

/// That a measured percentage is within 2 % of what it should be.
fn close(what: &str, is: f64, should: f64) -> Result<()> {
    let error = (is - should).abs() / should;
    ensure!(error < 0.02, "{what} got {is:.2} % of a CPU instead of {should:.2} %");
    Ok(())
}

fn weights_on_one_cpu(shell: &mut Shell, _: &Stage) -> Result<()> {
    for (name, weight) in [("a", 128), ("b", 256), ("c", 512)] {
        shell.succeeds(&format!("xl create spin name={name} cpu_weight={weight}"))?;
    }
    let shares = shares(shell, 3)?;
    for (name, part) in [("a", 1.0), ("b", 2.0), ("c", 4.0)] {
        close(name, shares[name], 100.0 * part / 7.0)?;
    }
    Ok(())
}

fn weights_on_four_cpus(shell: &mut Shell, _: &Stage) -> Result<()> {
    const WEIGHTS: [(&str, u32); 3] = [("a", 1), ("b", 2), ("c", 4)];
    for number in 0..4 {
        for (name, part) in WEIGHTS {
            let weight = 128 * part;
            shell.succeeds(&format!("xl create spin name={name}{number} cpu_weight={weight}"))?;
        }
    }
    let shares = shares(shell, 3)?;
    for (name, part) in WEIGHTS {
        let sum: f64 = (0..4).map(|number| shares[&format!("{name}{number}")]).sum();
        close(name, sum, 400.0 * f64::from(part) / 7.0)?;
    }
    Ok(())
}

fn caps(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create spin name=tight cap=5")?;
    shell.succeeds("xl create spin name=quarter cap=25")?;
    shell.succeeds("xl create spin name=free")?;
    let before = shares(shell, 3)?;
    close("tight", before["tight"], 5.0)?;
    close("quarter", before["quarter"], 25.0)?;
    close("free", before["free"], 70.0)?;
    shell.succeeds("xl sched-credit2 -d tight -c 0")?;
    shell.succeeds("xl sched-credit2 -d quarter -c 10")?;
    let after = shares(shell, 3)?;
    close("quarter", after["quarter"], 10.0)?;
    close("tight", after["tight"], 45.0)?;
    close("free", after["free"], 45.0)?;
    // Who is alone gets no more than its cap either.
    shell.succeeds("xl destroy tight")?;
    shell.succeeds("xl destroy free")?;
    close("quarter", shares(shell, 3)?["quarter"], 10.0)
}

/// The bound of docs/scheduler.md: who uses less than its share runs within 10 us of its wake-up.
fn wakes(shell: &mut Shell, _: &Stage) -> Result<()> {
    const BOUND: u64 = 10;
    for number in 0..8 {
        shell.succeeds(&format!("xl create spin name=hog{number}"))?;
    }
    let arguments = "cmdline='rounds=50 sleep=20 run=1'";
    let output = shell.succeeds(&format!("xl create -c spin name=sleeper {arguments}"))?;
    let worst = output.lines().find_map(|line| {
        let (line, _) = line.strip_prefix("round 50 of 50: ")?.split_once(" us at worst")?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    });
    let worst = worst.with_context(|| format!("the guest printed: {output}"))?;
    ensure!(worst <= BOUND, "it woke {worst} us late");
    Ok(())
}

/// A vCPU alone on its CPU is not interrupted, neither by itself nor for others.
fn no_ticks(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl vcpu-pin dom0 0 0")?;
    shell.succeeds("xl create spin cpus=1")?;
    let before = shell.interrupts("spin")?;
    shell.succeeds("sleep 2")?;
    let ticks = shell.interrupts("spin")? - before;
    ensure!(ticks == 0, "{ticks} interrupts in 2 s");
    // With company it is, once for each slice of 5 ms.
    shell.succeeds("xl create spin name=other cpus=1")?;
    let before = shell.interrupts("spin")?;
    shell.succeeds("sleep 2")?;
    let ticks = shell.interrupts("spin")? - before;
    ensure!((180..=220).contains(&ticks), "{ticks} interrupts in 2 s, in half of which it runs");
    Ok(())
}

fn pinned(shell: &mut Shell, _: &Stage) -> Result<()> {
    let row = |shell: &mut Shell, domain: &str| -> Result<Vec<String>> {
        let table = shell.succeeds(&format!("xl vcpu-list {domain}"))?;
        let row = table.lines().nth(1).context("no vCPU is listed")?;
        Ok(row.split_whitespace().map(String::from).collect())
    };
    shell.succeeds("xl create spin cpus=1,2")?;
    let before = row(shell, "spin")?;
    ensure!(before[6..] == ["1-2", "/", "all"], "its row is {before:?}");
    for cpu in ["2", "0", "1"] {
        shell.succeeds(&format!("xl vcpu-pin spin all {cpu}"))?;
        shell.session().wait(Duration::from_millis(100))?;
        let row = row(shell, "spin")?;
        ensure!((&*row[3], &*row[4], &*row[6]) == (cpu, "r--", cpu), "its row is {row:?}");
    }
    shell.succeeds("xl vcpu-pin spin 0 all")?;
    ensure!(row(shell, "spin")?[6] == "all");
    shell.fails("xl vcpu-pin spin 1 all", &["spin", "no vCPU 1"])?;
    shell.fails("xl vcpu-pin spin 0 3-5", &["no CPU 3-5", "0 to 2"])?;
    shell.fails("xl vcpu-pin spin 0 x", &["`x` is not a set of CPUs"])?;
    shell.fails("xl create spin name=b cpus=7", &["no CPU 7"])?;
    shell.fails("xl create spin name=b cpu_weight=0", &["cpu_weight = 0"])?;
    shell.fails("xl sched-credit2 -d nobody -w 5", &["nobody"])?;
    shell.fails("xl sched-credit2 -w 5", &["usage"])?;
    shell.succeeds("xl sched-credit2 -d spin -w 300 -c 40")?;
    let shares = shell.succeeds("xl sched-credit2")?;
    ensure!(shares.lines().any(|line| line.ends_with("300   40")), "it printed: {shares}");
    shell.fails("xl create spin name=spin", &["spin"])?;
    ensure!(!shell.lists("b")?, "a domain is left of one that could not be made");
    Ok(())
}

/// `xl top` without `-b` draws again and again, until q or Ctrl-C.
fn watched(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create spin")?;
    for key in [b"q", b"\x03"] {
        shell.session().begin("xl top -d 0.1")?;
        for _ in 0..3 {
            shell.session().wait_for_text("Hypercalls/s")?;
        }
        shell.session().type_bytes(key, "the key that ends it")?;
        shell.session().finish("xl top")?;
    }
    Ok(())
}
