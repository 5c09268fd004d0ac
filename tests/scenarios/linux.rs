//! Debian's kernel as it is, with its own frontends (`cargo xtask run --linux`).

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::{Scenario, Shell, Stage, disk};
use xtask::linux::Linux;
use xtask::{bench, options};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("linux::boots_and_has_no_complaints", boots).on(with_linux),
    Scenario::new("linux::uses_its_disk_and_its_network", devices).with_disks(&[4]).on(with_linux),
    Scenario::new("linux::newer_boots_and_has_no_complaints", boots).on(with_newer_linux),
    Scenario::new("linux::newer_uses_its_disk_and_its_network", devices)
        .with_disks(&[4])
        .on(with_newer_linux),
    Scenario::new("linux::boots_with_fewer_exits_than_on_xen", counted_boot).on(counted),
    Scenario::new("linux::each_vcpu_has_a_queue", queues).on(with_two_cpus),
    Scenario::new("linux::works_beside_other_guests", load).on(with_stress),
    Scenario::new("linux::gives_vcpus_and_memory_and_takes_them", hotplug).on(with_two_cpus),
    Scenario::new("linux::reboots_and_shuts_down", reboots).on(with_linux),
    Scenario::new("linux::talks_by_a_uart", uart).on(with_linux),
    Scenario::new("linux::boots_without_knowing_of_xen", plain_machine).on(with_linux),
    Scenario::new("linux::what_does_not_fit_is_told", bad_input).on(with_linux),
];

fn with_linux(machine: &mut options::Machine) {
    machine.linux = true;
}

/// 6.12 at the time of writing.
fn with_newer_linux(machine: &mut options::Machine) {
    with_linux(machine);
    machine.linux_release = Some("bookworm-backports".into());
}

fn counted(machine: &mut options::Machine) {
    with_linux(machine);
    (machine.icount, machine.memory) = (true, Some(1024));
}

fn with_two_cpus(machine: &mut options::Machine) {
    with_linux(machine);
    machine.smp = 2;
}

/// By the ruler, so that a busy host starves nobody.
fn with_stress(machine: &mut options::Machine) {
    with_two_cpus(machine);
    machine.icount = true;
    machine.linux_packages = vec!["stress-ng".into()];
}

/// Runs a command in the guest, which powers off after it; returns what the console showed.
fn run(shell: &mut Shell, arguments: &str, command: &str) -> Result<String> {
    let output = shell.succeeds(&format!("xl create -c linux {arguments} run='{command}'"))?;
    shell.wait_until_gone("linux")?;
    Ok(output)
}

fn boots(shell: &mut Shell, _: &Stage) -> Result<()> {
    const COMMANDS: &str = "dmesg; echo now $(date +%s); sleep 0.2; echo \"slept: a\\b\"";
    let before = shell.free_frames()?;
    let output = run(shell, "cmdline=loglevel=1", COMMANDS)?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    for wanted in ["Xen 4.17 support found", "xen:events: Using FIFO-based ABI", "slept: a\\b"] {
        ensure!(output.contains(wanted), "the guest did not say `{wanted}`");
    }
    has_no_complaints(&output)?;
    let clock = output.lines().find_map(|line| line.strip_prefix("now ")).context("no clock")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let difference = now.abs_diff(clock.trim().parse()?);
    ensure!(difference < 600, "its clock is wrong by {difference} s");
    Ok(())
}

/// Nothing in its log blames the hypervisor, and none of its watchdogs barked.
fn has_no_complaints(log: &str) -> Result<()> {
    let complaints =
        ["Xen", "xen", "GIC", "psci", "timer", "rcu", "watchdog", "BUG", "WARNING", "Unhandled"];
    let blames =
        ["rror", "ail", "arning", "BUG", "stall", "lockup", "ncorrect", "nexpected", "imeout"];
    let complains = |line: &&str| {
        complaints.iter().any(|who| line.contains(who))
            && blames.iter().any(|what| line.contains(what))
    };
    // What it was told to run is in its log, too.
    let lines = log.lines().filter(|line| !line.contains("run="));
    let found: Vec<&str> = lines.filter(complains).collect();
    ensure!(found.is_empty(), "its log complains: {}", found.join("; "));
    Ok(())
}

