//! `cargo xtask`: the front door's command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, build, control, doctor, gdb, new_driver, options, peer_run, run, test};

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
    /// Runs a verb of dom0's `xl` in the machine that `cargo xtask run` has started.
    Xl(options::Xl),
    /// Attaches to the console of a domain in that machine; Ctrl-] leaves.
    Console(options::Console),
    /// Builds the monitor, dom0 and the example guests.
    Build,
    /// Runs every check and test, on the host and in QEMU.
    Test(options::Test),
    /// Measures what each operation costs, in instructions.
    Bench(options::Bench),
    /// Runs the guests on Debian's Xen: by themselves, and with Linux' backends.
    PeerRun(options::PeerRun),
    /// Writes a pair of drivers that moves data, to be edited.
    NewDriver(options::NewDriver),
    /// Boots halted, with gdb attached and symbols loaded.
    Gdb(options::Machine),
    /// Shows which tools were found, and how to get the others.
    Doctor,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(options) => run::run(&options).map(succeed),
        Command::Xl(options) => control::xl(&options),
        Command::Console(options) => control::console(&options),
        Command::Build => build::command().map(succeed),
        Command::Test(options) => test::run(&options).map(succeed),
        Command::Bench(options) => bench::run(&options).map(succeed),
        Command::PeerRun(options) => peer_run::run(&options).map(succeed),
        Command::NewDriver(options) => new_driver::run(&options).map(succeed),
        Command::Gdb(options) => gdb::run(&options).map(succeed),
        Command::Doctor => doctor::run().map(succeed),
    };
    match result {
        Ok(status) => status,
        Err(error) => {
            // One line, and the last: scripts read the reason there.
            anstream::eprintln!("error: {}", format!("{error:#}").replace('\n', "; "));
            ExitCode::FAILURE
        }
    }
}

fn succeed((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
