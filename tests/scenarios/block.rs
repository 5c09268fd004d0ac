//! What a disk can be made of, what is negotiated for it, and what happens when things go wrong.
//! The guest `dd` stamps each sector with its place and round, and checks that.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tests::{Scenario, Shell, Stage, disk};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("block::blocks_of_many_sizes", sizes).with_disks(&[8]),
    Scenario::new("block::disks_in_memory", ram_disk),
    Scenario::new("block::overlays_over_one_base", overlays).with_disks(&[2, 8]),
    Scenario::new("block::an_overlay_that_is_full", full_overlay).with_disks(&[2]),
    Scenario::new("block::partitions_and_extents", parts).with_disks(&[4]),
    Scenario::new("block::a_cd", cdrom),
    Scenario::new("block::errors_of_the_device_reach_the_guest", bad_sector)
        .on(|machine| machine.bad_sector = Some(BAD_SECTOR)),
    Scenario::new("block::a_backend_starts_again_under_load", restart).with_disks(&[8]),
    Scenario::new("block::a_backend_that_dies_under_load", crash).with_disks(&[8]),
    Scenario::new("block::disks_come_and_go_while_another_is_in_use", hotplug).with_disks(&[8, 4]),
    Scenario::new("block::destroyed_while_it_writes", destroy).with_disks(&[8]),
    Scenario::new("block::rates", rates),
    Scenario::new("block::frontends_that_break_the_rules", hostile).with_disks(&[4]),
    Scenario::new("block::a_frontend_that_never_answers", silent),
];

const SECTOR: u64 = 512;
const BAD_SECTOR: u64 = 1000;

/// Runs `dd`; returns what it printed.
fn dd(shell: &mut Shell, disk: &str, command_line: &str) -> Result<String> {
    shell.succeeds(&format!("xl create -c dd disk={disk} cmdline=\"{command_line}\""))
}

/// The same where nothing may fail.
fn dd_well(shell: &mut Shell, disk: &str, command_line: &str) -> Result<()> {
    let output = dd(shell, disk, command_line)?;
    ensure!(output.contains(", 0 errors") && all_well(&output), "dd printed: {output}");
    Ok(())
}

fn all_well(output: &str) -> bool {
    output.matches(" errors").count() == output.matches(", 0 errors").count()
}

