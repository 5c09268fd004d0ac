//! Domains are paused, shut down and destroyed, also in the middle of their work.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("lifecycle::destroyed_while_it_reads", destroy_in_flight).with_disks(&[64]),
    Scenario::new("lifecycle::paused_and_unpaused", pause),
    Scenario::new("lifecycle::shut_down_when_asked", shutdown),
    Scenario::new("lifecycle::created_and_destroyed_often", churn),
    Scenario::new("lifecycle::a_sleeper_wakes_beside_a_busy_domain", sleeper),
    Scenario::new("lifecycle::names_are_unique", unique_names),
];

/// Creates a guest that runs until it is told to end.
fn idler(name: &str) -> String {
    format!("xl create hello name={name} cmdline=sleep=1000")
}

fn destroy_in_flight(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    for milliseconds in [0, 50, 200, 500] {
        shell.succeeds("xl create hash")?;
        shell.session().wait(Duration::from_millis(milliseconds))?;
        shell.succeeds("xl destroy hash")?;
        shell.wait_until_gone("hash")?;
        let after = shell.free_frames()?;
        ensure!(before == after, "{before} frames were free before, {after} are after");
    }
    // The disk and its backend have to be as good as before.
    let output = shell.succeeds("xl create -c hash")?;
    ensure!(output.contains("sha256"), "after that, hash printed: {output}");
    Ok(())
}

/// The busy one never enters the monitor by itself: only the timer takes its CPU away.
fn sleeper(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello name=busy cmdline=spin=1")?;
    let output = shell.succeeds("xl create -c hello cmdline=sleep=1")?;
    ensure!(output.contains("Goodbye"), "the sleeper printed: {output}");
    shell.succeeds("xl destroy busy")?;
    Ok(())
}

fn pause(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello name=sleeper cmdline=sleep=1")?;
    shell.succeeds("xl pause sleeper")?;
    // Longer than it wants to live.
    shell.session().wait(Duration::from_secs(3))?;
    let state = shell.state("sleeper")?.unwrap_or_default();
    ensure!(state.contains('p'), "paused, its state is {state}");
    shell.succeeds("xl unpause sleeper")?;
    shell.wait_until_gone("sleeper")
}

fn shutdown(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    shell.succeeds(&idler("polite"))?;
    // It has to be up before it can be asked.
    shell.session().begin("xl console polite")?;
    shell.session().wait_for_text("sleeping")?;
    shell.leave_console("xl console polite")?;
    shell.succeeds("xl shutdown polite")?;
    shell.wait_until_gone("polite")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    shell.fails("xl shutdown polite", &["polite"])
}

fn churn(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    for _ in 0..20 {
        for name in ["a", "b", "c"] {
            shell.succeeds(&idler(name))?;
        }
        for name in ["b", "a", "c"] {
            shell.succeeds(&format!("xl destroy {name}"))?;
        }
    }
    for name in ["a", "b", "c"] {
        shell.wait_until_gone(name)?;
    }
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

fn unique_names(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds(&idler("twin"))?;
    shell.fails(&idler("twin"), &["twin"])?;
    shell.succeeds("xl destroy twin")?;
    shell.wait_until_gone("twin")
}
