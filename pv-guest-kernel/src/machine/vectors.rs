//! Exceptions. Interrupts stay masked, so each is a bug of this kernel: it is described, and the
//! domain crashes.
//!
//! The kernel runs on SP_EL0 and exceptions on SP_EL1, so that an overflow of the stack can be
//! told, too.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{ELR_EL1, ESR_EL1, FAR_EL1, VBAR_EL1};
use abi::sched::ShutdownReason;
use tock_registers::interfaces::{Readable, Writeable};

use super::{backtrace, image};
use crate::{hypercall, power, println};

global_asm!(
    r#"
    .section .text.vectors, "ax"
    .altmacro
    .macro save_pair first, second
    stp     x\first, x\second, [sp, #8 * \first]
    .endm
    .balign 0x800
    .global exception_vectors
exception_vectors:
    .set kind, 0
    .rept 16
    .balign 0x80
    sub     sp, sp, #256
    stp     x0, x1, [sp]
    mov     x1, #kind
    b       1f
    .set kind, kind + 1
    .endr

1:  .irp n, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28
    save_pair \n, %(\n + 1)
    .endr
    str     x30, [sp, #240]
    mov     x0, sp
    b       {fault}
    .noaltmacro
    "#,
    fault = sym fault,
);

unsafe extern "C" {
    static exception_vectors: u8;
}

/// From now on exceptions are told.
pub(super) fn install() {
    VBAR_EL1.set((&raw const exception_vectors).addr() as u64);
    barrier::isb(barrier::SY);
}

/// Entered from the vectors: the registers that were saved, and the vector's number.
extern "C" fn fault(registers: &[u64; 31], kind: u64) -> ! {
    static FAULTED: AtomicBool = AtomicBool::new(false);
    // Telling it may fault again (MMU off, say): then it is not told.
    if FAULTED.swap(true, Ordering::Relaxed) {
        let _ = hypercall::sched::shutdown(ShutdownReason::Crash);
        super::halt();
    }
    let (syndrome, pc) = (ESR_EL1.get(), ELR_EL1.get());
    println!("\nPANIC: {} at pc {:#x}", describe(syndrome, kind), offset(pc));
    println!("  esr {syndrome:#x}  far {:#x}  elr {pc:#x}", FAR_EL1.get());
    for (number, pair) in registers.chunks(2).enumerate() {
        for (which, value) in pair.iter().enumerate() {
            crate::print!("  x{:<2} {value:016x}", number * 2 + which);
        }
        println!();
    }
    let callers = backtrace::backtrace_from(registers[29]);
    backtrace::print([offset(pc)].into_iter().chain(callers));
    power::shutdown(ShutdownReason::Crash)
}

/// An address as an offset from the image's start.
fn offset(address: u64) -> u64 {
    address.wrapping_sub(image::whole().start)
}

/// Names the exception class (Arm ARM D24.2.40).
fn describe(syndrome: u64, kind: u64) -> &'static str {
    match (kind % 4, (syndrome >> 26) & 0x3F) {
        (1 | 2, _) => "unexpected interrupt",
        (3, _) => "system error",
        (_, 0x00) => "undefined instruction",
        (_, 0x07) => "floating point is not available",
        (_, 0x15) => "system call",
        (_, 0x18) => "trapped system register",
        (_, 0x20 | 0x21) => "instruction abort",
        (_, 0x22) => "misaligned pc",
        (_, 0x24 | 0x25) => "data abort",
        (_, 0x26) => "misaligned stack pointer",
        (_, 0x3C) => "breakpoint instruction",
        _ => "exception",
    }
}