/// Xen 4.17 takes 959 exits for it. Its instructions are for `cargo xtask bench linux` to compare:
/// almost all are the kernel's own.
fn counted_boot(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds(
        "xl create -c linux disk=[] vif=[] memory=512 on_poweroff=preserve \
         cmdline='quiet rdinit=/bin/busybox -- poweroff -f'",
    )?;
    let exits = bench::exits(&shell.succeeds("xl counters")?, Linux::NAME);
    let exits = exits.context("xl counters does not show linux")?;
    ensure!(exits <= 959, "{exits} exits");
    Ok(())
}

fn devices(shell: &mut Shell, stage: &Stage) -> Result<()> {
    const COMMANDS: &str = "mount | grep xvda; dd if=/dev/urandom of=/mnt/file bs=64k count=64; \
        sha256sum < /mnt/file > /tmp/sum; umount /mnt; mount -t ext4 /dev/xvda /mnt; \
        sha256sum < /mnt/file | cmp - /tmp/sum && echo as written; \
        ip route; wget -q -O - http://10.0.2.15/ | head -c 100";
    shell.succeeds("xl create web")?;
    let output = run(shell, "", COMMANDS)?;
    for wanted in ["/dev/xvda on /mnt type ext4", "as written", "via 10.0.2.2", "paravirtual guest"]
    {
        ensure!(output.contains(wanted), "no line has `{wanted}`: {output}");
    }
    // A disk of the host's, byte by byte.
    let disk = stage.disks.first().context("a disk")?;
    let sum = run(shell, "disk=disk0,xvda,r vif=[]", "sha256sum /dev/xvda")?;
    ensure!(sum.contains(&disk::sha256(disk)?), "another sum than the host's: {sum}");
    Ok(())
}

/// Its interface has a pair of rings for each vCPU, and an event channel for each ring; several
/// connections at once, with the ports as they come, use all of them.
fn queues(shell: &mut Shell, stage: &Stage) -> Result<()> {
    const COMMANDS: &str = "ls /sys/class/net/eth0/queues; \
        for i in 1 2 3 4 5 6 7 8; do wget -q -O - http://10.0.2.15/bytes?n=251000 | sha256sum & done; \
        wait; grep vif0 /proc/interrupts";
    shell.succeeds("xl create web")?;
    let output = run(shell, "vcpus=2 disk=[]", COMMANDS)?;
    for queue in ["rx-0", "rx-1", "tx-0", "tx-1"] {
        ensure!(output.contains(queue), "there is no queue {queue}: {output}");
    }
    let sum = sum_of_what_web_sends(stage)?;
    ensure!(output.matches(&sum).count() == 8, "not eight times {sum}: {output}");
    for queue in ["vif0-q0-rx", "vif0-q1-rx", "vif0-q0-tx", "vif0-q1-tx"] {
        let line = output.lines().find(|line| line.contains(queue)).context(queue)?;
        let mut counts = line.split_whitespace().skip(1).take(2);
        let used = counts.any(|count| count.parse().is_ok_and(|count: u64| count > 0));
        ensure!(used || queue.ends_with("tx"), "{queue} was not used: {line}");
    }
    Ok(())
}

/// The short form of tests/load/linux.script.
fn load(shell: &mut Shell, stage: &Stage) -> Result<()> {
    const COMMANDS: &str = "(dd if=/dev/urandom of=/mnt/file bs=64k count=32; \
        sha256sum < /mnt/file > /tmp/sum; echo 3 > /proc/sys/vm/drop_caches; \
        sha256sum < /mnt/file | cmp - /tmp/sum && echo as written) & \
        for i in 1 2 3 4; do wget -q -O - http://10.0.2.15/bytes?n=251000 | sha256sum; done & \
        stress-ng --timeout 2 --timer 1 --timer-freq 500 --futex 1 --switch 1 --affinity 1; \
        wait; dmesg";
    const OTHERS: [&str; 3] = ["web", "stamps", "sleeper"];
    shell.succeeds("xl create web")?;
    shell.succeeds(
        "xl create dd name=stamps disk=ram:4M,xvda,w \
         cmdline='op=stamp,check bs=64K count=64 rounds=1000000'",
    )?;
    shell.succeeds("xl create spin name=sleeper cmdline='rounds=10000000 run=1 sleep=5'")?;
    let output = run(shell, "vcpus=2 cmdline=loglevel=1", COMMANDS)?;
    has_no_complaints(&output)?;
    for wanted in ["as written", "successful run completed"] {
        ensure!(output.contains(wanted), "no line has `{wanted}`: {output}");
    }
    let sum = sum_of_what_web_sends(stage)?;
    ensure!(output.matches(&sum).count() == 4, "not four times {sum}: {output}");
    for other in OTHERS {
        ensure!(shell.lists(other)?, "{other} has ended");
    }
    Ok(())
}

