//! The verbs of `xl` about the machine and its monitor.

use alloc::{boxed::Box, format, string::String};

use abi::{Errno, version::INTERFACE_VERSION};
use pv_guest_kernel::hypercall;

use super::{
    arguments::{domains, only},
    command::{Command, Failure},
    report,
    session::Session,
};

/// The verbs.
pub const COMMANDS: &[Command] = &[
    Command::new("info", "", "show the machine, its memory and its disks", |session, arguments| {
        Box::pin(async { info(session, arguments) })
    })
    .for_programs(),
    Command::new("dmesg", "", "show the monitor's log", |session, arguments| {
        Box::pin(dmesg(session, arguments))
    }),
    Command::new(
        "debug-keys",
        "KEYS",
        "show in the monitor's log how things stand; h: which keys there are",
        |session, arguments| Box::pin(async { debug_keys(session, arguments) }),
    ),
    Command::new(
        "counters",
        "[DOMAIN]",
        "show why domains left their own code, and how often",
        |session, arguments| Box::pin(async { counters(session, arguments) }),
    )
    .for_programs(),
];

fn info(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let machine = hypercall::sysctl::phys_info()?;
    let disks = session.toolstack.disks();
    session.show(&report::info(&version(), &machine, &disks));
    Ok(())
}

fn version() -> String {
    let (major, minor) = (INTERFACE_VERSION >> 16, INTERFACE_VERSION & 0xFFFF);
    format!("Aurochs {}, Xen interface {major}.{minor}", env!("CARGO_PKG_VERSION"))
}

async fn dmesg(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let mut buffer = [0; 1024];
    let mut position = 0;
    loop {
        let (count, next) = hypercall::sysctl::read_console(&mut buffer, position)?;
        match buffer.get(..count) {
            Some(text) if !text.is_empty() => session.terminal.write(text),
            _ => return Ok(()),
        }
        position = next;
        session.terminal.flush().await?;
    }
}

/// What the monitor writes to its log is on the machine's console, and in `xl dmesg`.
fn debug_keys(_: &Session, arguments: &[String]) -> Result<(), Failure> {
    let keys = only(arguments)?;
    hypercall::sysctl::debug_keys(keys.as_bytes()).map_err(|errno| match errno {
        Errno::EINVAL => Failure::BadCall(format!("not all of `{keys}` are keys; h shows them")),
        other => other.into(),
    })
}

fn counters(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let domains = domains(session, arguments)?;
    session.show(&report::counters(&domains));
    Ok(())
}
