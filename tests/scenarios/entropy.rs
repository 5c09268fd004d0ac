//! Random bytes come from the host's device through dom0 into guests.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("entropy::each_guest_gets_other_bytes", bytes_differ),
    Scenario::new("entropy::comes_and_goes_while_a_guest_runs", hotplug),
];

/// What the guest printed of its bytes.
fn bytes_in(output: &str) -> Result<&str> {
    let mut lines = output.lines().skip_while(|line| !line.contains("random bytes"));
    lines.nth(1).with_context(|| format!("the guest printed: {output}"))
}

fn bytes_differ(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let output = shell.succeeds("xl create -c entropy")?;
        ensure!(output.contains("4096 random bytes, 256 different ones"), "it printed: {output}");
        seen.insert(bytes_in(&output)?.to_string());
        shell.wait_until_gone("entropy")?;
    }
    ensure!(seen.len() == 3, "the guests got the same bytes: {seen:?}");
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

fn hotplug(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails("xl create entropy device=abacus", &["abacus", "entropy"])?;
    shell.fails("xl create entropy device=vbd", &["disk"])?;
    shell.succeeds("xl create entropy device=[]")?;
    let list = shell.succeeds("xl device-list entropy")?;
    ensure!(!list.contains("backend/entropy"), "there is a device already: {list}");
    shell.fails("xl device-detach entropy entropy 0", &["has no entropy 0"])?;
    // The guest has waited for this; then it is done.
    shell.succeeds("xl device-attach entropy entropy")?;
    shell.wait_until_gone("entropy")?;
    let output = shell.succeeds("xl console entropy")?;
    ensure!(output.contains("4096 random bytes"), "the guest printed: {output}");
    Ok(())
}
