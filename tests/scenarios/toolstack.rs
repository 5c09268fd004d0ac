//! The everyday verbs of `xl`, and what making and ending domains costs.

use anyhow::{Context, Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("toolstack::reboot_follows_the_domain_file", reboot),
    Scenario::new("toolstack::names_and_numbers", names),
    Scenario::new("toolstack::memory_goes_and_comes", balloon),
    Scenario::new("toolstack::memory_beyond_the_start", maxmem),
    Scenario::new("toolstack::a_crashed_domain_stays_beside_its_successor", rename_restart)
        .with_disks(&[1]),
    Scenario::new("toolstack::views_for_people_and_programs", views).with_disks(&[1]),
    Scenario::new("toolstack::a_quota_is_named", quota).with_disks(&[1]),
    Scenario::new("toolstack::disks_come_and_go", disks).with_disks(&[1, 1]),
    Scenario::new("toolstack::creation_and_destruction_are_cheap", costs)
        .on(|machine| machine.icount = true),
    Scenario::new("toolstack::many_lives_leave_nothing", many_lives).with_disks(&[64]),
    Scenario::new("toolstack::two_hundred_domains", crowd).on(|machine| {
        machine.memory = Some(1024);
    }),
];

/// Waits until the idle domain listens to the toolstack.
fn wait_until_up(shell: &mut Shell, name: &str) -> Result<()> {
    shell.session().begin(&format!("xl console {name}"))?;
    shell.session().wait_for_text("sleeping")?;
    shell.leave_console(&format!("xl console {name}"))
}

fn reboot(shell: &mut Shell, _: &Stage) -> Result<()> {
    let id = |shell: &mut Shell| -> Result<u32> {
        Ok(shell.succeeds("xl domid hello")?.trim().parse()?)
    };
    shell.succeeds("xl create hello cmdline=sleep=1000")?;
    wait_until_up(shell, "hello")?;
    let before = id(shell)?;
    shell.succeeds("xl reboot -w hello")?;
    // It is made again a second later.
    shell.succeeds("sleep 1.5")?;
    wait_until_up(shell, "hello")?;
    ensure!(id(shell)? != before, "it has not been made again");
    shell.succeeds("xl destroy hello")?;

    shell.succeeds("xl create hello cmdline=sleep=1000 on_reboot=preserve on_poweroff=restart")?;
    wait_until_up(shell, "hello")?;
    shell.succeeds("xl reboot -w hello")?;
    let state = shell.state("hello")?.unwrap_or_default();
    ensure!(state.contains('s'), "preserved, its state is {state}");
    shell.fails("xl reboot hello", &["hello", "preserved"])?;
    shell.succeeds("xl destroy hello")?;
    shell.fails("xl create hello on_watchdog=explode", &["explode", "restart"])
}

fn names(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello name=one cmdline=sleep=1000")?;
    shell.succeeds("xl create -p hello name=two")?;
    shell.fails("xl rename one two", &["two", "exists"])?;
    shell.fails("xl rename one 2nd", &["2nd", "letter"])?;
    shell.succeeds("xl rename one first")?;
    let id = shell.succeeds("xl domid first")?.trim().to_string();
    let name = shell.succeeds(&format!("xl domname {id}"))?;
    ensure!(name.trim() == "first", "domain {id} is called {name}");
    let stored = shell.succeeds(&format!("xenstore-read /local/domain/{id}/name"))?;
    ensure!(stored.trim() == "first", "the store calls it {stored}");
    let uptime = shell.succeeds("xl uptime")?;
    ensure!(uptime.contains("first") && uptime.contains("0:00:0"), "xl uptime: {uptime}");
    let state = shell.state("two")?.unwrap_or_default();
    ensure!(state.contains('p'), "made with -p, its state is {state}");
    wait_until_up(shell, "first")?;
    shell.succeeds("xl sysrq first m")?;
    shell.session().begin("xl console first")?;
    shell.session().wait_for_text("of heap are in use")?;
    shell.leave_console("xl console first")?;
    shell.succeeds("xl sysrq first c")?;
    shell.wait_until_gone("first")
}

