//! The exception vectors of EL2, and the way back into a guest.
//!
//! While a guest runs, SP_EL2 points at its `Context` and TPIDR_EL2 at this CPU's block, which
//! lies at the top of this CPU's stack. A trap saves what Rust may clobber into the context and
//! starts on an empty stack. The handler answers with one of [`Resume`]'s values; if the vCPU gives
//! up the CPU the rest is saved and `reschedule` chooses what runs, and enters it by `enter_guest`. ELR_EL2 and SPSR_EL2 stay in
//! the CPU unless another vCPU takes it.
//!
//! A hypercall that is handled at once costs 44 instructions here: 30 in, the counting of it and
//! the choice of its handler included, and 14 out. Any other synchronous exception costs 47.

#[cfg(target_os = "none")]
use core::mem::{offset_of, size_of};

#[cfg(target_os = "none")]
use abi::domctl::ExitCounts;

#[cfg(target_os = "none")]
use super::context::{Context, FpState};
#[cfg(target_os = "none")]
use super::percpu::{EMERGENCY_TO_PER_CPU, PerCpu};

/// Entries in the dispatcher's table `HYPERCALL_ENTRIES`, by hypercall number.
pub const HYPERCALL_TABLE_SIZE: usize = 64;
/// Entries in the dispatcher's table `TRAP_ENTRIES`, by exception class (ESR_EL2.EC, 6 bits).
pub const TRAP_TABLE_SIZE: usize = 64;

