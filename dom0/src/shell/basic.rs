//! Commands that have nothing to do with domains.

use alloc::{boxed::Box, string::String};

use abi::sched::ShutdownReason;
use embassy_futures::select::{Either, select};
use pv_guest_kernel::{power, time};

use super::{
    arguments::parse_seconds,
    command::{Command, CommandSet, Failure},
    disk,
    session::Session,
    xenstore, xl,
};

/// All commands of the shell.
pub const COMMANDS: CommandSet = CommandSet {
    prefix: "",
    groups: &[&[
        Command::new(
            "xl",
            "VERB ... [--json]",
            "manage domains; `xl help` lists what it can do",
            |session, arguments| Box::pin(xl::run(session, arguments)),
        ),
        Command::new(
            "xenstore-ls",
            "[PATH]",
            "show what the store has below PATH",
            |session, arguments| Box::pin(xenstore::list(session, arguments)),
        ),
        Command::new(
            "xenstore-read",
            "PATH...",
            "show the values of paths in the store",
            |session, arguments| Box::pin(xenstore::read(session, arguments)),
        ),
        Command::new(
            "xenstore-write",
            "PATH VALUE...",
            "set values in the store",
            |session, arguments| Box::pin(xenstore::write(session, arguments)),
        ),
        Command::new(
            "disk-speed",
            "DISK read|write SIZE COUNT DEPTH",
            "move COUNT blocks of SIZE bytes (64K), DEPTH at once, and show what that takes",
            |session, arguments| Box::pin(disk::speed(session, arguments)),
        ),
        Command::new("echo", "[WORD...]", "print the words", |session, arguments| {
            Box::pin(async { echo(session, arguments) })
        }),
        Command::new(
            "time",
            "COMMAND ...",
            "run a command and show how long it took",
            |session, arguments| Box::pin(time_command(session, arguments)),
        ),
        Command::new("sleep", "SECONDS", "wait; Ctrl-C ends it", |session, arguments| {
            Box::pin(sleep(session, arguments))
        }),
        Command::new("poweroff", "", "stop all domains and the machine", |_, arguments| {
            Box::pin(poweroff(arguments))
        }),
        Command::new("help", "", "show this list", |session, _| Box::pin(async { help(session) })),
    ]],
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

async fn poweroff(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    power::shutdown(ShutdownReason::Poweroff)
}
