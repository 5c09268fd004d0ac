//! The verbs of `xl` about domains' memory.

use alloc::{boxed::Box, string::String};

use super::{
    arguments::number,
    command::{Command, Failure},
    session::Session,
};

/// The verbs.
pub const COMMANDS: &[Command] = &[Command::new(
    "mem-set",
    "DOMAIN MIB",
    "have a domain give memory back, or take some again",
    |session, arguments| Box::pin(set_memory(session, arguments)),
)];

async fn set_memory(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, mebibytes] = arguments else { return Err(Failure::Usage) };
    let mebibytes = number(mebibytes, "a number of MiB")?;
    Ok(session.toolstack.set_memory(domain, mebibytes).await?)
}
