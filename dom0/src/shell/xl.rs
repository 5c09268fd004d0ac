//! `xl`: the commands that manage domains.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use abi::version::INTERFACE_VERSION;
use embassy_futures::select::select;
use pv_guest_kernel::hypercall;

use super::{
    Format, Session, attach,
    command::{Command, CommandSet, Failure},
    device, network, report, scheduling, top, vcpu_set,
};
use crate::toolstack::{Summary, config::Override};

/// All verbs of `xl`.
pub const COMMANDS: CommandSet = CommandSet {
    prefix: "xl ",
    commands: &[
        Command {
            name: "list",
            arguments: "[DOMAIN]",
            summary: "show the domains",
            run: |session, arguments| Box::pin(async { list(session, arguments) }),
        },
        Command {
            name: "create",
            arguments: "[-c] FILE [KEY=VALUE...]",
            summary: "make a domain from a domain file; -c: attach to its console",
            run: |session, arguments| Box::pin(create(session, arguments)),
        },
        Command {
            name: "destroy",
            arguments: "DOMAIN",
            summary: "end a domain at once",
            run: |session, arguments| Box::pin(destroy(session, arguments)),
        },
        Command {
            name: "shutdown",
            arguments: "[-w] DOMAIN",
            summary: "ask a domain to power off; -w: wait until it has, or for Ctrl-C",
            run: |session, arguments| Box::pin(shutdown(session, arguments)),
        },
        Command {
            name: "pause",
            arguments: "DOMAIN",
            summary: "stop a domain's vCPUs",
            run: |session, arguments| Box::pin(async { pause(session, arguments) }),
        },
        Command {
            name: "unpause",
            arguments: "DOMAIN",
            summary: "let them go on",
            run: |session, arguments| Box::pin(async { unpause(session, arguments) }),
        },
        Command {
            name: "vcpu-list",
            arguments: "[DOMAIN]",
            summary: "show vCPUs, and the CPUs on which they run and may run",
            run: |session, arguments| {
                Box::pin(async { scheduling::list_vcpus(session, arguments) })
            },
        },
        Command {
            name: "vcpu-pin",
            arguments: "DOMAIN VCPU|all CPUS",
            summary: "set on which CPUs a vCPU may run: all, or as in 0-3,^2",
            run: |session, arguments| Box::pin(async { scheduling::pin(session, arguments) }),
        },
        vcpu_set::COMMAND,
        Command {
            name: "sched-credit2",
            arguments: "[-d DOMAIN [-w WEIGHT] [-c CAP]]",
            summary: "show or set domains' shares of the CPUs",
            run: |session, arguments| Box::pin(async { scheduling::share(session, arguments) }),
        },
        Command {
            name: "top",
            arguments: "[-b] [-n TIMES] [-d SECONDS]",
            summary: "watch what domains use; q ends it; -b: as plain text, for scripts",
            run: |session, arguments| Box::pin(top::top(session, arguments)),
        },
        Command {
            name: "network-list",
            arguments: "DOMAIN",
            summary: "show a domain's network interfaces, and who waits for whom",
            run: |session, arguments| Box::pin(network::list(session, arguments)),
        },
        Command {
            name: "network-attach",
            arguments: "DOMAIN [mac=ADDRESS] [rate=10Mb/s] [bridge=xenbr0]",
            summary: "give a domain another network interface",
            run: |session, arguments| Box::pin(network::attach(session, arguments)),
        },
        Command {
            name: "network-detach",
            arguments: "DOMAIN NUMBER",
            summary: "take a network interface away",
            run: |session, arguments| Box::pin(network::detach(session, arguments)),
        },
        Command {
            name: "device-list",
            arguments: "DOMAIN",
            summary: "show a domain's devices of all classes, and who waits for whom",
            run: |session, arguments| Box::pin(device::list(session, arguments)),
        },
        Command {
            name: "device-attach",
            arguments: "DOMAIN CLASS [KEY=VALUE...]",
            summary: "give a domain a device",
            run: |session, arguments| Box::pin(device::attach(session, arguments)),
        },
        Command {
            name: "device-detach",
            arguments: "DOMAIN CLASS NUMBER",
            summary: "take a device away",
            run: |session, arguments| Box::pin(device::detach(session, arguments)),
        },
        Command {
            name: "console",
            arguments: "DOMAIN",
            summary: "attach to a domain's console until it ends or Ctrl-] is typed",
            run: |session, arguments| Box::pin(console(session, arguments)),
        },
        Command {
            name: "info",
            arguments: "",
            summary: "show the machine, its memory and its disks",
            run: |session, arguments| Box::pin(async { info(session, arguments) }),
        },
        Command {
            name: "dmesg",
            arguments: "",
            summary: "show the monitor's log",
            run: |session, arguments| Box::pin(dmesg(session, arguments)),
        },
        Command {
            name: "counters",
            arguments: "[DOMAIN]",
            summary: "show why domains left their own code, and how often",
            run: |session, arguments| Box::pin(async { counters(session, arguments) }),
        },
        Command {
            name: "help",
            arguments: "",
            summary: "show this list",
            run: |session, _| Box::pin(async { help(session) }),
        },
    ],
};

