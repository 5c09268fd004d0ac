//! clippy and rustfmt. They belong to a toolchain: clippy must be of the very rustc that built what
//! it reads.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Found, Toolchain, Version, is_program, output_of};

/// A tool that reads the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LintTool {
    /// `cargo clippy`
    Clippy,
    /// `cargo fmt`
    Rustfmt,
}

impl LintTool {
    /// The programs that it consists of.
    fn programs(self) -> [&'static str; 2] {
        match self {
            LintTool::Clippy => ["cargo-clippy", "clippy-driver"],
            LintTool::Rustfmt => ["cargo-fmt", "rustfmt"],
        }
    }

    /// Its entry beside the bare target's rustc (any rustc will do for rustfmt).
    pub(super) fn find(self) -> Result<Found> {
        let toolchain = Toolchain::find()?;
        let running = std::env::var_os("CARGO").map(PathBuf::from);
        let mut places = vec![toolchain.rustc.as_path()];
        if self == LintTool::Rustfmt {
            places.extend(running.as_deref());
        }
        let complete = |place: &&Path| {
            self.programs().iter().all(|name| is_program(&place.with_file_name(name)))
        };
        let place = places.into_iter().find(complete).context("not beside the Rust toolchain")?;
        let [entry, worker] = self.programs().map(|name| place.with_file_name(name));
        let version: Version = output_of(Command::new(worker).arg("--version"))?.parse()?;
        Ok(Found { description: version.to_string(), path: entry })
    }
}

/// A command that starts `tool` in the bare target's toolchain; arguments for `cargo TOOL` follow.
///
/// # Errors
/// It is not there.
pub fn lint_command(tool: LintTool, toolchain: &Toolchain) -> Result<Command> {
    let entry = tool.find()?.path;
    let mut command = toolchain.program(&entry);
    // cargo would look for its subcommands in $PATH, where another toolchain's may stand first.
    command.arg(if tool == LintTool::Clippy { "clippy" } else { "fmt" });
    Ok(command)
}