fn balloon(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    shell.succeeds("xl create hello memory=64 cmdline=sleep=1000")?;
    wait_until_up(shell, "hello")?;
    let whole = shell.free_frames()?;
    for (mebibytes, given) in [(24, 40 * 256), (64, 0), (16, 48 * 256)] {
        shell.succeeds(&format!("xl mem-set hello {mebibytes}"))?;
        // What splitting a block costs the monitor, a table for each, is the domain's, too.
        let slack = 40;
        shell.wait_for_free_frames(whole + given, slack)?;
    }
    shell.fails("xl mem-set hello 65", &["hello", "64 MiB"])?;
    shell.fails("xl mem-set hello 1", &["hello", "2 to"])?;
    shell.fails("xl mem-set dom0 64", &["dom0"])?;
    shell.succeeds("xl destroy hello")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

/// It grows by more than it had, and gives all of it back.
fn maxmem(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello memory=16 maxmem=48 cmdline=sleep=1000")?;
    wait_until_up(shell, "hello")?;
    let start = shell.free_frames()?;
    for (mebibytes, taken) in [(48, 32 * 256), (24, 8 * 256), (48, 32 * 256), (16, 0)] {
        shell.succeeds(&format!("xl mem-set hello {mebibytes}"))?;
        shell.wait_for_free_frames(start - taken, 40)?;
    }
    shell.fails("xl mem-set hello 49", &["48 MiB", "mem-max"])?;
    shell.succeeds("xl mem-max hello 80")?;
    shell.succeeds("xl mem-set hello 80")?;
    shell.wait_for_free_frames(start - 64 * 256, 40)?;
    shell.fails("xl mem-max hello 79", &["80 MiB"])?;
    shell.succeeds("xl sysrq hello m")?;
    shell.session().begin("xl console hello")?;
    shell.session().wait_for_text("of heap are in use")?;
    shell.leave_console("xl console hello")?;
    shell.fails("xl create hello name=b memory=32 maxmem=16", &["maxmem"])
}

fn rename_restart(shell: &mut Shell, _: &Stage) -> Result<()> {
    let arguments = "cmdline=sleep=1000 disk=disk0,xvda,w vif= on_crash=rename-restart";
    shell.succeeds(&format!("xl create hello {arguments}"))?;
    wait_until_up(shell, "hello")?;
    let id = shell.succeeds("xl domid hello")?.trim().to_string();
    shell.succeeds("xl sysrq hello c")?;
    let kept = format!("hello-{id}");
    while !shell.lists(&kept)? {
        shell.succeeds("sleep 0.02")?;
    }
    let state = shell.state(&kept)?.unwrap_or_default();
    ensure!(state.contains('c'), "the state of what crashed is {state}");
    shell.fails("xl create hello", &["exists already"])?;
    shell.succeeds("sleep 1.2")?;
    wait_until_up(shell, "hello")?;
    let list = shell.succeeds("xl block-list hello")?;
    ensure!(list.contains("disk0"), "its disk is not its successor's: {list}");
    ensure!(!shell.succeeds(&format!("xl block-list {kept}"))?.contains("disk0"));
    shell.succeeds(&format!("xl destroy {kept}"))?;
    shell.succeeds("xl destroy hello")?;
    shell.fails("xl create hello on_crash=coredump-restart", &["no place", "rename-restart"])
}

fn views(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello memory=16 maxmem=32 cmdline=sleep=1000 disk=disk0,xvda,r")?;
    wait_until_up(shell, "hello")?;
    let long = shell.succeeds("xl list -l hello")?;
    for word in ["\"domid\"", "\"max_memkb\": 32768", "\"vdev\": \"xvda\"", "\"on_crash\""] {
        ensure!(long.contains(word), "no {word} in: {long}");
    }
    shell.succeeds("xl debug-keys hqreg")?;
    let log = shell.succeeds("xl dmesg")?;
    for word in ["CPUs, and which", "may run", "d1v0: blocked", "CPU 0: d0v0", "d1 port 1: to d0"] {
        ensure!(log.contains(word), "no `{word}` in: {log}");
    }
    ensure!(log.contains("others map"), "no grants in: {log}");
    shell.fails("xl debug-keys !", &["`!`", "h shows"])
}

/// Console and store take all ports that there may be.
fn quota(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.fails("xl create -c hash disk=disk0,xvda,r event_channels=2", &["crashed"])?;
    let log = shell.succeeds("xl dmesg")?;
    ensure!(log.contains("wants more than 2 event channels"), "no word of it in: {log}");
    let said = shell.transcript();
    ensure!(said.contains("this domain has used up its event channels"), "the guest says nothing");
    Ok(())
}

fn disks(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create hello cmdline=sleep=1000 disk=disk0,xvda,r")?;
    shell.succeeds("xl block-attach hello disk1,xvdb,w")?;
    let list = shell.succeeds("xl block-list hello")?;
    for word in ["xvda", "disk0", "xvdb", "disk1", "InitWait"] {
        ensure!(list.contains(word), "no {word} in: {list}");
    }
    shell.fails("xl block-attach hello disk1,xvdb,w", &["hello", "xvdb"])?;
    shell.fails("xl block-attach hello disk1,xvdc,w", &["disk1", "in use"])?;
    shell.fails("xl block-attach hello disk2,xvdc,w", &["disk2", "disk0, disk1"])?;
    shell.fails("xl create hash disk=disk1,xvda,w", &["disk1", "in use"])?;
    shell.fails("xl block-detach hello xvdc", &["xvdc", "xvda, xvdb"])?;
    shell.succeeds("xl block-detach hello xvdb")?;
    let list = shell.succeeds("xl block-list hello")?;
    ensure!(!list.contains("xvdb"), "xvdb is still in: {list}");
    let output = shell.succeeds("xl create -c hash disk=disk1,xvda,w")?;
    ensure!(output.contains("sha256"), "hash printed: {output}");
    shell.succeeds("xl destroy hello")?;
    Ok(())
}

/// By the ruler a microsecond is a thousand instructions, wherever this runs.
fn costs(shell: &mut Shell, _: &Stage) -> Result<()> {
    const MAKE: (&str, u64) = ("xl create -p hello memory=128", 8000);
    const END: (&str, u64) = ("xl destroy hello", 4000);
    /// From the command to its first line, which may take 25 ms; here on to its end, of which it
    /// sleeps 200 ms, in less than half of that.
    const LIFE: (&str, u64) = ("xl create -c hello disk=disk0,xvda,r vif=", 212_000);
    for (command, limit) in [MAKE, END, MAKE, END, LIFE] {
        let output = shell.succeeds(&format!("time {command}"))?;
        let took = output.split("took ").nth(1).and_then(|rest| rest.split(' ').next());
        let took: u64 = took.context("no time")?.parse()?;
        ensure!(took < limit, "`{command}` took {took} us of virtual time");
    }
    Ok(())
}

/// Nodes of the store.
fn nodes(shell: &mut Shell) -> Result<usize> {
    Ok(shell.succeeds("xenstore-ls")?.lines().count())
}

/// Guests come and go in the middle of their work with disk and network. What is counted in the
/// end: frames, of which ports, grants and mappings take some, and nodes of the store.
fn many_lives(shell: &mut Shell, _: &Stage) -> Result<()> {
    const LIVES: usize = 50;
    /// Lives after which whatever grows once has grown.
    const FIRST: usize = 3;
    let mut before = None;
    for life in 0..FIRST + LIVES {
        if life == FIRST {
            before = Some((shell.free_frames()?, nodes(shell)?));
        }
        shell.succeeds("xl create hash name=a disk=disk0,xvda,w vif=")?;
        shell.succeeds("xl create web name=b memory=16")?;
        // At any point of their lives, from the first instruction on.
        shell.succeeds(&format!("sleep 0.0{:02}", life * 7 % 100))?;
        shell.succeeds("xl destroy a")?;
        shell.succeeds("xl destroy b")?;
    }
    let after = (shell.free_frames()?, nodes(shell)?);
    ensure!(before == Some(after), "frames and nodes were {before:?} before, are {after:?} after");
    Ok(())
}

fn crowd(shell: &mut Shell, _: &Stage) -> Result<()> {
    const CROWD: usize = 200;
    let before = shell.free_frames()?;
    for number in 0..CROWD {
        shell.succeeds(&format!("xl create hello name=d{number} memory=4 cmdline=sleep=1000"))?;
    }
    let list = shell.succeeds("xl list")?;
    let running = list.lines().filter(|line| line.starts_with('d')).count();
    ensure!(running == CROWD + 1, "{running} domains run, dom0 among them");
    wait_until_up(shell, &format!("d{}", CROWD - 1))?;
    for number in 0..CROWD {
        shell.succeeds(&format!("xl destroy d{number}"))?;
    }
    // dom0's own tables have grown to have ports for all of them, once.
    let after = shell.free_frames()?;
    ensure!(after + 8 >= before, "{before} frames were free before, {after} are after");
    Ok(())
}
