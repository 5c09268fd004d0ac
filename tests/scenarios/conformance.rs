//! A guest that asks the small hypercalls what they answer: "ok   ..." or "FAIL ..." for each.

use anyhow::{Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("conformance::answers_are_xens", answers),
    Scenario::new("conformance::answers_are_xens_on_two_cpus", answers)
        .on(|machine| machine.smp = 2),
    Scenario::new("conformance::fifo_events_are_xens", fifo),
    Scenario::new("conformance::a_watchdog_that_starves_bites", watchdog),
    Scenario::new("conformance::the_reason_that_was_noted_counts", reason),
];

const CREATE: &str = "xl create -c hello name=conformance kernel=conformance";

fn answers(shell: &mut Shell, _: &Stage) -> Result<()> {
    all_as_expected(shell, CREATE, 85)
}

fn fifo(shell: &mut Shell, _: &Stage) -> Result<()> {
    all_as_expected(shell, &format!("{CREATE} cmdline=events=fifo"), 20)
}

/// Creates the guest, which asks at least so many questions.
fn all_as_expected(shell: &mut Shell, create: &str, questions: usize) -> Result<()> {
    let before = shell.free_frames()?;
    let output = shell.succeeds(create)?;
    let failed: Vec<&str> = output.lines().filter(|line| line.starts_with("FAIL")).collect();
    ensure!(failed.is_empty(), "otherwise than Xen: {}", failed.join("; "));
    let asked = output.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(asked >= questions, "only {asked} questions were asked");
    shell.wait_until_gone("conformance")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

fn watchdog(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails(&format!("{CREATE} cmdline=end=watchdog"), &["watchdog"])?;
    shell.wait_until_gone("conformance")
}

/// It powers off, but had said before that it would have crashed.
fn reason(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails(&format!("{CREATE} cmdline=end=code"), &["crashed"])?;
    shell.wait_until_gone("conformance")
}
