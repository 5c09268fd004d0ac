//! Commands that have nothing to do with domains.

use alloc::{boxed::Box, string::String};
use core::time::Duration;

use abi::sched::ShutdownReason;
use embassy_futures::select::{Either, select};
use pv_guest_kernel::{power, time};

use super::{
    Session,
    command::{Command, CommandSet, Failure},
    disk, xenstore, xl,
};

/// All commands of the shell.
pub const COMMANDS: CommandSet = CommandSet {
    prefix: "",
    commands: &[
        Command {
            name: "xl",
            arguments: "VERB ... [--json]",
            summary: "manage domains; `xl help` lists what it can do",
            run: |session, arguments| Box::pin(xl::run(session, arguments)),
        },
        Command {
            name: "xenstore-ls",
            arguments: "[PATH]",
            summary: "show what the store has below PATH",
            run: |session, arguments| Box::pin(xenstore::list(session, arguments)),
        },
        Command {
            name: "xenstore-read",
            arguments: "PATH...",
            summary: "show the values of paths in the store",
            run: |session, arguments| Box::pin(xenstore::read(session, arguments)),
        },
        Command {
            name: "xenstore-write",
            arguments: "PATH VALUE...",
            summary: "set values in the store",
            run: |session, arguments| Box::pin(xenstore::write(session, arguments)),
        },
        Command {
            name: "disk-speed",
            arguments: "DISK read|write SIZE COUNT DEPTH",
            summary: "move COUNT blocks of SIZE bytes (64K), DEPTH at once, and show what that takes",
            run: |session, arguments| Box::pin(disk::speed(session, arguments)),
        },
        Command {
            name: "echo",
            arguments: "[WORD...]",
            summary: "print the words",
            run: |session, arguments| Box::pin(async { echo(session, arguments) }),
        },
        Command {
            name: "time",
            arguments: "COMMAND ...",
            summary: "run a command and show how long it took",
            run: |session, arguments| Box::pin(time_command(session, arguments)),
        },
        Command {
            name: "sleep",
            arguments: "SECONDS",
            summary: "wait; Ctrl-C ends it",
            run: |session, arguments| Box::pin(sleep(session, arguments)),
        },
        Command {
            name: "poweroff",
            arguments: "",
            summary: "stop all domains and the machine",
            run: |_, arguments| Box::pin(poweroff(arguments)),
        },
        Command {
            name: "help",
            arguments: "",
            summary: "show this list",
            run: |session, _| Box::pin(async { help(session) }),
        },
    ],
};

fn help(session: &mut Session) -> Result<(), Failure> {
    write!(session.terminal, "{}", COMMANDS.help());
    Ok(())
}

fn echo(session: &mut Session, words: &[String]) -> Result<(), Failure> {
    writeln!(session.terminal, "{}", words.join(" "));
    Ok(())
}

/// Shows microseconds of the counter, which under `--icount` are thousands of instructions.
async fn time_command(session: &mut Session, words: &[String]) -> Result<(), Failure> {
    let start = time::now();
    let result = COMMANDS.run(session, words).await;
    let micros = time::now().saturating_sub(start).as_micros();
    writeln!(session.terminal, "took {micros} us");
    result
}

async fn sleep(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [seconds] = arguments else { return Err(Failure::Usage) };
    let duration = parse_seconds(seconds).ok_or_else(|| {
        Failure::BadCall(alloc::format!("`{seconds}` is not a number of seconds"))
    })?;
    match select(time::sleep(duration), session.terminal.interrupted()).await {
        Either::First(()) => Ok(()),
        Either::Second(()) => Err(Failure::Failed("interrupted".into())),
    }
}

/// Reads a number of seconds, which may have a fraction.
pub fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

async fn poweroff(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    power::shutdown(ShutdownReason::Poweroff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(parse_seconds("2"), Some(Duration::from_secs(2)));
        assert_eq!(parse_seconds("0.25"), Some(Duration::from_millis(250)));
        for bad in ["", "-1", "soon", "1e400", "NaN"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }
}
