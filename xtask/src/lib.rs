//! The pieces behind `cargo xtask`, as a library so that the scenarios in `tests/` drive the
//! machine with the same code as a person does.
//!
//! - [`setup`] finds the tools and installs what is missing
//! - [`build`] makes the images, [`image`] knows their formats
//! - [`qemu`] turns `qemu/virt.toml` and [`options`] into a running QEMU
//! - [`linux`] fetches Debian's kernel and makes a guest of it
//! - [`session`] talks to the dom0 shell in it, over its console
//! - [`peer`] is the same machine with Debian's Xen
//! - [`control`] does so from a second terminal, over channels of its own
//! - [`run`], [`test`], [`bench`], [`peer_run`], [`new_driver`], [`gdb`] and [`doctor`] are the commands

pub mod bench;
pub mod build;
pub mod control;
pub mod doctor;
pub mod gdb;
pub mod image;
pub mod linux;
pub mod new_driver;
pub mod options;
pub mod paths;
pub mod peer;
pub mod peer_run;
pub mod qemu;
pub mod run;
pub mod session;
pub mod setup;
pub mod test;
