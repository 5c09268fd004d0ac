//! The machine: from `qemu/virt.toml` and the user's options to a running QEMU.
//!
//! [`Virt`] is the board as data, [`Layout`] decides what goes where in its memory, [`Machine`]
//! gathers the files, [`CommandLine`] is QEMU's command line as a type, [`Process`] the running
//! machine with its console, [`Qmp`] answers where its CPUs are.

mod command_line;
mod forward;
mod layout;
mod machine;
mod process;
mod qmp;
mod virt;

pub use command_line::{CommandLine, Console};
pub use forward::{Forward, Forwarded, HostPort, Protocol};
pub use layout::Layout;
pub use machine::Machine;
pub use process::{Exit, Process};
pub use qmp::{Cpu, Qmp};
pub use virt::Virt;
