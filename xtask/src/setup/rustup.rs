//! What rustup can add to the toolchain that runs us, where it is there and has a network.

use std::process::{Command, Stdio};

use super::toolchain::TARGET;
use super::{Tool, in_path};

/// The arguments for rustup that bring `tool`.
fn arguments(tool: Tool) -> Option<[&'static str; 3]> {
    match tool {
        Tool::Toolchain => Some(["target", "add", TARGET]),
        Tool::Clippy => Some(["component", "add", "clippy"]),
        Tool::Rustfmt => Some(["component", "add", "rustfmt"]),
        Tool::Linker | Tool::Qemu | Tool::Gdb | Tool::Mke2fs => None,
    }
}

/// Tries to add what is `absent`. It may fail, for want of a network: the distribution's packages
/// are tried after it.
pub(super) fn try_to_mend(absent: &[Tool]) {
    let forbidden = std::env::var("RUSTUP_AUTO_INSTALL").is_ok_and(|value| value == "0");
    let (Some(rustup), false) = (in_path(&["rustup"]), forbidden) else { return };
    for arguments in absent.iter().copied().filter_map(arguments) {
        eprintln!("Installing what is missing: rustup {}", arguments.join(" "));
        let mut command = Command::new(&rustup);
        let added = command.args(arguments).stdin(Stdio::null()).stdout(std::io::stderr()).status();
        if !added.is_ok_and(|status| status.success()) {
            eprintln!("rustup could not; the distribution's packages come next.");
            return;
        }
    }
}
