//! Finds the tools that the project needs, and installs what is missing.
//!
//! A [`Tool`] is looked for with [`Tool::find`]; [`ensure`] looks for several and installs all that
//! are missing in one step. Nothing is installed that is already there in a usable version.

pub mod apt;
pub mod deb;
mod gdb;
mod linker;
mod lint;
mod mke2fs;
mod qemu;
mod rustup;
mod toolchain;
mod version;
mod xen;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub use linker::linker;
pub use lint::{LintTool, lint_command};
pub use qemu::Qemu;
pub use toolchain::{Core, Toolchain};
pub use version::Version;
pub use xen::{XEN_TOOLS, xen};

/// Something that the project needs from the machine it is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// rustc and cargo that can build for the bare target.
    Toolchain,
    /// A linker for it.
    Linker,
    /// The machine.
    Qemu,
    /// `cargo clippy`
    Clippy,
    /// `cargo fmt`
    Rustfmt,
    /// A debugger that knows arm64.
    Gdb,
    /// What makes a file system for Linux.
    Mke2fs,
}

/// A tool that was found.
#[derive(Debug)]
pub struct Found {
    /// Its version and what is worth knowing about it.
    pub description: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Tool {
    /// All of them.
    pub const ALL: [Tool; 7] = [
        Tool::Toolchain,
        Tool::Linker,
        Tool::Qemu,
        Tool::Clippy,
        Tool::Rustfmt,
        Tool::Gdb,
        Tool::Mke2fs,
    ];
    /// What building needs.
    pub const BUILD: &[Tool] = &[Tool::Toolchain, Tool::Linker];
    /// What running needs.
    pub const RUN: &[Tool] = &[Tool::Toolchain, Tool::Linker, Tool::Qemu];
    /// What testing needs.
    pub const TEST: &[Tool] =
        &[Tool::Toolchain, Tool::Linker, Tool::Qemu, Tool::Clippy, Tool::Rustfmt];
    /// What debugging needs.
    pub const DEBUG: &[Tool] = &[Tool::Toolchain, Tool::Linker, Tool::Qemu, Tool::Gdb];

    /// What it is called when speaking to people.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Toolchain => "Rust for the bare target",
            Tool::Linker => "linker (LLD)",
            Tool::Qemu => "QEMU",
            Tool::Clippy => "clippy",
            Tool::Rustfmt => "rustfmt",
            Tool::Gdb => "gdb for arm64",
            Tool::Mke2fs => "mke2fs",
        }
    }

    /// Looks for it.
    ///
    /// # Errors
    /// Says what was found instead of a usable one.
    pub fn find(self) -> Result<Found> {
        match self {
            Tool::Toolchain => Toolchain::find().map(|toolchain| toolchain.found()),
            Tool::Linker => linker::find(),
            Tool::Qemu => Qemu::find().map(|qemu| qemu.found()),
            Tool::Clippy => LintTool::Clippy.find(),
            Tool::Rustfmt => LintTool::Rustfmt.find(),
            Tool::Gdb => gdb::find(),
            Tool::Mke2fs => mke2fs::find(),
        }
    }

    /// The Debian packages that bring it.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Tool::Toolchain => &["rustc-web", "cargo-web", "rust-web-src"],
            Tool::Linker => &["lld-19"],
            Tool::Qemu => &["qemu-system-arm"],
            Tool::Clippy => &["rust-web-clippy"],
            Tool::Rustfmt => &["rustfmt-web"],
            Tool::Gdb => &["gdb-multiarch"],
            Tool::Mke2fs => &["e2fsprogs"],
        }
    }
}

/// Makes sure that all of `tools` are there.
///
/// # Errors
/// One is missing and could not be installed: the error names the one command that mends it.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let missing = |tool: &Tool| tool.find().is_err();
    let absent: Vec<Tool> = tools.iter().copied().filter(missing).collect();
    rustup::try_to_mend(&absent);
    let absent: Vec<Tool> = absent.into_iter().filter(missing).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(|tool| tool.name()).collect();
    let packages: Vec<&str> = absent.iter().flat_map(|tool| tool.packages()).copied().collect();
    apt::install(&packages).with_context(|| format!("missing: {}", names.join(", ")))?;
    for tool in absent {
        if let Err(reason) = tool.find() {
            bail!("{} is still missing after the installation: {reason:#}", tool.name());
        }
    }
    Ok(())
}

/// The gdb that [`ensure`] found.
///
/// # Errors
/// There is none.
pub fn gdb() -> Result<PathBuf> {
    Ok(gdb::find()?.path)
}

/// What `command` prints on its standard output.
///
/// # Errors
/// It cannot be started or fails.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// The first program of these names in `$PATH`.
pub(crate) fn in_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| folders.iter().map(|f| f.join(name)).find(|p| is_program(p)))
}

/// Whether `path` is a file that may be executed.
pub(crate) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
