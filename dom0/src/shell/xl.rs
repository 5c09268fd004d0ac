//! `xl`: the commands that manage domains. Each verb is where its subject is.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use super::{
    command::{Command, CommandSet, Failure},
    device, identity, lifecycle, machine, memory, scheduling,
    session::{Format, Session},
    top,
};

/// All verbs of `xl`.
pub const COMMANDS: CommandSet = CommandSet {
    prefix: "xl ",
    groups: &[
        lifecycle::COMMANDS,
        identity::COMMANDS,
        memory::COMMANDS,
        scheduling::COMMANDS,
        top::COMMANDS,
        device::COMMANDS,
        machine::COMMANDS,
        &[HELP],
    ],
};

const HELP: Command =
    Command::new("help", "", "show this list", |session, _| Box::pin(async { help(session) }));

/// `xl VERB ...`; with `--json` anywhere, what is shown is JSON.
///
/// # Errors
/// There is no such verb, or it failed.
pub async fn run(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (json, words): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|word| word == "--json");
    let verb = words.first().ok_or(Failure::Usage)?;
    if !json.is_empty() {
        if !COMMANDS.find(verb)?.is_for_programs {
            let known = COMMANDS.commands().filter(|command| command.is_for_programs);
            let known: Vec<&str> = known.map(|command| command.name).collect();
            let known = known.join(", ");
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
