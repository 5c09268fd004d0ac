//! This physical machine: the only place that knows assembly and device registers.

pub mod boot;
pub mod boot_heap;
pub mod cache;
pub mod context;
pub mod description;
pub mod el2;
pub mod gic;
pub mod guest_exception;
pub mod id_registers;
pub mod image;
pub mod list_register;
pub mod lock;
pub mod log;
pub mod memory;
pub mod mmu;
pub mod panic;
pub mod percpu;
pub mod power;
mod registers;
pub mod rtc;
pub mod symbols;
mod text_ring;
pub mod timer;
pub mod tlb;
pub mod translate;
pub mod uart;
pub mod vectors;
