//! `cargo xtask`: the front door's command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, build, doctor, gdb, new_driver, options, run, test};

/// Builds, runs, tests and debugs Aurochs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds what changed and boots it: the dom0 shell, or a script for it.
    Run(options::Run),
    /// Builds the monitor, dom0 and the example guests.
    Build,
    /// Runs every check and test, on the host and in QEMU.
    Test(options::Test),
    /// Measures what each operation costs, in instructions.
    Bench(options::Bench),
    /// Writes a pair of drivers that moves data, to be edited.
    NewDriver(options::NewDriver),
    /// Boots halted, with gdb attached and symbols loaded.
    Gdb(options::Machine),
    /// Shows which tools were found, and how to get the others.
    Doctor,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Build => build::command(),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::NewDriver(options) => new_driver::run(&options),
        Command::Gdb(options) => gdb::run(&options),
        Command::Doctor => doctor::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, and the last: scripts read the reason there.
            anstream::eprintln!("error: {}", format!("{error:#}").replace('\n', "; "));
            ExitCode::FAILURE
        }
    }
}
