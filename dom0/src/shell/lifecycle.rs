//! The verbs of `xl` by which domains begin and end.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

use embassy_futures::select::select;

use super::{
    arguments::{number, only, take_flags},
    attach,
    command::{Command, Failure},
    session::Session,
};
use crate::toolstack::{Request, Start, config::Override};

/// The verbs.
pub const COMMANDS: &[Command] = &[
    Command::new(
        "create",
        "[-c] [-p] FILE [KEY=VALUE...]",
        "make a domain; -c: attach to its console, -p: leave it paused",
        |session, arguments| Box::pin(create(session, arguments)),
    ),
    Command::new("destroy", "DOMAIN", "end a domain at once", |session, arguments| {
        Box::pin(destroy(session, arguments))
    }),
    Command::new(
        "shutdown",
        "[-w] DOMAIN",
        "ask a domain to power off; -w: wait until it has",
        |session, arguments| Box::pin(ask(session, arguments, Request::PowerOff)),
    ),
    Command::new(
        "reboot",
        "[-w] DOMAIN",
        "ask a domain to reboot; -w: wait until it has stopped",
        |session, arguments| Box::pin(ask(session, arguments, Request::Reboot)),
    ),
    Command::new("pause", "DOMAIN", "stop a domain's vCPUs", |session, arguments| {
        Box::pin(async { pause(session, arguments) })
    }),
    Command::new("unpause", "DOMAIN", "let them go on", |session, arguments| {
        Box::pin(async { unpause(session, arguments) })
    }),
    Command::new(
        "sysrq",
        "DOMAIN KEY",
        "press SysRq and a key in a domain: m memory, c crash",
        |session, arguments| Box::pin(sysrq(session, arguments)),
    ),
    Command::new(
        "console",
        "DOMAIN",
        "attach to a domain's console until it ends or Ctrl-] is typed",
        |session, arguments| Box::pin(console(session, arguments)),
    ),
];

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

fn pause(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    Ok(session.toolstack.pause(only(arguments)?)?)
}

fn unpause(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    Ok(session.toolstack.unpause(only(arguments)?)?)
}

async fn sysrq(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, key] = arguments else { return Err(Failure::Usage) };
    let key = number(key, "one key")?;
    Ok(session.toolstack.sysrq(domain, key).await?)
}

async fn console(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    attach::attach(session, only(arguments)?).await
}
