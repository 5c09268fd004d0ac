//! `cargo xtask gdb`

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build;
use crate::options;
use crate::paths;
use crate::qemu::{Console, Machine};
use crate::setup::{self, Qemu, Tool};

/// Boots halted, with gdb attached and symbols loaded.
///
/// # Errors
/// A tool is missing, the build fails, or gdb cannot be started.
pub fn run(options: &options::Machine) -> Result<()> {
    setup::ensure(Tool::DEBUG)?;
    let images = build::build()?;
    let folder = paths::target().join("gdb");
    let machine = Machine::kept(&Qemu::find()?, &images, options, &folder)?;
    let port = free_port()?;
    let console = folder.join("console");
    let log = console.with_extension("log");
    // It lives as long as this process, which becomes gdb: Ctrl-C then interrupts the machine.
    let _qemu = machine.start_halted(Console::Socket(console.clone()), port)?;
    eprintln!("The console is written to {}", log.display());
    eprintln!("To type there: nc -U {}", console.display());
    let error = Command::new(setup::gdb()?)
        .arg("--quiet")
        .args(commands(&images, machine.layout().monitor.start, port, &log))
        .exec();
    Err(error).context("cannot start gdb")
}

/// What gdb is told before the user gets it.
fn commands(images: &build::Images, monitor: u64, port: u16, console: &Path) -> Vec<OsString> {
    let evaluated = [
        "set confirm off".to_string(),
        format!("add-symbol-file {} -o {monitor:#x}", images.monitor.elf.display()),
        format!("target remote 127.0.0.1:{port}"),
        format!("set $dom0 = \"{}\"", images.dom0.elf.display()),
        format!("set $console = \"{}\"", console.display()),
        format!("source {}", paths::root().join("qemu/aurochs.gdb").display()),
    ];
    let options = evaluated.into_iter().flat_map(|line| ["--eval-command".into(), line.into()]);
    options.collect()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
