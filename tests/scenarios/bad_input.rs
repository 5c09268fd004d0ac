//! Everything that a person can get wrong: a clear error, nothing lost, and the others keep
//! running.

use anyhow::{Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("bad_input::unknown_commands", unknown_commands),
    Scenario::new("bad_input::unknown_domains", unknown_domains),
    Scenario::new("bad_input::unknown_key", |shell, _| {
        refused(shell, "xl create hello colour=red", &["colour"])
    }),
    Scenario::new("bad_input::value_out_of_range", |shell, _| {
        refused(shell, "xl create hello memory=0", &["memory"])?;
        refused(shell, "xl create hello vcpus=1000", &["vcpus"])
    }),
    Scenario::new("bad_input::missing_domain_file", |shell, _| {
        refused(shell, "xl create nosuchdomain", &["nosuchdomain"])
    }),
    Scenario::new("bad_input::missing_kernel", |shell, _| {
        refused(shell, "xl create hello kernel=nosuchkernel", &["nosuchkernel"])
    }),
    Scenario::new("bad_input::missing_disk", |shell, _| {
        refused(shell, "xl create hash disk=disk9,xvda,w", &["disk9"])
    }),
    Scenario::new("bad_input::not_enough_memory", |shell, _| {
        refused(shell, "xl create hello memory=2048", &["memory"])
    }),
    Scenario::new("bad_input::guest_that_faults", |shell, _| crashes(shell, "fault=1")),
    Scenario::new("bad_input::guest_that_panics", |shell, _| crashes(shell, "crash=1")),
    Scenario::new("bad_input::full_frame_pool", full_pool),
];

/// Runs `misdeed` beside another guest, which must not notice, and looks for what is lost.
fn beside_another(shell: &mut Shell, misdeed: impl FnOnce(&mut Shell) -> Result<()>) -> Result<()> {
    shell.succeeds("xl create hello name=bystander cmdline=sleep=1000")?;
    let before = shell.free_frames()?;
    misdeed(shell)?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    ensure!(shell.lists("bystander")?, "the other guest is gone");
    shell.succeeds("xl shutdown bystander")?;
    shell.wait_until_gone("bystander")
}

fn refused(shell: &mut Shell, command: &str, words: &[&str]) -> Result<()> {
    beside_another(shell, |shell| {
        shell.fails(command, words)?;
        let list = shell.succeeds("xl list")?;
        ensure!(list.lines().count() == 3, "more than dom0 and the bystander: {list}");
        Ok(())
    })
}

fn unknown_commands(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails("frobnicate", &["frobnicate"])?;
    shell.fails("xl frobnicate", &["frobnicate"])?;
    shell.fails("xl", &[])?;
    shell.fails("xl create", &[])?;
    shell.fails("xl create \"unclosed", &[])?;
    shell.succeeds("")?;
    Ok(())
}

fn unknown_domains(shell: &mut Shell, _: &Stage) -> Result<()> {
    for verb in ["destroy", "pause", "unpause", "shutdown", "console"] {
        shell.fails(&format!("xl {verb} nobody"), &["nobody"])?;
        shell.fails(&format!("xl {verb} 4711"), &["4711"])?;
    }
    // Dom0 does not saw off its own branch.
    shell.fails("xl destroy dom0", &["dom0"])?;
    shell.fails("xl pause dom0", &["dom0"])
}

fn crashes(shell: &mut Shell, how: &str) -> Result<()> {
    beside_another(shell, |shell| {
        let create = format!("xl create -c hello name=victim cmdline={how}");
        let output = shell.session().run(&create)?;
        ensure!(output.text.contains("PANIC") || output.text.contains("crash"), "no word of it");
        shell.wait_until_gone("victim")
    })
}

/// Creates guests until there is no memory for a further one.
fn full_pool(shell: &mut Shell, _: &Stage) -> Result<()> {
    beside_another(shell, |shell| {
        let create =
            |number| format!("xl create hello name=big{number} memory=100 cmdline=sleep=1000");
        let mut count = 0;
        while shell.session().run(&create(count))?.status == 0 {
            count += 1;
            ensure!(count < 100, "memory does not end");
        }
        ensure!(count > 0, "not even one");
        shell.fails(&create(count), &["memory"])?;
        for number in 0..count {
            shell.succeeds(&format!("xl destroy big{number}"))?;
            shell.wait_until_gone(&format!("big{number}"))?;
        }
        Ok(())
    })
}
