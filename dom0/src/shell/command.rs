//! What a command is, how it is found by its name, and how it fails.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::{error::Error, fmt, future::Future, pin::Pin};

use super::{session::Session, suggest};

/// A command at work.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// What runs a command, given the words that follow its name.
pub type Run = for<'a> fn(&'a mut Session, &'a [String]) -> Running<'a>;

/// A command, or a verb of `xl`.
#[derive(Debug)]
pub struct Command {
    /// The word that calls it.
    pub name: &'static str,
    /// What may follow, in the notation of usage texts.
    pub arguments: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Does it.
    pub run: Run,
    /// Whether it can show what it shows for programs.
    pub is_for_programs: bool,
}

impl Command {
    /// A command by its name, what may follow, and what it does.
    pub const fn new(
        name: &'static str,
        arguments: &'static str,
        summary: &'static str,
        run: Run,
    ) -> Command {
        Command { name, arguments, summary, run, is_for_programs: false }
    }

    /// The same, which with `--json` shows JSON.
    #[must_use]
    pub const fn for_programs(self) -> Command {
        Command { is_for_programs: true, ..self }
    }
}

/// Why a command failed. Any error becomes one by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It could not be done.
    Failed(String),
    /// It was called wrongly: the usage text says how to.
    Usage,
    /// It was called wrongly, and this says why.
    BadCall(String),
    /// There is no such command.
    Unknown(String),
}

impl Failure {
    /// The exit status, numbered as in POSIX shells.
    pub const fn status(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage | Failure::BadCall(_) => 2,
            Failure::Unknown(_) => 127,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(message) => write!(f, "error: {message}"),
            Failure::Usage => f.write_str("wrong arguments"),
            Failure::BadCall(message) | Failure::Unknown(message) => f.write_str(message),
        }
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Failed(format!("{error}"))
    }
}

/// Commands that are called in the same way.
#[derive(Debug)]
pub struct CommandSet {
    /// What stands before each name: nothing, or `xl `.
    pub prefix: &'static str,
    /// They, by subject.
    pub groups: &'static [&'static [Command]],
}

impl CommandSet {
    /// Runs the command that the first word names, with the others as its arguments.
    ///
    /// # Errors
    /// There is no such command, or it failed.
    pub async fn run(&self, session: &mut Session, words: &[String]) -> Result<(), Failure> {
        let (name, arguments) = words.split_first().ok_or(Failure::Usage)?;
        let command = self.find(name)?;
        (command.run)(session, arguments).await.map_err(|failure| match failure {
            Failure::Usage => Failure::BadCall(format!("usage: {}", self.usage(command))),
            other => other,
        })
    }

    /// All commands.
    pub fn commands(&self) -> impl Iterator<Item = &'static Command> {
        self.groups.iter().copied().flatten()
    }

    /// The command with this name.
    ///
    /// # Errors
    /// There is none; it suggests one that is spelt nearly so.
    pub fn find(&self, name: &str) -> Result<&'static Command, Failure> {
        self.commands().find(|command| command.name == name).ok_or_else(|| {
            let prefix = self.prefix;
            let hint = match suggest::nearest(name, self.names()) {
                Some(near) => format!("did you mean `{prefix}{near}`?"),
                None => format!("`{prefix}help` lists what there is"),
            };
            Failure::Unknown(format!("unknown command `{prefix}{name}`; {hint}"))
        })
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.commands().map(|command| command.name)
    }

    /// What a command's usage text calls its first argument that is no flag.
    pub fn first_argument(&self, name: &str) -> Option<&'static str> {
        let command = self.commands().find(|command| command.name == name)?;
        let words = command.arguments.split_whitespace();
        words.map(|word| word.trim_matches(['[', ']'])).find(|word| !word.starts_with('-'))
    }

    fn usage(&self, command: &Command) -> String {
        let call = format!("{}{} {}", self.prefix, command.name, command.arguments);
        String::from(call.trim_end())
    }

    /// One line for each command: how to call it and what it does.
    pub fn help(&self) -> String {
        let calls: Vec<String> = self.commands().map(|command| self.usage(command)).collect();
        let width = calls.iter().map(String::len).max().unwrap_or_default();
        let line = |(call, command): (&String, &Command)| {
            format!("  {call:<width$}  {}\n", command.summary)
        };
        calls.iter().zip(self.commands()).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: CommandSet = CommandSet {
        prefix: "xl ",
        groups: &[&[
            Command::new("create", "[-c] NAME", "makes it", |_, _| Box::pin(async { Ok(()) })),
            Command::new("list", "", "shows it", |_, _| Box::pin(async { Ok(()) })),
        ]],
    };

    #[test]
    fn commands_are_found_or_suggested() {
        assert_eq!(SET.find("list").unwrap().name, "list");
        let message = |name| SET.find(name).unwrap_err().to_string();
        assert_eq!(message("creat"), "unknown command `xl creat`; did you mean `xl create`?");
        assert_eq!(
            message("migrate"),
            "unknown command `xl migrate`; `xl help` lists what there is"
        );
        assert_eq!(SET.find("migrate").unwrap_err().status(), 127);
    }

    #[test]
    fn the_first_argument_is_what_can_be_completed() {
        assert_eq!(SET.first_argument("create"), Some("NAME"));
        assert_eq!(SET.first_argument("list"), None);
        assert_eq!(SET.first_argument("migrate"), None);
    }

    #[test]
    fn help_is_aligned() {
        assert_eq!(
            SET.help(),
            "  xl create [-c] NAME  makes it\n  xl list              shows it\n"
        );
    }
}
