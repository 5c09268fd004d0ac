//! The machine comes up, on one CPU and on several, and a guest runs.

use anyhow::{Result, ensure};
use tests::{Scenario, Shell, Stage};
use xtask::options::{self, Guest};
use xtask::paths;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("boot::to_the_prompt", to_the_prompt),
    Scenario::new("boot::on_two_cpus", hello).on(|machine| machine.smp = 2),
    Scenario::new("boot::on_the_largest_cpu", hello).on(|machine| machine.cpu = Some("max".into())),
    Scenario::new("boot::with_little_memory", hello).on(|machine| machine.memory = Some(256)),
    Scenario::new("boot::by_the_ruler", hello).on(|machine| machine.icount = true),
    Scenario::new("boot::hello_says_hello_and_leaves", hello),
    Scenario::new("boot::a_guest_that_the_user_brings", brought).on(bring),
];

fn to_the_prompt(shell: &mut Shell, _: &Stage) -> Result<()> {
    let list = shell.succeeds("xl list")?;
    ensure!(list.lines().count() == 2 && list.contains("dom0"), "xl list printed: {list}");
    let help = shell.succeeds("xl help")?;
    for verb in ["create", "destroy", "pause", "unpause", "shutdown", "console", "info", "dmesg"] {
        ensure!(help.contains(verb), "xl help does not name {verb}");
    }
    ensure!(shell.succeeds("xl dmesg")?.contains("hv"), "xl dmesg shows nothing of the monitor");
    Ok(())
}

fn hello(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    let output = shell.succeeds("xl create -c hello")?;
    ensure!(output.to_lowercase().contains("hello"), "the guest printed: {output}");
    shell.wait_until_gone("hello")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

/// Brings the image of `hello` as a user brings an own one, under another name.
fn bring(machine: &mut options::Machine) {
    let image = paths::images().join("hello.img");
    machine.guests =
        vec![Guest { name: "mine".into(), image, ramdisk: None, memory: 24, vcpus: 1 }];
}

fn brought(shell: &mut Shell, _: &Stage) -> Result<()> {
    let output = shell.succeeds("xl create -c mine")?;
    ensure!(output.contains("24 MiB"), "the guest printed: {output}");
    shell.wait_until_gone("mine")
}
