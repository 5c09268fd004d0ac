//! The verbs of `xl` about domains' memory.

use alloc::{boxed::Box, string::String};

use super::{
    arguments::number,
    command::{Command, Failure},
    session::Session,
};

/// The verbs.
pub const COMMANDS: &[Command] = &[
    Command::new(
        "mem-set",
        "DOMAIN MIB",
        "have a domain give memory back, or take some",
        |session, arguments| Box::pin(set(session, arguments)),
    ),
    Command::new(
        "mem-max",
        "DOMAIN MIB",
        "set how much memory a domain may be given",
        |session, arguments| Box::pin(async { set_max(session, arguments) }),
    ),
];

async fn set(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (domain, mebibytes) = read(arguments)?;
    Ok(session.toolstack.set_memory(domain, mebibytes).await?)
}

fn set_max(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let (domain, mebibytes) = read(arguments)?;
    Ok(session.toolstack.set_max_memory(domain, mebibytes)?)
}

fn read(arguments: &[String]) -> Result<(&str, u32), Failure> {
    let [domain, mebibytes] = arguments else { return Err(Failure::Usage) };
    Ok((domain, number(mebibytes, "a number of MiB")?))
}
