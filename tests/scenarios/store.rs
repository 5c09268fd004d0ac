//! The store, from dom0's prompt.

use anyhow::{Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("store::what_is_written_can_be_read", read_and_write),
    Scenario::new("store::a_guests_entries_come_and_go", entries_of_a_guest),
    Scenario::new("store::bad_paths_are_refused", bad_paths),
];

fn read_and_write(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xenstore-write /scenario/key \"a value\"")?;
    let value = shell.succeeds("xenstore-read /scenario/key")?;
    ensure!(value.trim() == "a value", "read back: {value}");
    let tree = shell.succeeds("xenstore-ls /scenario")?;
    ensure!(tree.contains("key") && tree.contains("a value"), "xenstore-ls printed: {tree}");
    Ok(())
}

fn entries_of_a_guest(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello name=stored cmdline=sleep=1000")?;
    let tree = shell.succeeds("xenstore-ls /local/domain")?;
    ensure!(tree.contains("stored"), "no entry of the guest in: {tree}");
    shell.succeeds("xl destroy stored")?;
    shell.wait_until_gone("stored")?;
    let tree = shell.succeeds("xenstore-ls /local/domain")?;
    ensure!(!tree.contains("stored"), "an entry is left in: {tree}");
    Ok(())
}

fn bad_paths(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails("xenstore-read /no/such/key", &["/no/such/key"])?;
    shell.fails("xenstore-read //", &[])?;
    shell.fails("xenstore-write /a//b x", &[])?;
    shell.fails("xenstore-read", &[])
}
