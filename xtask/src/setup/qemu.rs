//! The emulator.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Found, Version, in_path, output_of};
use crate::qemu::Virt;

/// A QEMU that can be this machine.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// What comes before all other arguments.
    pub arguments: Vec<String>,
    /// Its version.
    pub version: Version,
}

impl Qemu {
    /// `$AUROCHS_QEMU`, which may hold arguments too, or the one in `$PATH`.
    ///
    /// # Errors
    /// There is none, or it is too old.
    pub fn find() -> Result<Qemu> {
        let (program, arguments) = match std::env::var("AUROCHS_QEMU") {
            Ok(line) => split(&line)?,
            Err(_) => {
                let found = in_path(&["qemu-system-aarch64"]);
                (found.context("no qemu-system-aarch64 found")?, Vec::new())
            }
        };
        let version: Version = output_of(Command::new(&program).arg("--version"))?.parse()?;
        let minimum: Version = Virt::load().machine.minimum_qemu.parse()?;
        ensure!(version >= minimum, "QEMU {version} is older than {minimum}");
        Ok(Qemu { program, arguments, version })
    }

    pub(super) fn found(&self) -> Found {
        Found { description: self.version.to_string(), path: self.program.clone() }
    }
}

fn split(line: &str) -> Result<(PathBuf, Vec<String>)> {
    let mut words = line.split_whitespace().map(str::to_string);
    let program = words.next().context("AUROCHS_QEMU is empty")?;
    Ok((program.into(), words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_may_hold_arguments() {
        let (program, arguments) = split("/opt/qemu -L /opt/share").unwrap();
        assert_eq!(program, PathBuf::from("/opt/qemu"));
        assert_eq!(arguments, ["-L", "/opt/share"]);
        assert!(split("  ").is_err());
    }
}
