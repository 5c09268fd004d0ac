//! A guest that tries every border: it prints one line for each attempt, "ok   ..." or "FAIL ...".

use anyhow::{Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("hostile::bad_hypercalls_are_refused", hypercalls),
    Scenario::new("hostile::on_two_cpus", hypercalls).on(|machine| machine.smp = 2),
];

/// Attempts that the guest makes, at least: fewer means that it ended early.
const ATTEMPTS: usize = 20;

fn hypercalls(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    let output = shell.succeeds("xl create -c hello name=hostile kernel=hostile")?;
    let failed: Vec<&str> = output.lines().filter(|line| line.starts_with("FAIL")).collect();
    ensure!(failed.is_empty(), "the monitor let it: {}", failed.join("; "));
    let passed = output.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(passed >= ATTEMPTS, "only {passed} attempts were made");
    ensure!(shell.transcript().contains("wants more than 64 frames of grants"), "no word of it");
    shell.wait_until_gone("hostile")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}
