//! The monitor at EL2: it knows CPUs, memory, events and grants, and nothing else.
//!
//! Laid out after the monitor of Popek and Goldberg ("Formal Requirements for Virtualizable Third
//! Generation Architectures", 1974): a [`dispatcher`] to which the hardware traps, an
//! [`allocator`] that decides who owns what, and an [`interpreter`] with a routine for each thing
//! that is emulated. Below them [`machine`] is the only place that knows assembly and device
//! registers; [`guest`] is the only way to the memory that a guest names.
//!
//! Modules import each other one way only: `machine` <- `allocator` <- `interpreter` <-
//! `dispatcher` <- the binary. The allocator is plain logic and runs in the host's tests as it
//! does at EL2.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod allocator;
pub mod dispatcher;
pub mod dom0;
pub mod guest;
pub mod interpreter;
#[expect(unsafe_code, reason = "registers, page tables and assembly are here and nowhere else")]
pub mod machine;
pub mod types;
