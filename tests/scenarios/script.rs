//! `cargo xtask run --script` as a program sees it: exit status and last line.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

/// A script, and the words that its last line must have; none if it succeeds.
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    ("script::succeeds", "# nothing wrong\nxl list\nxl create -c hello\n", &[], &[]),
    ("script::ends_with_poweroff", "xl list\npoweroff\n", &[], &[]),
    (
        "script::names_the_failed_command",
        "xl list\nxl destroy nobody\n",
        &[],
        &["line 2", "nobody"],
    ),
    (
        "script::times_out",
        "sleep 1000\n",
        &["--timeout", "15"],
        &["timeout", "sleep 1000", "CPU 0"],
    ),
    (
        "script::qemu_refuses",
        "xl list\n",
        &["--cpu", "no-such-cpu"],
        &["QEMU ended", "no-such-cpu"],
    ),
    ("script::missing_disk_image", "xl list\n", &["--disk", "/no/such/disk"], &["/no/such/disk"]),
    (
        "script::missing_guest_image",
        "xl list\n",
        &["--guest", "x=/no/such/guest"],
        &["/no/such/guest"],
    ),
    ("script::too_little_memory", "xl list\n", &["--memory", "32"], &["--memory"]),
];

/// One for each case.
pub fn trials() -> impl Iterator<Item = Trial> {
    CASES.iter().map(|case| {
        Trial::test(case.0, move || play(case).map_err(|error| Failed::from(format!("{error:#}"))))
    })
}

fn play(&(_, script, arguments, words): &Case) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("script");
    fs::write(&path, script)?;
    // A disk of its own, or two runs at once would fight for the default one.
    let disk = folder.path().join("disk");
    fs::write(&disk, vec![0; 1 << 20])?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(xtask::paths::root()).args(["xtask", "run", "--script"]).arg(&path);
    command.args(arguments);
    if !arguments.contains(&"--disk") {
        command.arg("--disk").arg(&disk);
    }
    let output = command.output().context("cannot start cargo")?;
    let console = String::from_utf8_lossy(&output.stdout);
    let messages = String::from_utf8_lossy(&output.stderr);
    let seen = format!("── standard output ──\n{console}\n── standard error ──\n{messages}");
    let last = messages.lines().last().unwrap_or_default();
    ensure!(output.status.success() == words.is_empty(), "{}\n{seen}", output.status);
    for word in words {
        ensure!(last.contains(word), "the last line does not name `{word}`: {last}\n{seen}");
    }
    ensure!(!console.contains("\x1b]133"), "marks are left in what is shown\n{seen}");
    Ok(())
}
