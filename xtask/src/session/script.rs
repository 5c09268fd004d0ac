//! A script for the dom0 shell: one command a line; blank lines and lines that begin with `#` are
//! not typed.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Failure, Output, Session};

/// The command after which there is no further prompt.
const POWER_OFF: &str = "poweroff";

/// The commands of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    number: usize,
    command: String,
}

impl Script {
    /// Reads the script at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Script> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the script {}", path.display()))?;
        Ok(Script::parse(&text))
    }

    fn parse(text: &str) -> Script {
        let commands = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let typed = commands.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let lines = typed.map(|(number, line)| Line { number, command: line.into() });
        Script { lines: lines.collect() }
    }

    /// How many commands it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Types all lines, also after one has failed, then powers the machine off.
    ///
    /// # Errors
    /// Names the first command that failed, or why the machine did not get that far.
    pub fn play(&self, mut session: Session) -> Result<()> {
        let mut failed = Failures::default();
        for (index, line) in self.lines.iter().enumerate() {
            if line.command == POWER_OFF {
                let left = self.lines.len() - index - 1;
                ensure!(left == 0, "line {} powers off, {left} more follow", line.number);
                break;
            }
            let output = session.run(&line.command).map_err(|failure| line.blame(&failure))?;
            failed.note(line, &output);
        }
        session.power_off()?;
        failed.report(self.len())
    }
}

impl Line {
    fn blame(&self, failure: &Failure) -> anyhow::Error {
        anyhow::anyhow!("line {}, `{}`: {failure}", self.number, self.command)
    }
}

/// The commands that failed.
#[derive(Debug, Default)]
struct Failures {
    count: usize,
    first: Option<String>,
}

impl Failures {
    fn note(&mut self, line: &Line, output: &Output) {
        if output.status == 0 {
            return;
        }
        self.count += 1;
        let said = output.text.lines().rfind(|text| !text.trim().is_empty()).unwrap_or("").trim();
        self.first.get_or_insert_with(|| {
            format!("line {}, `{}`: status {}: {said}", line.number, line.command, output.status)
        });
    }

    fn report(self, commands: usize) -> Result<()> {
        match self.first {
            None => Ok(()),
            Some(first) if self.count == 1 => bail!("{first}"),
            Some(first) => bail!("{} of {commands} commands failed, first {first}", self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: u8, text: &str) -> Output {
        Output { status, text: text.into() }
    }

    #[test]
    fn comments_and_blank_lines_are_not_typed() {
        let script = Script::parse("# a comment\n\nxl list\r\n  xl info  \n#end");
        let lines: Vec<_> = script.lines.iter().map(|l| (l.number, l.command.as_str())).collect();
        assert_eq!(lines, [(3, "xl list"), (4, "xl info")]);
    }

    #[test]
    fn the_first_failure_is_named() {
        let script = Script::parse("one\ntwo\nthree");
        let mut failures = Failures::default();
        failures.note(&script.lines[0], &output(0, "fine"));
        failures.note(&script.lines[1], &output(1, "why\nno such domain\n\n"));
        failures.note(&script.lines[2], &output(2, "other"));
        let reason = failures.report(3).unwrap_err().to_string();
        assert_eq!(reason, "2 of 3 commands failed, first line 2, `two`: status 1: no such domain");
        assert!(Failures::default().report(3).is_ok());
    }
}
