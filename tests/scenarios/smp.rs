//! Several vCPUs: they work, are interrupted, go off and on, follow the toolstack, and cost no
//! interrupt between CPUs that is not needed.

use anyhow::{Context, Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("smp::all_cpus_from_the_start", all_cpus).on(|machine| machine.smp = 8),
    Scenario::new("smp::four_vcpus_on_one_cpu", everything),
    Scenario::new("smp::four_vcpus_on_two_cpus", everything).on(|machine| machine.smp = 2),
    Scenario::new("smp::four_vcpus_on_four_cpus", everything).on(|machine| machine.smp = 4),
    Scenario::new("smp::four_vcpus_on_eight_cpus", everything).on(|machine| machine.smp = 8),
    Scenario::new("smp::one_vcpu", one_vcpu),
    Scenario::new("smp::eight_vcpus", eight_vcpus).on(|machine| machine.smp = 2),
    Scenario::new("smp::two_guests_share_the_cpus", two_guests).on(|machine| machine.smp = 2),
    Scenario::new("smp::vcpus_come_and_go", hotplug).on(|machine| machine.smp = 2),
    Scenario::new("smp::dom0_with_two_vcpus", |shell, stage| dom0(shell, stage, 2))
        .on(|machine| machine.dom0_vcpus = 2),
    Scenario::new("smp::dom0_with_four_vcpus", |shell, stage| dom0(shell, stage, 4))
        .on(|machine| (machine.smp, machine.dom0_vcpus) = (4, 4)),
    Scenario::new("smp::one_cpu_is_never_interrupted", one_cpu),
    Scenario::new("smp::a_running_vcpu_is_not_interrupted", running).on(|machine| machine.smp = 2),
    Scenario::new("smp::a_sleeping_vcpu_is_interrupted", sleeping).on(|machine| machine.smp = 4),
];

/// Events that a guest sends in those scenarios that count interrupts.
const EVENTS: u64 = 20_000;

/// The first command finds a machine that is whole.
fn all_cpus(shell: &mut Shell, _: &Stage) -> Result<()> {
    let info = shell.succeeds("xl info")?;
    let cpus = info.lines().find(|line| line.starts_with("nr_cpus")).context("no nr_cpus")?;
    ensure!(cpus.ends_with(": 8"), "eight CPUs, of which the first command sees: {cpus}");
    Ok(())
}

fn everything(shell: &mut Shell, _: &Stage) -> Result<()> {
    run(shell, "xl create -c smp", 40)
}

fn one_vcpu(shell: &mut Shell, _: &Stage) -> Result<()> {
    run(shell, "xl create -c smp vcpus=1", 5)
}

fn eight_vcpus(shell: &mut Shell, _: &Stage) -> Result<()> {
    run(shell, "xl create -c smp vcpus=8", 80)
}

/// Runs the guest, which must find everything in order and give everything back.
fn run(shell: &mut Shell, command: &str, checks: usize) -> Result<()> {
    let before = shell.free_frames()?;
    let output = shell.succeeds(command)?;
    all_ok(&output, checks)?;
    shell.wait_until_gone("smp")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

/// The guest prints a line for each thing that it has checked.
fn all_ok(output: &str, checks: usize) -> Result<()> {
    let failed: Vec<&str> = output.lines().filter(|line| line.starts_with("FAIL")).collect();
    ensure!(failed.is_empty(), "the guest says: {}", failed.join("; "));
    let passed = output.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(passed >= checks, "only {passed} checks were made: {output}");
    Ok(())
}

fn two_guests(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create smp name=other")?;
    let output = shell.succeeds("xl create -c smp")?;
    all_ok(&output, 40)?;
    shell.wait_until_gone("other")?;
    let output = shell.succeeds("xl console other")?;
    ensure!(output.contains(" 0 failed"), "the other printed: {output}");
    Ok(())
}

fn hotplug(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails("xl create smp vcpus=4 maxvcpus=2", &["vcpus = 4", "maxvcpus = 2"])?;
    shell.succeeds("xl create smp vcpus=2 maxvcpus=4 cmdline=do=follow")?;
    for count in [2, 4, 1, 3] {
        shell.succeeds(&format!("xl vcpu-set smp {count}"))?;
        shell.wait_for_vcpus("smp", count)?;
    }
    shell.fails("xl vcpu-set smp 5", &["smp", "1 to 4", "maxvcpus"])?;
    shell.fails("xl vcpu-set smp 0", &["1 to 4"])?;
    shell.fails("xl vcpu-set smp many", &["many"])?;
    shell.fails("xl vcpu-set nobody 1", &["nobody"])?;
    // Paused, it hears of nothing; unpaused, it catches up.
    shell.succeeds("xl pause smp")?;
    shell.succeeds("xl vcpu-set smp 2")?;
    shell.succeeds("xl unpause smp")?;
    shell.wait_for_vcpus("smp", 2)?;
    shell.succeeds("xl destroy smp")?;
    shell.wait_until_gone("smp")
}

/// dom0's other vCPUs wait, come and go like any, and are in nobody's way.
fn dom0(shell: &mut Shell, stage: &Stage, all: u64) -> Result<()> {
    shell.wait_for_vcpus("dom0", all)?;
    let output = shell.succeeds("xl create -c hash")?;
    ensure!(output.contains("sha256"), "hash printed: {output}");
    shell.succeeds("xl vcpu-set dom0 1")?;
    shell.wait_for_vcpus("dom0", 1)?;
    shell.succeeds(&format!("xl vcpu-set dom0 {all}"))?;
    shell.wait_for_vcpus("dom0", all)?;
    everything(shell, stage)
}

fn one_cpu(shell: &mut Shell, stage: &Stage) -> Result<()> {
    everything(shell, stage)?;
    let count = shell.ipis()?;
    ensure!(count == 0, "{count} interrupts from one CPU to itself");
    Ok(())
}

/// What a vCPU that runs is told of needs no interrupt: it is told on its way back from the
/// hypercall. What else goes on (dom0 on the other CPU, the console) needs far fewer.
fn running(shell: &mut Shell, _: &Stage) -> Result<()> {
    let count = ipis_of(shell, "events")?;
    ensure!(count < EVENTS / 20, "{count} interrupts between CPUs for {EVENTS} events");
    Ok(())
}

/// The counter does count: a vCPU that sleeps on another CPU is interrupted.
fn sleeping(shell: &mut Shell, _: &Stage) -> Result<()> {
    const WAKE_UPS: u64 = 200;
    let before = shell.ipis()?;
    let command = format!("xl create -c smp cmdline=\"do=wake count={WAKE_UPS}\"");
    all_ok(&shell.succeeds(&command)?, 1)?;
    let count = shell.ipis()? - before;
    ensure!(count >= WAKE_UPS / 2, "{count} interrupts between CPUs for {WAKE_UPS} wake-ups");
    Ok(())
}

fn ipis_of(shell: &mut Shell, what: &str) -> Result<u64> {
    let before = shell.ipis()?;
    let command = format!("xl create -c smp cmdline=\"do={what} count={EVENTS}\"");
    all_ok(&shell.succeeds(&command)?, 1)?;
    shell.ipis()?.checked_sub(before).context("the counter runs backwards")
}
