//! What this kernel does to its (virtual) hardware, and the only place that knows assembly,
//! registers and page tables. On the host, [`host`] stands in.

#[cfg(target_os = "none")]
mod backtrace;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod bytes;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod gic;
#[cfg(not(target_os = "none"))]
pub mod host;
#[cfg(target_os = "none")]
mod image;
#[cfg(target_os = "none")]
mod mmu;
#[cfg(any(target_os = "none", test))]
mod page_table;
#[cfg(target_os = "none")]
mod secondary;
#[cfg(target_os = "none")]
mod shared;
#[cfg(any(target_os = "none", test))]
mod stack;
#[cfg(target_os = "none")]
mod timer;
#[cfg(target_os = "none")]
mod vectors;

#[cfg(target_os = "none")]
pub(crate) use {
    backtrace::{backtrace, print as print_backtrace},
    bytes::{start as start_copying, word},
    cpu::{clean_to_memory, halt, hypercall, relax, vcpu, wait},
    gic::{
        acknowledge_interrupt, deactivate_interrupt, disable_shared_interrupt,
        enable_shared_interrupt, private_interrupts, send_sgi, start as start_interrupts,
    },
    image::{set_other_stacks as set_stacks, whole as image_range},
    secondary::{Start, firmware_call},
    shared::{event_pages, grant_frame, grantable_frame, mapped_page, set_grant_window},
    stack::behind as stacks_behind,
    timer::{frequency, start as start_timer, ticks},
};

#[cfg(not(target_os = "none"))]
pub(crate) use host::*;
