//! Programs on the host speak with dom0's shell, beside the person at its console.

use abi::control::CHANNELS;
use anyhow::{Context, Result, bail, ensure};
use tests::{Scenario, Shell, Stage};
use xtask::control::{Channel, Message};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("control::verbs_are_the_shells", verbs),
    Scenario::new("control::consoles_beside_each_other", consoles),
    Scenario::new("control::of_many_at_once_one_gets_it", at_once).with_disks(&[1]),
    Scenario::new("control::destroyed_while_it_is_built", destroyed_while_built).with_disks(&[1]),
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

/// Commands that want the same come in on all channels before any is answered.
fn at_once(shell: &mut Shell, _: &Stage) -> Result<()> {
    let mut channels: Vec<Channel> =
        (0..CHANNELS).map(|_| connect(shell)).collect::<Result<_>>()?;
    let disk = |number: usize| format!("disk=disk0@{number}K+4K,xvda,w");
    for _ in 0..5 {
        for (number, channel) in channels.iter_mut().enumerate() {
            let name = format!("name=d{number}");
            channel.begin(["xl", "create", "-p", "hello", &name, &disk(number)])?;
        }
        ensure!(winners(&mut channels, "in use")? == 1, "more than one got the sectors");
        for (number, channel) in channels.iter_mut().enumerate() {
            channel.begin(["xl", "destroy", &format!("d{number}")])?;
        }
        ensure!(winners(&mut channels, "there is no domain")? == 1, "more than one was made");
        for channel in &mut channels {
            channel.begin(["xl", "create", "-p", "hello", "name=same"])?;
        }
        ensure!(winners(&mut channels, "exists already")? == 1, "more than one got the name");
        for channel in &mut channels {
            channel.begin(["xl", "network-attach", "same"])?;
        }
        ensure!(winners(&mut channels, "")? == channels.len(), "not all got an interface");
        let list = shell.succeeds("xl network-list same")?;
        let rows = list.lines().filter(|line| line.contains("/backend/vif/")).count();
        ensure!(rows == channels.len(), "{list}");
        for channel in &mut channels {
            channel.begin(["xl", "destroy", "same"])?;
        }
        winners(&mut channels, "there is no domain")?;
    }
    Ok(())
}

/// A domain is destroyed by two while it is being made, and while it gets an interface: whoever
/// comes first, nothing is left of it.
fn destroyed_while_built(shell: &mut Shell, _: &Stage) -> Result<()> {
    let mut channels: Vec<Channel> =
        (0..CHANNELS).map(|_| connect(shell)).collect::<Result<_>>()?;
    let mut before = None;
    for round in 0..20 {
        let commands: [&[&str]; CHANNELS] = [
            &["xl", "create", "hello", "disk=disk0,xvda,w", "vif=", "cmdline=sleep=1000"],
            &["xl", "network-attach", "hello"],
            &["xl", "destroy", "hello"],
            &["xl", "destroy", "hello"],
        ];
        for (channel, command) in channels.iter_mut().zip(commands) {
            channel.begin(command.iter().copied())?;
        }
        winners(&mut channels, "hello")?;
        // Unless none of the two saw it.
        if shell.lists("hello")? {
            shell.succeeds("xl destroy hello")?;
        }
        let now = (shell.free_frames()?, shell.succeeds("xenstore-ls")?.lines().count());
        // What grows once has grown after a while.
        if round == 5 {
            before = Some(now);
        }
        ensure!(round < 5 || before == Some(now), "before: {before:?}, round {round}: {now:?}");
    }
    Ok(())
}

/// How many succeeded; the others have failed for this reason.
fn winners(channels: &mut [Channel], reason: &str) -> Result<usize> {
    let mut winners = 0;
    for channel in channels {
        loop {
            if let Message::Done(output) = channel.receive()? {
                ensure!(output.status == 0 || output.reason.contains(reason), "{output:?}");
                winners += usize::from(output.status == 0);
                break;
            }
        }
    }
    Ok(winners)
}
