//! `cargo xtask new-driver` in a copy of the work tree: what it writes is formatted, passes the
//! test that comes with it, and moves data.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;
use xtask::new_driver::Pair;
use xtask::paths;
use xtask::setup::{LintTool, Toolchain, lint_command};

/// Sorts behind all that is there, which is no place where a formatter expects it by chance.
const NAME: &str = "zither_01234567";

/// Building all programs once more takes minutes, so that a machine is booted only if one asks for
/// it: `cargo test -p tests --test scenarios -- --ignored`.
pub fn trials() -> [Trial; 2] {
    let trial = |name: &str, test: fn() -> Result<()>| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
    };
    [
        trial("new_driver::passes_its_own_test", passes_its_own_test),
        trial("new_driver::moves_data", moves_data).with_ignored_flag(true),
    ]
}

fn passes_its_own_test() -> Result<()> {
    let tree = tree_with_pair()?;
    let mut format = lint_command(LintTool::Rustfmt, &Toolchain::find()?)?;
    format.args(["--all", "--check"]);
    output(format, tree.path()).context("it is not formatted")?;
    let printed = output(cargo(&["test", "--package", "dom0", "--lib", NAME]), tree.path())?;
    ensure!(printed.contains("1 passed"), "it printed: {printed}");
    Ok(())
}

fn moves_data() -> Result<()> {
    let printed = output(cargo(&["xtask", "test", "--scenario", NAME]), tree_with_pair()?.path())?;
    ensure!(printed.contains("1 passed"), "it printed: {printed}");
    Ok(())
}

/// A copy of the work tree with a pair of drivers more.
fn tree_with_pair() -> Result<TempDir> {
    let tree = tempfile::Builder::new().prefix("aurochs-pair-").tempdir()?;
    copy_tree(paths::root(), tree.path())?;
    Pair::plan(tree.path(), NAME)?.write()?;
    Ok(tree)
}

/// cargo with a target folder of its own: in the other one, what was built of the same crates would
/// be replaced.
fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.env("CARGO_TARGET_DIR", paths::target().join("new-driver"));
    // It is built for this one test.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0").args(arguments);
    cargo
}

/// Runs a command in `folder`; returns what it prints.
fn output(mut command: Command, folder: &Path) -> Result<String> {
    let output = command.current_dir(folder).output().context("it cannot be started")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{command:?} failed: {printed}{errors}");
    Ok(printed)
}

/// Copies what belongs to the work tree: not what was built, nor what git keeps.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let (from, to) = (entry.path(), to.join(&name));
        match entry.file_type()? {
            kind if kind.is_dir() && (name == "target" || name == ".git") => {}
            kind if kind.is_dir() => copy_tree(&from, &to)?,
            _ => drop(fs::copy(&from, &to).with_context(|| from.display().to_string())?),
        }
    }
    Ok(())
}
