//! The Rust toolchain for the bare target.
//!
//! Two kinds of machine are served. With rustup and the internet the target's own `core` is
//! installed. Without, a distribution's rustc that comes with the library's source builds `core`
//! itself, which cargo allows to its nightly channel only: `RUSTC_BOOTSTRAP` lifts that.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use super::{Found, Version, is_program, output_of};
use crate::paths;

/// The target of everything that runs in the machine.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";
/// The oldest rustc that knows the language that is used; `rust-version` in Cargo.toml.
const MINIMUM: Version = Version(1, 90, 0);

/// Where `core` for the bare target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// It is installed.
    Prebuilt,
    /// cargo builds it from its source.
    Source,
}

/// A rustc and cargo that can build for the bare target.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// The cargo beside it.
    pub cargo: PathBuf,
    /// Where the compiler's libraries are.
    pub sysroot: PathBuf,
    /// Its version.
    pub version: Version,
    /// Where `core` comes from.
    pub core: Core,
}

impl Toolchain {
    /// Looks at the candidates in order.
    ///
    /// # Errors
    /// None can build for the bare target; says why for each.
    pub fn find() -> Result<Toolchain> {
        // Several commands are asked for it, and it does not go away.
        static FOUND: OnceLock<Toolchain> = OnceLock::new();
        if let Some(toolchain) = FOUND.get() {
            return Ok(toolchain.clone());
        }
        let toolchain = Toolchain::search()?;
        Ok(FOUND.get_or_init(|| toolchain).clone())
    }

    fn search() -> Result<Toolchain> {
        let mut reasons = Vec::new();
        for rustc in candidates() {
            match Toolchain::examine(&rustc) {
                Ok(toolchain) => return Ok(toolchain),
                Err(reason) => reasons.push(format!("{}: {reason:#}", rustc.display())),
            }
        }
        bail!("no rustc can build for {TARGET} ({})", reasons.join("; "))
    }

    fn examine(rustc: &Path) -> Result<Toolchain> {
        let ask = |arguments: &[&str]| output_of(rustc_command(rustc).args(arguments));
        let version: Version = ask(&["--version"])?.parse()?;
        ensure!(version >= MINIMUM, "{version} is older than {MINIMUM}");
        let cargo = rustc.with_file_name("cargo");
        ensure!(is_program(&cargo), "no cargo beside it");
        let folders = ask(&["--print", "sysroot", "--print", "target-libdir", "--target", TARGET])?;
        let (sysroot, libraries) = folders.split_once('\n').context("no answer to --print")?;
        let sysroot = PathBuf::from(sysroot);
        let core = if holds_core(Path::new(libraries)) {
            Core::Prebuilt
        } else if sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
            Core::Source
        } else {
            bail!("has neither the library for this target nor its source")
        };
        Ok(Toolchain { rustc: rustc.into(), cargo, sysroot, version, core })
    }

    /// `cargo build` for the bare target.
    pub fn cargo_build(&self) -> Command {
        let mut command = self.program(&self.cargo);
        command.arg("build");
        self.select_target(&mut command);
        command
    }

    /// Has `command`, a cargo command, build for the bare target.
    pub fn select_target(&self, command: &mut Command) {
        command.args(["--target", TARGET]);
        if self.core == Core::Source {
            command.arg("-Zbuild-std=core,alloc").env("RUSTC_BOOTSTRAP", "1");
        }
    }

    /// A program of this toolchain, shielded from the one that runs us.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(paths::root())
            .env("RUSTC", &self.rustc)
            .env("CARGO", &self.cargo)
            .env("CARGO_TARGET_DIR", paths::bare_target())
            .env_remove("RUSTUP_TOOLCHAIN")
            // They would take the place of the flags in .cargo/config.toml.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    }

    pub(crate) fn found(&self) -> Found {
        let core = match self.core {
            Core::Prebuilt => "core installed",
            Core::Source => "builds core from source",
        };
        Found { description: format!("{} ({core})", self.version), path: self.rustc.clone() }
    }
}

/// The compilers to look at, best first, each once.
fn candidates() -> Vec<PathBuf> {
    let beside_cargo = env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
    let named = env::var_os("AUROCHS_RUSTC").map(PathBuf::from);
    let mut list: Vec<PathBuf> = Vec::new();
    for rustc in [named, beside_cargo, Some("/usr/bin/rustc".into())].into_iter().flatten() {
        if is_program(&rustc) && !list.contains(&rustc) {
            list.push(rustc);
        }
    }
    list
}

fn rustc_command(rustc: &Path) -> Command {
    let mut command = Command::new(rustc);
    command.env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn holds_core(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_is_found_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!holds_core(folder.path()));
        assert!(!holds_core(&folder.path().join("absent")));
        std::fs::write(folder.path().join("libcore-0123.rlib"), "").unwrap();
        assert!(holds_core(folder.path()));
    }

    #[test]
    fn minimum_is_the_workspaces() {
        let manifest = std::fs::read_to_string(paths::root().join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let wanted = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
        assert_eq!(wanted.parse::<Version>().unwrap(), MINIMUM);
    }
}