/// Of 251,000 bytes.
fn sum_of_what_web_sends(stage: &Stage) -> Result<String> {
    let bytes: Vec<u8> = (0..=250).cycle().take(251_000).collect();
    let file = stage.folder().join("bytes");
    std::fs::write(&file, bytes)?;
    disk::sha256(&file)
}

/// At the guest's own shell.
fn console(shell: &mut Shell, typed: &[u8], answer: &str) -> Result<()> {
    shell.session().begin("xl console linux")?;
    shell.session().wait_for_text("# ")?;
    shell.session().type_bytes(typed, "a command for Linux")?;
    shell.session().wait_for_text(answer)?;
    shell.leave_console("xl console linux")
}

fn hotplug(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create linux vcpus=2 maxvcpus=3")?;
    console(shell, b"nproc; cat /sys/devices/system/cpu/possible\n", "0-2")?;
    shell.succeeds("xl vcpu-set linux 1")?;
    shell.wait_for_vcpus("linux", 1)?;
    // What is added, Linux on arm64 brings online when it is told to.
    shell.succeeds("xl vcpu-set linux 3")?;
    console(
        shell,
        b"for n in 1 2; do echo 1 > /sys/devices/system/cpu/cpu$n/online; done\n",
        "# ",
    )?;
    shell.wait_for_vcpus("linux", 3)?;
    for mebibytes in [200, 230] {
        shell.succeeds(&format!("xl mem-set linux {mebibytes}"))?;
        wait_for_memory(shell, mebibytes)?;
    }
    shell.succeeds("xl shutdown linux")?;
    shell.wait_until_gone("linux")
}

fn wait_for_memory(shell: &mut Shell, mebibytes: u64) -> Result<()> {
    for _ in 0..200 {
        let list = shell.succeeds("xl list")?;
        let row = list.lines().find(|line| line.starts_with("linux")).context("no linux")?;
        if row.split_whitespace().nth(2) == Some(&mebibytes.to_string()) {
            return Ok(());
        }
        shell.session().wait(Duration::from_millis(100))?;
    }
    bail!("linux does not come to {mebibytes} MiB")
}

fn reboots(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create linux")?;
    console(shell, b"reboot\n", "reboot: Restarting system")?;
    // The new one has a shell, too.
    shell.wait_until_gone("linux")?;
    shell.wait_for_vcpus("linux", 1)?;
    console(shell, b"poweroff\n", "reboot: Power down")?;
    shell.wait_until_gone("linux")
}

fn uart(shell: &mut Shell, _: &Stage) -> Result<()> {
    const LINE: &str = "earlycon=pl011,0x22000000 console=ttyAMA0";
    shell.succeeds(&format!("xl create linux vuart=sbsa_uart disk=[] vif=[] cmdline='{LINE}'"))?;
    console(shell, b"echo typed $((40 + 2)) by $(basename $(tty))\n", "typed 42 by ttyAMA0")?;
    let printed = shell.transcript();
    ensure!(printed.contains("Booting Linux on physical CPU"), "nothing came by earlycon");
    shell.succeeds("xl destroy linux")?;
    Ok(())
}

/// As a kernel boots that has no support for Xen: it finds no hypervisor.
fn plain_machine(shell: &mut Shell, _: &Stage) -> Result<()> {
    const KEYS: &str = "enhanced=disabled vuart=sbsa_uart vcpus=2 disk=[] vif=[]";
    shell.succeeds(&format!("xl create linux {KEYS} cmdline='quiet console=ttyAMA0'"))?;
    console(
        shell,
        b"echo $(dmesg | grep -c Xen) by $(basename $(tty)), $(nproc) CPUs\n",
        "0 by ttyAMA0, 2 CPUs",
    )?;
    console(shell, b"poweroff\n", "reboot: Power down")?;
    shell.wait_until_gone("linux")?;
    shell.fails("xl create linux enhanced=maybe", &["maybe", "disabled"])
}

fn bad_input(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails("xl create linux memory=16", &["kernel `linux`", "more memory"])?;
    shell.fails("xl create linux memory=34", &["34 MiB", "ramdisk", "raise memory to"])?;
    shell.fails("xl create linux ramdisk=files", &["`files`", "there are: linux"])?;
    shell.fails("xl create linux vuart=pl010", &["pl010", "sbsa_uart"])
}
