//! What a command is, how it is found by its name, and how it fails.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::{error::Error, fmt, future::Future, pin::Pin, str::FromStr};

use super::{Session, suggest};

/// A command at work.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// A command, or a verb of `xl`.
#[derive(Debug)]
pub struct Command {
    /// The word that calls it.
    pub name: &'static str,
    /// What may follow, in the notation of usage texts.
    pub arguments: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Does it, given the words that follow the name.
    pub run: for<'a> fn(&'a mut Session, &'a [String]) -> Running<'a>,
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
    /// They.
    pub commands: &'static [Command],
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

    /// The command with this name, or else a suggestion of one that is spelt nearly so.
    fn find(&self, name: &str) -> Result<&'static Command, Failure> {
        self.commands.iter().find(|command| command.name == name).ok_or_else(|| {
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
        self.commands.iter().map(|command| command.name)
    }

    /// What a command's usage text calls its first argument that is no flag.
    pub fn first_argument(&self, name: &str) -> Option<&'static str> {
        let command = self.commands.iter().find(|command| command.name == name)?;
        let words = command.arguments.split_whitespace();
        words.map(|word| word.trim_matches(['[', ']'])).find(|word| !word.starts_with('-'))
    }

    fn usage(&self, command: &Command) -> String {
        let call = format!("{}{} {}", self.prefix, command.name, command.arguments);
        String::from(call.trim_end())
    }

    /// One line for each command: how to call it and what it does.
    pub fn help(&self) -> String {
        let calls: Vec<String> = self.commands.iter().map(|command| self.usage(command)).collect();
        let width = calls.iter().map(String::len).max().unwrap_or_default();
        let line = |(call, command): (&String, &Command)| {
            format!("  {call:<width$}  {}\n", command.summary)
        };
        calls.iter().zip(self.commands).map(line).collect()
    }
}

/// Options with a value each, as `-d DOMAIN -w 512`, by their flags; the last of the same counts.
///
/// # Errors
/// There is something else, or a flag lacks its value.
pub fn options<'a, const COUNT: usize>(
    arguments: &'a [String],
    flags: [&str; COUNT],
) -> Result<[Option<&'a str>; COUNT], Failure> {
    let mut values = [None; COUNT];
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { return Err(Failure::Usage) };
        let place = flags.iter().zip(&mut values).find(|(known, _)| *known == flag);
        *place.ok_or(Failure::Usage)?.1 = Some(value.as_str());
    }
    Ok(values)
}

/// Reads a number.
///
/// # Errors
/// Says what it was to be.
pub fn number<T: FromStr>(text: &str, what: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::BadCall(format!("`{text}` is not {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: CommandSet = CommandSet {
        prefix: "xl ",
        commands: &[
            Command {
                name: "create",
                arguments: "[-c] NAME",
                summary: "makes it",
                run: |_, _| Box::pin(async { Ok(()) }),
            },
            Command {
                name: "list",
                arguments: "",
                summary: "shows it",
                run: |_, _| Box::pin(async { Ok(()) }),
            },
        ],
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
    fn options_come_in_any_order() {
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        let all = words("-w 5 -d a");
        assert_eq!(options(&all, ["-d", "-w", "-c"]), Ok([Some("a"), Some("5"), None]));
        for wrong in ["-d", "-x 1", "a", "-d a b"] {
            assert_eq!(options(&words(wrong), ["-d"]), Err(Failure::Usage), "{wrong}");
        }
    }

    #[test]
    fn help_is_aligned() {
        assert_eq!(
            SET.help(),
            "  xl create [-c] NAME  makes it\n  xl list              shows it\n"
        );
    }
}