/// Verbs that can show what they show for programs.
const FOR_PROGRAMS: [&str; 7] =
    ["list", "vcpu-list", "sched-credit2", "network-list", "device-list", "info", "counters"];

/// `xl VERB ...`; with `--json` anywhere, what is shown is JSON.
///
/// # Errors
/// There is no such verb, or it failed.
pub async fn run(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (json, words): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|word| word == "--json");
    let verb = words.first().ok_or(Failure::Usage)?;
    if !json.is_empty() {
        if !FOR_PROGRAMS.contains(&verb.as_str()) {
            let known = FOR_PROGRAMS.join(", ");
            let reason = format!("`xl {verb}` has no --json; these verbs have: {known}");
            return Err(Failure::BadCall(reason));
        }
        session.format = Format::Json;
    }
    let result = COMMANDS.run(session, &words).await;
    session.format = Format::Text;
    result
}

fn help(session: &mut Session) -> Result<(), Failure> {
    write!(session.terminal, "{}", COMMANDS.help());
    Ok(())
}

/// The one argument of a verb that takes a domain.
fn only(arguments: &[String]) -> Result<&str, Failure> {
    match arguments {
        [domain] => Ok(domain),
        _ => Err(Failure::Usage),
    }
}

/// The domains that a verb with an optional domain is about: that one, or all.
pub(super) fn domains(session: &Session, arguments: &[String]) -> Result<Vec<Summary>, Failure> {
    match arguments {
        [] => Ok(session.toolstack.list()?),
        _ => Ok([session.toolstack.find(only(arguments)?)?].into()),
    }
}

/// Whether `flag` is among the arguments, and the others. It may stand anywhere, as with xl.
fn take_flag(arguments: &[String], flag: &str) -> Result<(bool, Vec<String>), Failure> {
    let (flags, others): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|argument| argument.starts_with('-'));
    match flags.iter().all(|other| other == flag) {
        true => Ok((!flags.is_empty(), others)),
        false => Err(Failure::Usage),
    }
}

fn list(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let domains = domains(session, arguments)?;
    session.show(&report::list(&domains));
    Ok(())
}

async fn create(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (attach_console, arguments) = take_flag(arguments, "-c")?;
    let (file, overrides) = arguments.split_first().ok_or(Failure::Usage)?;
    let overrides: Result<Vec<_>, _> = overrides.iter().map(|text| Override::parse(text)).collect();
    let id = session.toolstack.create(file, &overrides?).await?;
    if attach_console {
        return attach::attach(session, &id.0.to_string()).await;
    }
    Ok(())
}

async fn destroy(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    Ok(session.toolstack.destroy(only(arguments)?).await?)
}

async fn shutdown(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (wait, arguments) = take_flag(arguments, "-w")?;
    let ended = session.toolstack.shutdown(only(&arguments)?).await?;
    if wait {
        select(ended.wait(), session.terminal.interrupted()).await;
    }
    Ok(())
}

fn pause(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    Ok(session.toolstack.pause(only(arguments)?)?)
}

fn unpause(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    Ok(session.toolstack.unpause(only(arguments)?)?)
}

async fn console(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    attach::attach(session, only(arguments)?).await
}

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

fn counters(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let domains = domains(session, arguments)?;
    session.show(&report::counters(&domains));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_may_stand_anywhere() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        for text in ["-c hello a=b", "hello -c a=b", "hello a=b -c"] {
            assert_eq!(take_flag(&words(text), "-c").unwrap(), (true, words("hello a=b")));
        }
        assert_eq!(take_flag(&words("hello"), "-c").unwrap(), (false, words("hello")));
        assert_eq!(take_flag(&words("hello -x"), "-c"), Err(Failure::Usage));
    }
}