/// A handler's answer to the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Resume {
    /// The guest goes on.
    Guest = 0,
    /// The vCPU gives up the CPU.
    Another = 1,
    /// The guest goes on, and the context holds a new value for one of x20 to x28.
    GuestWithAll = 2,
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    r#"
    .section .text.vectors, "ax"

    // Names a routine for backtraces and profilers.
    .macro routine name
        .type \name, %function
    \name:
    .endm

    // Loads or stores registers in pairs: each at `offset` plus its number times `size`.
    .altmacro
    .macro pair instruction, class, first, second, base, size, offset
        \instruction \class\first, \class\second, [\base, #\offset + \first * \size]
    .endm
    .macro pairs instruction, class, base, size, offset, numbers:vararg
        .irp n, \numbers
            pair \instruction, \class, \n, %(\n + 1), \base, \size, \offset
        .endr
    .endm

    // What Rust may clobber, and x19, which is to hold the context. 12 instructions.
    .macro save_clobbered
        pairs stp, x, sp, 8, 0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 29
        mov x19, sp
    .endm

    // What Rust preserves but a switch of vCPUs, or an emulated instruction, does not.
    .macro save_preserved
        pairs stp, x, x19, 8, 0, 20, 22, 24, 26
        str x28, [x19, #224]
    .endm

    .macro restore_preserved
        pairs ldp, x, x19, 8, 0, 20, 22, 24, 26
        ldr x28, [x19, #224]
    .endm

    // x0: the context; the stack: empty; no caller for a backtrace to walk to. Clobbers x2.
    .macro enter_monitor
        mrs x2, tpidr_el2
        mov x0, x19
        mov sp, x2
        mov x29, xzr
    .endm

    // A trap whose handler reads and writes no more than the clobbered registers.
    .macro light_trap handler
        .balign 128
        save_clobbered
        mrs x1, esr_el2
        enter_monitor
        adr x30, leave
        b \handler
    .endm


    // The monitor's own fault, or an exception that nothing can have caused. The guest's TPIDR
    // registers serve as scratch: it will not run again.
    .macro fault number
        .balign 128
        msr tpidr_el1, x0
        mov x0, #\number
        b monitor_fault
    .endm

    .balign 2048
    .global vectors
    routine vectors
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    fault \n
    .endr
    .balign 128                         // lower EL, AArch64
    save_clobbered
    mrs x1, esr_el2
    ldr w2, hypercall_syndrome
    cmp w1, w2
    b.ne full_trap
    ldr x1, [x19, {HYPERCALLS}]
    add x1, x1, #1
    str x1, [x19, {HYPERCALLS}]
    adrp x3, HYPERCALL_ENTRIES
    add x3, x3, :lo12:HYPERCALL_ENTRIES
    cmp x16, {ENTRIES}                  // the hypercall's number, still as the guest set it
    csel x16, x16, xzr, lo              // entry 0 is for numbers that do not exist
    ldr x3, [x3, x16, lsl #3]
    enter_monitor
    adr x30, leave
    br x3
    light_trap irq_entry
    fault 10
    light_trap serror_entry
    .balign 128                         // lower EL, AArch32: a process at EL0
    save_clobbered
    mrs x1, esr_el2
    b full_trap
    light_trap irq_entry
    fault 14
    light_trap serror_entry

    // HVC #0xEA1 from AArch64: EC 0x16, IL 1, ISS 0xEA1.
hypercall_syndrome:
    .word 0x5a000ea1

    routine full_trap                   // x1: the syndrome
    save_preserved
    lsr x2, x1, #26                     // the exception class
    adrp x3, TRAP_ENTRIES
    add x3, x3, :lo12:TRAP_ENTRIES
    ldr x3, [x3, x2, lsl #3]
    enter_monitor
    adr x30, leave_full_trap
    br x3

    routine leave_full_trap             // x0: the handler's answer; x19: the context
    cbz x0, resume
    tbnz x0, #0, switch
    restore_preserved
    b resume

    routine leave                       // x0: the handler's answer; x19: the context
    cbnz x0, save_and_switch
resume:
    mov sp, x19
    pairs ldp, x, sp, 8, 0, 29, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0
    eret

    routine save_and_switch
    save_preserved
switch:
    mrs x20, sp_el0
    mrs x21, elr_el2
    mrs x22, spsr_el2
    str x20, [x19, {SP_EL0}]
    stp x21, x22, [x19, {ELR}]
    b reschedule
    .global enter_guest
    routine enter_guest                 // x0: the context
    mov x19, x0
    ldr x20, [x19, {SP_EL0}]
    ldp x21, x22, [x19, {ELR}]
    msr sp_el0, x20
    msr elr_el2, x21
    msr spsr_el2, x22
    restore_preserved
    b resume

    routine monitor_fault               // x0: the vector's number
    msr tpidr_el0, x1
    mrs x1, tpidr_el2
    add x1, x1, {FAULT}
    pairs stp, x, x1, 8, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28
    mov x2, sp
    stp x30, x2, [x1, #240]
    mrs x2, tpidr_el1
    mrs x3, tpidr_el0
    stp x2, x3, [x1]
    mrs x2, tpidr_el2                   // the stack may be what is broken
    mov x3, {EMERGENCY}
    sub x2, x2, x3
    mov sp, x2
    b monitor_fault_entry

    .arch_extension simd                // includes fp
    .macro fp_registers instruction
        pairs \instruction, q, x0, 16, {Q}, 0, 2, 4, 6, 8, 10, 12, 14
        pairs \instruction, q, x0, 16, {Q}, 16, 18, 20, 22, 24, 26, 28, 30
    .endm

    .global fp_save
    routine fp_save                     // x0: an FpState
    fp_registers stp
    mrs x1, fpcr
    mrs x2, fpsr
    stp x1, x2, [x0]
    ret

    .global fp_load
    routine fp_load                     // x0: an FpState
    fp_registers ldp
    ldp x1, x2, [x0]
    msr fpcr, x1
    msr fpsr, x2
    ret
    .noaltmacro
    .arch_extension nofp                // and with it simd
    "#,
    SP_EL0 = const offset_of!(Context, sp_el0),
    ELR = const offset_of!(Context, elr),
    HYPERCALLS = const offset_of!(Context, exits) + offset_of!(ExitCounts, hypercalls),
    ENTRIES = const HYPERCALL_TABLE_SIZE,
    Q = const offset_of!(FpState, q),
    FAULT = const offset_of!(PerCpu, fault),
    EMERGENCY = const EMERGENCY_TO_PER_CPU,
);

#[cfg(target_os = "none")]
const _: () = {
    assert!(offset_of!(Context, sp_el0) == 248 && size_of::<[u64; 31]>() == 248);
    assert!(offset_of!(FpState, fpcr) == 0 && offset_of!(FpState, fpsr) == 8);
    assert!(offset_of!(PerCpu, fault) < 4096 && EMERGENCY_TO_PER_CPU < 0x1_0000);
};
