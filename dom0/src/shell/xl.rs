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
    Format, Session, attach, block,
    command::{Command, CommandSet, Failure, number},
    device, identity, network, report, scheduling, top, vcpu_set,
};
use crate::toolstack::{Request, Start, Summary, config::Override};

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
            arguments: "[-c] [-p] FILE [KEY=VALUE...]",
            summary: "make a domain; -c: attach to its console, -p: leave it paused",
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
            summary: "ask a domain to power off; -w: wait until it has",
            run: |session, arguments| Box::pin(ask(session, arguments, Request::PowerOff)),
        },
        Command {
            name: "reboot",
            arguments: "[-w] DOMAIN",
            summary: "ask a domain to reboot; -w: wait until it has stopped",
            run: |session, arguments| Box::pin(ask(session, arguments, Request::Reboot)),
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
            name: "rename",
            arguments: "DOMAIN NAME",
            summary: "give a domain another name",
            run: |session, arguments| Box::pin(identity::rename(session, arguments)),
        },
        Command {
            name: "domid",
            arguments: "DOMAIN",
            summary: "show the number of a domain",
            run: |session, arguments| Box::pin(async { identity::domid(session, arguments) }),
        },
        Command {
            name: "domname",
            arguments: "DOMAIN",
            summary: "show the name of the domain with this number",
            run: |session, arguments| Box::pin(async { identity::domname(session, arguments) }),
        },
        Command {
            name: "uptime",
            arguments: "[DOMAIN]",
            summary: "show how long domains have been there",
            run: |session, arguments| Box::pin(async { identity::uptime(session, arguments) }),
        },
        Command {
            name: "sysrq",
            arguments: "DOMAIN KEY",
            summary: "press SysRq and a key in a domain: m memory, c crash",
            run: |session, arguments| Box::pin(sysrq(session, arguments)),
        },
        Command {
            name: "mem-set",
            arguments: "DOMAIN MIB",
            summary: "have a domain give memory back, or take some again",
            run: |session, arguments| Box::pin(set_memory(session, arguments)),
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
            name: "block-list",
            arguments: "DOMAIN",
            summary: "show a domain's disks, and who waits for whom",
            run: |session, arguments| Box::pin(block::list(session, arguments)),
        },
        Command {
            name: "block-attach",
            arguments: "DOMAIN DISK",
            summary: "give a domain another disk: disk1,xvdb,w",
            run: |session, arguments| Box::pin(block::attach(session, arguments)),
        },
        Command {
            name: "block-detach",
            arguments: "DOMAIN VDEV",
            summary: "take a disk away: xvdb",
            run: |session, arguments| Box::pin(block::detach(session, arguments)),
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
            name: "block-restart",
            arguments: "DOMAIN VDEV",
            summary: "stop a disk's backend in the middle of its work, and start it again",
            run: |session, arguments| Box::pin(async { block::restart(session, arguments) }),
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
const FOR_PROGRAMS: [&str; 9] = [
    "list",
    "uptime",
    "vcpu-list",
    "sched-credit2",
    "block-list",
    "network-list",
    "device-list",
    "info",
    "counters",
];

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

/// Which of `flags` are among the arguments, and the others. They may stand anywhere, as with xl.
fn take_flags<const COUNT: usize>(
    arguments: &[String],
    flags: [&str; COUNT],
) -> Result<([bool; COUNT], Vec<String>), Failure> {
    let (given, others): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|argument| argument.starts_with('-'));
    match given.iter().all(|flag| flags.contains(&flag.as_str())) {
        true => Ok((flags.map(|flag| given.iter().any(|other| other == flag)), others)),
        false => Err(Failure::Usage),
    }
}

fn list(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let domains = domains(session, arguments)?;
    session.show(&report::list(&domains));
    Ok(())
}

async fn create(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let ([attach_console, paused], arguments) = take_flags(arguments, ["-c", "-p"])?;
    let start = if paused { Start::Paused } else { Start::Running };
    let (file, overrides) = arguments.split_first().ok_or(Failure::Usage)?;
    let overrides: Result<Vec<_>, _> = overrides.iter().map(|text| Override::parse(text)).collect();
    let id = session.toolstack.create(file, &overrides?, start).await?;
    if attach_console {
        return attach::attach(session, &id.0.to_string()).await;
    }
    Ok(())
}

async fn destroy(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    Ok(session.toolstack.destroy(only(arguments)?).await?)
}

async fn ask(session: &mut Session, arguments: &[String], request: Request) -> Result<(), Failure> {
    let ([wait], arguments) = take_flags(arguments, ["-w"])?;
    let ended = session.toolstack.ask(only(&arguments)?, request).await?;
    if wait {
        select(ended.wait(), session.terminal.interrupted()).await;
    }
    Ok(())
}

async fn sysrq(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, key] = arguments else { return Err(Failure::Usage) };
    let key = number(key, "one key")?;
    Ok(session.toolstack.sysrq(domain, key).await?)
}

async fn set_memory(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, mebibytes] = arguments else { return Err(Failure::Usage) };
    let mebibytes = number(mebibytes, "a number of MiB")?;
    Ok(session.toolstack.set_memory(domain, mebibytes).await?)
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
            let taken = take_flags(&words(text), ["-c", "-p"]).unwrap();
            assert_eq!(taken, ([true, false], words("hello a=b")));
        }
        let taken = take_flags(&words("-p hello -c"), ["-c", "-p"]).unwrap();
        assert_eq!(taken, ([true, true], words("hello")));
        assert_eq!(take_flags(&words("hello -x"), ["-c"]), Err(Failure::Usage));
    }
}