fn sizes(shell: &mut Shell, _: &Stage) -> Result<()> {
    for (size, count) in [("512", 100), ("4K", 100), ("44K", 50), ("45568", 50), ("1M", 8)] {
        let line = format!("op=stamp,check bs={size} count={count} depth=4");
        dd_well(shell, "disk0,xvda,w", &line)?;
    }
    let before = shell.free_frames()?;
    dd_well(shell, "disk0,xvda,w", "op=stamp,check,discard bs=64K count=128 depth=40 rounds=2")?;
    shell.wait_until_gone("dd")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

fn ram_disk(shell: &mut Shell, _: &Stage) -> Result<()> {
    dd_well(shell, "ram:4M,xvda,w", "op=stamp,check,discard bs=60K count=68 depth=4 rounds=2")?;
    // It is the guest's own: the next one finds zeroes.
    let output = shell.succeeds("xl create -c hash disk=ram:4M,xvda,w")?;
    let zeroes: String =
        Sha256::digest(vec![0; 4 << 20]).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(output.contains(&zeroes), "not zeroes: {output}");
    // Memory is given back, or there would be no more after a few.
    for _ in 0..4 {
        dd_well(shell, "ram:32M,xvda,w", "op=write bs=1M count=32")?;
        shell.wait_until_gone("dd")?;
    }
    // Nothing bounds what a domain file asks for but this.
    let reason = ["vbd 51712", "1048576 KiB of dom0's memory", "may be used"];
    shell.fails("xl create dd name=huge disk=ram:1G,xvda,w", &reason)?;
    shell.wait_until_gone("huge")?;
    shell.succeeds("xl create spin name=small")?;
    shell.fails("xl block-attach small ram:1G xvda w", &reason)?;
    let list = shell.succeeds("xl block-list small")?;
    ensure!(!list.contains("xvda"), "what was refused stays: {list}");
    shell.succeeds("xl destroy small")?;
    Ok(())
}

fn overlays(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let [base, _] = stage.disks.as_slice() else { anyhow::bail!("two disks") };
    let before = disk::sha256(base)?;
    let work = "op=stamp,check bs=60K count=34 depth=4 rounds=3";
    // Ten at a time on one base; what each of them writes only it can read.
    for number in 0..10 {
        let store = match number % 2 {
            0 => "ram:2M".to_string(),
            _ => format!("disk1@{}+{}", number / 2 * (1 << 20), 1 << 20),
        };
        // An extent of 1 MiB has room for a half of the disk.
        let count = if number % 2 == 0 { 34 } else { 16 };
        let work = work.replace("34", &count.to_string());
        shell.succeeds(&format!(
            "xl create dd name=dd{number} disk=disk0,xvda,w,overlay={store} cmdline=\"{work}\""
        ))?;
    }
    for number in 0..10 {
        let output = shell.succeeds(&format!("xl console dd{number}"))?;
        ensure!(output.contains(", 0 errors") && all_well(&output), "dd{number}: {output}");
    }
    ensure!(before == disk::sha256(base)?, "the base was written");
    // What was not written comes from the base, sector by sector.
    let output = shell.succeeds("xl create -c hash disk=disk0,xvda,w,overlay=ram:1M")?;
    ensure!(output.contains(&before), "another disk than its base: {output}");
    dd_well(shell, "disk0,xvda,w,overlay=disk1@4M+4M", "op=stamp bs=512 count=1 skip=9")?;
    shell.fails("xl create dd disk=disk0,xvda,w,overlay=floppy", &["floppy", "disk0p1"])?;
    shell.fails("xl create dd disk=disk0,xvda,w,overlay=disk0", &["disk0", "in use"])
}

fn full_overlay(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let before = disk::sha256(stage.disks.first().context("a disk")?)?;
    let output = dd(shell, "disk0,xvda,w,overlay=ram:1M", "op=write,read bs=64K count=32")?;
    ensure!(output.contains("Write 32 of 65536 bytes"), "{output}");
    ensure!(output.contains(", 16 errors"), "the other half has no room: {output}");
    ensure!(output.contains(", 0 errors"), "reading goes on: {output}");
    let after = disk::sha256(stage.disks.first().context("a disk")?)?;
    ensure!(before == after, "the base was written");
    Ok(())
}

fn parts(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let image = stage.disks.first().context("a disk")?;
    shell.fails("xl create hash disk=disk0p1,xvda,r", &["disk0", "no partition table"])?;
    write_partition_table(image, 3, 64, 1024)?;
    let sum = sum_of(image, 64, 1024)?;
    for target in ["disk0p3", "disk0@32K+512K"] {
        let output = shell.succeeds(&format!("xl create -c hash disk={target},xvda,r"))?;
        ensure!(output.contains(&sum), "{target} is not {sum}: {output}");
    }
    shell.fails("xl create hash disk=disk0p1,xvda,r", &["disk0", "no partition 1"])?;
    shell.fails("xl create hash disk=disk0@3M+2M,xvda,r", &["disk0", "is not on it"])?;

    // Writers of different parts do not disturb each other, nor what lies beside them.
    let beside = [sum_of(image, 0, 64)?, sum_of(image, 1088, 960)?];
    let work = "op=stamp,check bs=32K count=16 rounds=20";
    shell.succeeds(&format!("xl create dd name=one disk=disk0p3,xvda,w cmdline=\"{work}\""))?;
    shell.succeeds(&format!("xl create dd name=two disk=disk0@1M+1M,xvda,w cmdline=\"{work}\""))?;
    shell.fails("xl create hash disk=disk0@512K+1M,xvda,r", &["disk0", "in use"])?;
    for name in ["one", "two"] {
        let output = shell.succeeds(&format!("xl console {name}"))?;
        ensure!(all_well(&output), "{name}: {output}");
        shell.wait_until_gone(name)?;
    }
    ensure!(beside == [sum_of(image, 0, 64)?, sum_of(image, 1088, 960)?], "they left their parts");
    Ok(())
}

/// An MBR with one entry.
fn write_partition_table(image: &Path, number: usize, first: u32, count: u32) -> Result<()> {
    let mut record = [0; SECTOR as usize];
    let entry = 446 + (number - 1) * 16;
    record[entry + 4] = 0x83;
    record[entry + 8..entry + 12].copy_from_slice(&first.to_le_bytes());
    record[entry + 12..entry + 16].copy_from_slice(&count.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(OpenOptions::new().write(true).open(image)?.write_all(&record)?)
}

fn sum_of(image: &Path, first: u64, count: u64) -> Result<String> {
    let mut bytes = vec![0; (count * SECTOR) as usize];
    let mut file = fs::File::open(image)?;
    file.seek(SeekFrom::Start(first * SECTOR))?;
    file.read_exact(&mut bytes)?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn cdrom(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let before = disk::sha256(stage.disks.first().context("a disk")?)?;
    let output = dd(shell, "disk0,xvda,cdrom", "op=read,write bs=64K count=10")?;
    for word in ["read_only: true", "cdrom: true", "removable: true"] {
        ensure!(output.contains(word), "{word}: {output}");
    }
    ensure!(output.contains("Read 10") && output.contains(", 0 errors"), "reading: {output}");
    ensure!(output.contains(", 10 errors"), "it can be written: {output}");
    ensure!(before == disk::sha256(stage.disks.first().context("a disk")?)?, "it was written");
    Ok(())
}

fn bad_sector(shell: &mut Shell, _: &Stage) -> Result<()> {
    let output = dd(shell, "disk0,xvda,w", "op=read,write bs=4K count=256")?;
    ensure!(output.matches(", 1 errors").count() == 2, "{output}");
    let expected = format!("dd: sector {BAD_SECTOR}: the disk reports an error");
    ensure!(output.contains(&expected), "no word of the sector: {output}");
    Ok(())
}

fn restart(shell: &mut Shell, _: &Stage) -> Result<()> {
    for disk in ["disk0,xvda,w", "ram:8M,xvda,w", "disk0,xvda,w,overlay=ram:8M"] {
        restart_under_load(shell, disk, "xl block-restart dd xvda")?;
    }
    shell.fails("xl block-restart dom0 xvda", &["dom0"])?;
    shell.fails("xl block-restart nobody xvda", &["nobody"])
}

/// It drops what it has begun: the next one must not begin before the disk is done with that.
fn crash(shell: &mut Shell, _: &Stage) -> Result<()> {
    for disk in ["disk0,xvda,w", "disk0@0+4M,xvda,w,overlay=disk0@4M+4M"] {
        restart_under_load(shell, disk, "xl block-restart --crash dd xvda")?;
    }
    Ok(())
}

fn restart_under_load(shell: &mut Shell, disk: &str, command: &str) -> Result<()> {
    const RESTARTS: usize = 8;
    let work = "op=stamp,check bs=60K count=136 depth=8 rounds=1000";
    shell.succeeds(&format!("xl create dd disk={disk} memory=16 cmdline=\"{work}\""))?;
    for _ in 0..RESTARTS {
        wait_for(shell, "xl block-list dd", "Connected  Connected")?;
        shell.session().wait(Duration::from_millis(60))?;
        shell.succeeds(command)?;
    }
    wait_for(shell, "xl block-list dd", "Connected  Connected")?;
    shell.session().begin("xl console dd")?;
    // The last of what it says is about what was written since.
    shell.session().wait(Duration::from_millis(500))?;
    shell.leave_console("xl console dd")?;
    let said = shell.transcript();
    ensure!(said.matches("connecting again").count() >= RESTARTS, "it did not notice");
    ensure!(!said.contains("not what was written"), "writes were lost or came late");
    ensure!(all_well(&said), "requests failed");
    ensure!(shell.lists("dd")?, "it has ended");
    shell.succeeds("xl destroy dd")?;
    shell.wait_until_gone("dd")
}

fn hotplug(shell: &mut Shell, stage: &Stage) -> Result<()> {
    const BYTES: u64 = (34 * 60) << 10;
    const WORK: &str = "disks=all op=stamp,check bs=60K count=34 depth=4 rounds=60000";
    let image = stage.disks.get(1).context("two disks")?;
    shell.succeeds(&format!("xl create dd disk=disk0,xvda,w cmdline=\"{WORK}\""))?;
    for disk in ["disk1,xvdb,w", "ram:2M,xvdb,w", "disk1,xvdb,w,overlay=ram:3M"] {
        shell.succeeds(&format!("xl block-attach dd {disk}"))?;
        wait_until(shell, "xl block-list dd", |list| {
            list.matches("Connected  Connected").count() == 2
        })?;
        shell.session().wait(Duration::from_millis(200))?;
        // It is in use, and goes nevertheless: what was on its way is finished.
        shell.succeeds("xl block-detach dd xvdb")?;
        ensure!(!shell.succeeds("xl block-list dd")?.contains("xvdb"), "it is still there");
        if disk == "disk1,xvdb,w" {
            let rounds = rounds_until_removed(shell, "xvdb")?;
            check_stamps(image, BYTES, rounds)?;
        }
    }
    shell.succeeds("xl block-detach dd xvda")?;
    let rounds = rounds_until_removed(shell, "xvda")?;
    check_stamps(stage.disks.first().context("a disk")?, BYTES, rounds)?;
    let said = shell.transcript();
    ensure!(said.contains("dd: xvdb: the disk was removed"), "it did not notice");
    ensure!(!said.contains("not what was written"), "writes were lost or came late");
    ensure!(!said.contains("reports an error"), "requests failed");
    shell.succeeds("xl destroy dd")?;
    shell.wait_until_gone("dd")
}

/// How many rounds a disk saw whole before it was taken away, as the guest says.
fn rounds_until_removed(shell: &mut Shell, disk: &str) -> Result<u64> {
    let line = format!("dd: {disk}: the disk was removed, after ");
    shell.session().begin("xl console dd")?;
    shell.session().wait_for_text(&line)?;
    shell.session().wait_for_text(" rounds")?;
    shell.leave_console("xl console dd")?;
    let said = shell.transcript();
    let (_, rest) = said.rsplit_once(&line).context("no word of it")?;
    Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
}

/// After so many whole rounds each sector is of the last of them or of the one after it, as a whole.
fn check_stamps(image: &Path, bytes: u64, rounds: u64) -> Result<()> {
    ensure!(rounds > 0, "there was no time for anything");
    let mut content = vec![0; bytes as usize];
    fs::File::open(image)?.read_exact(&mut content)?;
    for (sector, content) in content.chunks(SECTOR as usize).enumerate() {
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let mut words = content.chunks(size_of::<u64>()).map(word).zip(0..);
        let round = word(&content[..size_of::<u64>()]) >> 8 & 0xFFFF;
        ensure!(
            words.all(|(word, index)| word == (sector as u64) << 24 | round << 8 | index),
            "sector {sector} is torn"
        );
        ensure!(
            round == rounds || round == rounds + 1,
            "sector {sector} is of round {round}, after {rounds}"
        );
    }
    Ok(())
}

fn destroy(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    for disk in ["disk0,xvda,w", "disk0,xvda,w,overlay=ram:8M", "ram:8M,xvda,w"] {
        for milliseconds in [0, 60, 150] {
            let work = "op=stamp bs=256K count=32 depth=16 rounds=1000";
            shell.succeeds(&format!("xl create dd disk={disk} cmdline=\"{work}\""))?;
            shell.session().wait(Duration::from_millis(milliseconds))?;
            shell.succeeds("xl destroy dd")?;
            shell.wait_until_gone("dd")?;
            let after = shell.free_frames()?;
            ensure!(before == after, "{before} frames were free before, {after} are after");
        }
    }
    // The disk is nobody's, and works.
    let output = shell.succeeds("xl create -c hash disk=disk0,xvda,r")?;
    let image = stage.disks.first().context("a disk")?;
    ensure!(output.contains(&disk::sha256(image)?), "{output}");
    Ok(())
}

fn rates(shell: &mut Shell, _: &Stage) -> Result<()> {
    for (limit, work) in
        [("rate=1MB/s", "op=read bs=100K count=20"), ("iops=20/s", "op=read bs=4K count=40")]
    {
        let output = dd(shell, &format!("ram:1M,xvda,w,{limit}"), work)?;
        let words: Vec<&str> = output.split_whitespace().collect();
        let position = words.iter().position(|word| *word == "us,").context("no time")?;
        let time: u64 = words[position - 1].parse()?;
        // However slow the host is, it cannot be faster than the rate; the first interval is free.
        ensure!(time > 1_800_000, "{limit}: two seconds' work took {time} us");
    }
    shell.fails("xl create dd disk=ram:1M,xvda,w,iops=fast", &["iops", "500/s"])
}

fn hostile(shell: &mut Shell, stage: &Stage) -> Result<()> {
    let work = "op=stamp,check bs=60K count=34 depth=4 rounds=1000";
    let create = "xl create dd name=bystander disk=disk0@0+2M,xvda,w";
    shell.succeeds(&format!("{create} cmdline=\"{work}\""))?;
    wait_for(shell, "xl block-list bystander", "Connected  Connected")?;
    let before = shell.free_frames()?;
    let disks = r#"disk=["disk0@2M+1M,xvda,w","ram:1M,xvdb,w","ram:1M,xvdc,r"]"#;
    let create = format!("xl create -c hello name=hostile kernel=hostile '{disks}'");
    let output = shell.succeeds(&create)?;
    let lines: Vec<&str> = output.lines().filter(|line| line.contains(" block: ")).collect();
    ensure!(lines.len() >= 15, "{} attempts were made: {output}", lines.len());
    let failed: Vec<&&str> = lines.iter().filter(|line| !line.starts_with("ok ")).collect();
    ensure!(failed.is_empty(), "{failed:?}");
    shell.wait_until_gone("hostile")?;
    ensure!(shell.transcript().contains("producer index"), "no word of it in the log");
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    ensure!(shell.lists("bystander")?, "the other guest is gone");
    let said = shell.succeeds("xl destroy bystander")?;
    ensure!(all_well(&said), "the other guest noticed: {said}");
    drop(disk::sha256(stage.disks.first().context("a disk")?)?);
    Ok(())
}

/// It has a disk and does not know.
fn silent(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    shell.succeeds("xl create hello disk=disk0,xvda,w cmdline=sleep=1000")?;
    let list = wait_for(shell, "xl block-list hello", "InitWait")?;
    ensure!(list.contains("Initialising") && list.contains("  frontend  "), "{list}");
    // Others are served meanwhile, but not with a disk that somebody else may write.
    dd_well(shell, "ram:1M,xvda,w", "op=stamp,check bs=64K count=16")?;
    shell.fails("xl create hash disk=disk0,xvda,r", &["disk0", "in use"])?;
    shell.succeeds("xl destroy hello")?;
    shell.wait_until_gone("hello")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    dd_well(shell, "disk0,xvda,w", "op=stamp,check bs=64K count=16")
}

/// Repeats a command until what it prints has this in it.
fn wait_for(shell: &mut Shell, command: &str, text: &str) -> Result<String> {
    let found = wait_until(shell, command, |output| output.contains(text));
    found.with_context(|| format!("no `{text}`"))
}

/// Repeats a command until what it prints is as it should be.
fn wait_until(shell: &mut Shell, command: &str, is_right: impl Fn(&str) -> bool) -> Result<String> {
    for _ in 0..200 {
        let output = shell.succeeds(command)?;
        if is_right(&output) {
            return Ok(output);
        }
        shell.session().wait(Duration::from_millis(20))?;
    }
    anyhow::bail!("`{command}` does not come to show what it should")
}
