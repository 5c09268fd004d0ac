//! A file system that the host has made: guests read it file by file, Linux writes it, and the host
//! finds it in order.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{Scenario, Shell, Stage, disk};
use xtask::setup::{self, Tool};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("ext4::each_file_is_the_hosts", read).with_disks(&[16]),
    Scenario::new("ext4::linux_writes_and_leaves_it_clean", write)
        .with_disks(&[16])
        .on(|machine| machine.linux = true),
];

/// A file of the image, and how many bytes it has.
const FILES: [(&str, u64); 4] =
    [("empty", 0), ("small", 100), ("deep/odd", 4097), ("deep/er/large", 3_000_001)];
/// One that is mostly holes.
const SPARSE: (&str, u64) = ("deep/sparse", 2 << 20);

/// Makes files, and a file system of them on the machine's first disk. Returns the folder with the
/// files.
fn make(stage: &Stage) -> Result<PathBuf> {
    let folder = stage.folder().join("files");
    fs::create_dir_all(folder.join("deep/er"))?;
    for (name, bytes) in FILES {
        let content: Vec<u8> =
            (0..bytes).map(|index| (index * index / 251 + bytes) as u8).collect();
        fs::write(folder.join(name), content)?;
    }
    let (name, bytes) = SPARSE;
    fs::write(folder.join(name), "begins")?;
    File::options().write(true).open(folder.join(name))?.set_len(bytes)?;
    symlink("deep/odd", folder.join("link"))?;
    setup::ensure(&[Tool::Mke2fs])?;
    run(tool("mke2fs")?.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&folder).arg(image(stage)?))?;
    Ok(folder)
}

fn image(stage: &Stage) -> Result<&Path> {
    Ok(stage.disks.first().context("a disk")?)
}

/// A program of the package that mke2fs belongs to.
fn tool(name: &str) -> Result<Command> {
    Ok(Command::new(Tool::Mke2fs.find()?.path.with_file_name(name)))
}

/// Runs a program of the host that must succeed; returns what it printed.
fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}{complained}");
    Ok(output.stdout)
}

/// Whether the file system is in order.
fn check(stage: &Stage) -> Result<()> {
    run(tool("e2fsck")?.arg("-fn").arg(image(stage)?)).map(drop)
}

fn read(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let folder = make(stage)?;
    let output = shell.succeeds("xl create -c ext4 disk=disk0,xvda,r")?;
    for (name, bytes) in FILES.into_iter().chain([SPARSE]) {
        let line = format!("sha256 {} /{name} {bytes}", disk::sha256(&folder.join(name))?);
        ensure!(output.contains(&line), "no line `{line}`: {output}");
    }
    ensure!(output.matches("sha256 ").count() == FILES.len() + 1, "more files: {output}");
    ensure!(output.contains("link /link to deep/odd"), "no link: {output}");
    shell.wait_until_gone("ext4")?;
    // What is none is said to be none.
    shell.fails("xl create -c ext4 disk=ram:4M,xvda,w", &["ext4: corrupt filesystem"])?;
    check(stage)
}

fn write(shell: &mut Shell, stage: &Stage) -> Result<()> {
    const COMMANDS: &str = "cd /mnt; sha256sum empty small deep/odd deep/er/large deep/sparse; \
        dd if=/dev/urandom of=new bs=64k count=40; mkdir made; cp deep/er/large made/copy; \
        rm small; mv deep/odd moved; sha256sum new; cd /";
    let folder = make(stage)?;
    let output =
        shell.succeeds(&format!("xl create -c linux disk=disk0,xvda,w vif=[] run='{COMMANDS}'"))?;
    shell.wait_until_gone("linux")?;
    for (name, _) in FILES.into_iter().chain([SPARSE]) {
        let sum = disk::sha256(&folder.join(name))?;
        ensure!(output.contains(&sum), "{name} is not {sum}: {output}");
    }
    check(stage)?;
    let new = content(stage, "new")?;
    ensure!(output.contains(&new), "what is new is {new}: {output}");
    for (name, original) in [("made/copy", "deep/er/large"), ("moved", "deep/odd")] {
        let expected = disk::sha256(&folder.join(original))?;
        ensure!(content(stage, name)? == expected, "{name} is not {original}");
    }
    Ok(())
}

/// The SHA-256 of a file on the disk, as the host finds it there.
fn content(stage: &Stage, name: &str) -> Result<String> {
    let copy = stage.folder().join("copy");
    let bytes = run(tool("debugfs")?.arg("-R").arg(format!("cat /{name}")).arg(image(stage)?))?;
    fs::write(&copy, bytes)?;
    disk::sha256(&copy)
}
