//! `cargo xtask test`: every check there is, with one summary.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::build::PACKAGES;
use crate::options;
use crate::paths;
use crate::setup::{self, LintTool, Tool, Toolchain, lint_command};

/// The package with the scenarios.
const SCENARIOS: &str = "tests";

/// Runs everything, also after something has failed.
///
/// # Errors
/// Something failed.
pub fn run(options: &options::Test) -> Result<()> {
    setup::ensure(Tool::TEST)?;
    let mut total = Count::default();
    for (name, command) in stages(options)? {
        eprintln!("── {name}");
        let started = Instant::now();
        let count = execute(command).with_context(|| format!("cannot run {name}"))?;
        eprintln!("── {name}: {count} ({:.0} s)\n", started.elapsed().as_secs_f32());
        total.add(count);
    }
    println!("{total}");
    if total.failed > 0 {
        bail!("{total}");
    }
    Ok(())
}

type Stage = (&'static str, Command);

fn stages(options: &options::Test) -> Result<Vec<Stage>> {
    if let Some(filter) = &options.scenario {
        let mut scenarios = cargo_test(&["--package", SCENARIOS, "--test", "scenarios"]);
        scenarios.args(["--", filter]);
        return Ok(vec![("scenarios", scenarios)]);
    }
    let toolchain = Toolchain::find()?;
    let mut format = lint_command(LintTool::Rustfmt, &toolchain)?;
    format.args(["--all", "--check"]);
    let mut host = lint_command(LintTool::Clippy, &toolchain)?;
    host.args(["--workspace", "--all-targets", "--", "-Dwarnings"]);
    let mut bare = lint_command(LintTool::Clippy, &toolchain)?;
    toolchain.select_target(&mut bare);
    bare.args(["--features", "bare-metal"]);
    bare.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    bare.args(["--", "-Dwarnings"]);
    Ok(vec![
        ("format", format),
        ("clippy for the host", host),
        ("clippy for the machine", bare),
        ("tests on the host", cargo_test(&[])),
        ("scenarios in the machine", cargo_test(&["--package", SCENARIOS])),
    ])
}

fn cargo_test(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(paths::root()).args(["test", "--no-fail-fast"]).args(arguments);
    command
}

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Runs `command`, shows what it prints and counts the tests in it. A command without tests counts
/// as one.
fn execute(mut command: Command) -> Result<Count> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            count.add(count_in(&line).unwrap_or_default());
        }
    }
    let success = child.wait()?.success();
    if success && count == Count::default() {
        count.passed = 1;
    }
    // It may have failed before, after or without a test.
    if !success && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

/// Reads "test result: ok. 3 passed; 0 failed; 0 ignored; ...".
fn count_in(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |label: &str| {
        let part = counts.split(';').find(|part| part.trim().ends_with(label))?;
        part.split_whitespace().next()?.parse().ok()
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let line = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out";
        assert_eq!(count_in(line), Some(Count { passed: 3, failed: 1 }));
        assert_eq!(count_in("running 3 tests"), None);
        let ok = execute(Command::new("true")).unwrap();
        assert_eq!(ok, Count { passed: 1, failed: 0 });
        let failed = execute(Command::new("false")).unwrap();
        assert_eq!(failed, Count { passed: 0, failed: 1 });
    }

    #[test]
    fn a_failure_without_a_failed_test_counts() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 1"]);
        assert_eq!(execute(command).unwrap(), Count { passed: 2, failed: 1 });
    }
}
