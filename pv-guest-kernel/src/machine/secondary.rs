//! How other vCPUs than the first begin: with the first one's MMU settings, on a stack of their own.

use core::arch::{asm, global_asm};
use core::ptr::NonNull;

use aarch64_cpu::registers::{MAIR_EL1, SCTLR_EL1, TCR_EL1, TPIDR_EL1, TTBR0_EL1};
use tock_registers::interfaces::{Readable, Writeable};

use super::{cpu, gic, image, vectors};

/// What a vCPU needs before it can use memory as the others do: read with the MMU off.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Start {
    mair: u64,
    tcr: u64,
    ttbr0: u64,
    sctlr: u64,
    exception_stack: u64,
    stack: u64,
    vcpu: u64,
    main: extern "C" fn(u32) -> !,
}

const _: () = assert!(size_of::<Start>() == 64, "the code below reads eight words");

global_asm!(
    r#"
    .section .text.secondary, "ax"
    .global secondary_start
secondary_start:                    // x0: a Start; MMU and caches off, all interrupts masked
    ldp     x2, x3, [x0]
    ldp     x4, x5, [x0, #16]
    ldp     x6, x7, [x0, #32]
    ldp     x0, x1, [x0, #48]
    msr     mair_el1, x2
    msr     tcr_el1, x3
    msr     ttbr0_el1, x4
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el1, x5
    isb
    mov     sp, x6                  // PSCI starts a CPU on SP_EL1
    msr     spsel, #0
    mov     sp, x7
    mov     x29, xzr                // the end of every backtrace
    mov     x30, xzr
    b       {enter}
    "#,
    enter = sym enter,
);

unsafe extern "C" {
    safe fn secondary_start();
}

/// On the vCPU's own stack.
extern "C" fn enter(vcpu: u64, main: extern "C" fn(u32) -> !) -> ! {
    TPIDR_EL1.set(vcpu);
    vectors::install();
    gic::start_this_vcpu(vcpu as u32);
    main(vcpu as u32)
}

impl Start {
    /// For a vCPU that is to run `main`. `None` if it has no stack.
    pub(crate) fn new(vcpu: u32, main: extern "C" fn(u32) -> !) -> Option<Start> {
        let area = image::other_stacks(vcpu)?;
        Some(Start {
            mair: MAIR_EL1.get(),
            tcr: TCR_EL1.get(),
            ttbr0: TTBR0_EL1.get(),
            sctlr: SCTLR_EL1.get(),
            exception_stack: area.exception_stack(),
            stack: area.stack(),
            vcpu: vcpu.into(),
            main,
        })
    }

    /// What CPU_ON takes: where the vCPU begins, and what it finds in x0.
    pub(crate) fn entry(&'static self) -> (u64, u64) {
        let start = NonNull::from(self).cast();
        cpu::clean_to_memory(start, size_of::<Start>());
        let entry: extern "C" fn() = secondary_start;
        (entry as usize as u64, start.as_ptr().expose_provenance() as u64)
    }
}

/// Calls the firmware, that is the monitor, by the SMC calling convention. Returns x0.
pub(crate) fn firmware_call(function: u32, arguments: [u64; 3]) -> u64 {
    let [x1, x2, x3] = arguments;
    let mut x0 = u64::from(function);
    // SAFETY: none of the functions that this kernel calls touches its memory; those that stop it
    // do what their caller wants. Version 1.0 of the convention leaves x4 to x17 undefined.
    unsafe {
        asm!(
            "hvc #0",
            inlateout("x0") x0,
            inlateout("x1") x1 => _,
            inlateout("x2") x2 => _,
            inlateout("x3") x3 => _,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _,
            options(nostack),
        );
    }
    x0
}
