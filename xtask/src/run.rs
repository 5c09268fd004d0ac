//! `cargo xtask run`

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::build;
use crate::control::Announcement;
use crate::options;
use crate::qemu::{Console, Machine};
use crate::session::{Script, Session};
use crate::setup::{self, Qemu, Tool};

/// What a script may take if nothing else is said.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(600);

/// Builds, boots, and gives the dom0 shell to the user or to a script.
///
/// # Errors
/// A tool is missing, the build fails, or the machine ends badly.
pub fn run(options: &options::Run) -> Result<()> {
    let script = options.script.as_deref().map(Script::read).transpose()?;
    setup::ensure(Tool::RUN)?;
    let qemu = Qemu::find()?;
    let machine = Machine::new(&qemu, &build::build()?, &options.machine())?;
    match script {
        Some(script) => play(&qemu, machine, &script, options.timeout.unwrap_or(SCRIPT_TIMEOUT)),
        None => interact(&qemu, &machine, options.timeout),
    }
}

fn interact(qemu: &Qemu, machine: &Machine, timeout: Option<Duration>) -> Result<()> {
    eprintln!("QEMU {}. Leave with `poweroff`, or with Ctrl-A x.", qemu.version);
    let _announcement = Announcement::new(machine.folder())?;
    let mut process = machine.start(Console::Terminal)?;
    // Before the machine prints anything, if it is not very fast.
    for forwarded in machine.open_ports(&mut process)? {
        eprintln!("{forwarded}");
    }
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    match process.wait(deadline)? {
        Some(exit) if exit.status.success() => Ok(()),
        Some(exit) => bail!("QEMU ended: {}", exit.status),
        None => {
            process.terminate();
            bail!("timeout after {} s", timeout.unwrap_or_default().as_secs_f32())
        }
    }
}

fn play(qemu: &Qemu, machine: Machine, script: &Script, timeout: Duration) -> Result<()> {
    eprintln!("QEMU {}, {} commands.", qemu.version, script.len());
    let _announcement = Announcement::new(machine.folder())?;
    let console = Box::new(anstream::stdout());
    let mut session = Session::start(machine, timeout, Some(console))?;
    for forwarded in session.ports() {
        eprintln!("{forwarded}");
    }
    session.wait_until_ready()?;
    let ready = session.elapsed();
    script.play(session)?;
    eprintln!("All commands succeeded; the prompt came after {:.2} s.", ready.as_secs_f32());
    Ok(())
}
