//! Programs on the host speak with dom0's shell, beside the person at its console.

use abi::control::CHANNELS;
use anyhow::{Context, Result, bail, ensure};
use tests::{Scenario, Shell, Stage};
use xtask::control::{Channel, Message};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("control::verbs_are_the_shells", verbs),
    Scenario::new("control::consoles_beside_each_other", consoles),
];

fn connect(shell: &mut Shell) -> Result<Channel> {
    Channel::connect(shell.session().folder())
}

fn verbs(shell: &mut Shell, _: &Stage) -> Result<()> {
    let mut channel = connect(shell)?;
    let output = channel.run(["xl", "create", "hello", "name=one", "cmdline=sleep=1000"])?;
    ensure!(output.status == 0, "xl create: {output:?}");
    ensure!(shell.lists("one")?, "the shell does not know what was created");
    let output = channel.run(["xl", "list", "--json", "one"])?;
    ensure!(output.text.contains(r#""name":"one""#), "xl list --json: {output:?}");
    let output = channel.run(["xl", "destroy", "two"])?;
    ensure!(output.status == 1 && output.reason.contains("`two`"), "xl destroy: {output:?}");
    let output = channel.run(["xl", "destory", "one"])?;
    ensure!(output.status == 127 && output.reason.contains("destroy"), "a typo: {output:?}");
    // More in all than fits the buffers on the way.
    let word = "x".repeat(4000);
    for _ in 0..50 {
        let output = channel.run(["echo", &word])?;
        ensure!(output.text.trim_end() == word, "a long word is {output:?}");
    }
    // A shell that is busy does not make others wait.
    shell.session().begin("sleep 1000")?;
    let output = channel.run(["xl", "destroy", "one"])?;
    ensure!(output.status == 0, "xl destroy: {output:?}");
    shell.session().type_bytes(b"\x03", "Ctrl-C")?;
    shell.session().finish("sleep 1000")?;
    ensure!(!shell.lists("one")?, "it is still there");
    Ok(())
}

/// Reads until the console shows `text`.
fn wait_for(channel: &mut Channel, text: &str) -> Result<()> {
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(text) {
        match channel.receive()? {
            Message::Output(bytes) => shown.extend(bytes),
            Message::Listen => {}
            Message::Done(output) => bail!("the console ended without `{text}`: {output:?}"),
        }
    }
    Ok(())
}

fn consoles(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello cmdline=sleep=1000")?;
    // More often than there are channels: who goes without a word leaves his free.
    for _ in 0..2 {
        let mut channels = Vec::new();
        for _ in 0..CHANNELS {
            let mut channel = connect(shell)?;
            channel.begin(["xl", "console", "hello"])?;
            wait_for(&mut channel, "sleeping")?;
            channels.push(channel);
        }
        let error = connect(shell).err().context("there is a channel too many")?;
        ensure!(error.to_string().contains("in use"), "one too many learns: {error:#}");
        let mut first = channels.remove(0);
        first.typist()?.write(b"\x1d")?;
        loop {
            if let Message::Done(output) = first.receive()? {
                ensure!(output.status == 0, "Ctrl-] leaves with {output:?}");
                break;
            }
        }
        let output = first.run(["xl", "list", "hello"])?;
        ensure!(output.status == 0, "after a console: {output:?}");
    }
    let mut channel = connect(shell)?;
    channel.begin(["xl", "console", "hello"])?;
    wait_for(&mut channel, "sleeping")?;
    shell.succeeds("xl destroy hello")?;
    wait_for(&mut channel, "x").err().context("the console goes on")?;
    Ok(())
}
