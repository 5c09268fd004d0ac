//! Interrupts, taken: the kernel's library leaves them masked and looks for events itself, but what
//! an interrupt costs shows only in a handler. This one does the least that ends an interrupt, and
//! notes when it came.

use core::arch::{asm, global_asm};

use pv_guest_kernel::device_tree::InterruptController;

use super::register;

/// The software-generated interrupt that this kernel sends to itself.
const SGI: u32 = 1;
/// Second frame of a redistributor: private interrupts (Arm IHI 0069, 12.11).
const GICR_SGI_FRAME: u64 = 0x1_0000;
const IGROUPR0: u64 = 0x0080;
const ISENABLER0: u64 = 0x0100;
/// CNTV_CTL_EL0: on, its interrupt not masked.
const TIMER_ON: u64 = 1;
const TIMER_OFF: u64 = 0;

// One entry: an interrupt at this level while SP_EL0 is in use, as it is in the library's kernels.
// The others are zeroes, which are no instructions: a fault while these vectors are in use shows
// as a domain that executes them for ever. There is no user mode, so its registers are free.
global_asm!(
    ".balign 0x800",
    "bench_vectors:",
    ".space 0x80",
    "msr tpidrro_el0, x0",
    "mrs x0, cntvct_el0",
    "msr tpidr_el0, x0", // when it came
    "mrs x0, icc_iar1_el1",
    "msr icc_eoir1_el1, x0",
    "msr icc_dir_el1, x0", // the library chose EOImode 1
    "mrs x0, tpidrro_el0",
    "eret",
    ".org bench_vectors + 0x800",
);

unsafe extern "C" {
    static bench_vectors: u8;
}

/// Enables the software-generated interrupt.
pub fn enable_software_generated(controller: InterruptController) {
    let private = controller.redistributor + GICR_SGI_FRAME;
    register::write32(private + IGROUPR0, register::read32(private + IGROUPR0) | 1 << SGI);
    register::write32(private + ISENABLER0, 1 << SGI);
}

/// The handler, in place until dropped. Interrupts are masked before and afterwards.
#[derive(Debug)]
pub struct Handler {
    /// The library's vectors.
    others: u64,
}

impl Handler {
    /// Puts it in place.
    pub fn install() -> Handler {
        let others: u64;
        let vectors = (&raw const bench_vectors).addr();
        // SAFETY: the vectors above; interrupts are masked.
        unsafe {
            asm!("mrs {}, vbar_el1", "msr vbar_el1, {}", "isb", out(reg) others, in(reg) vectors,
                options(nostack));
        }
        Handler { others }
    }

    /// Takes interrupts from now on.
    #[inline(always)]
    pub fn unmask(&self) {
        // SAFETY: the handler is in place. It preserves all registers that are in use.
        unsafe { asm!("msr daifclr, #2", options(nostack)) };
    }

    /// Takes none from now on.
    #[inline(always)]
    pub fn mask(&self) {
        // SAFETY: masks interrupts.
        unsafe { asm!("msr daifset, #2", options(nostack)) };
    }

    /// Spins until another interrupt was taken than the one that came at `seen`. They must be
    /// unmasked.
    #[inline(always)]
    pub fn spin_past(&self, seen: u64) {
        while last() == seen {}
    }

    /// Sleeps until another interrupt was taken than the one that came at `seen`. They must be
    /// masked, and are afterwards.
    #[inline(always)]
    pub fn sleep_past(&self, seen: u64) {
        while last() == seen {
            // SAFETY: as for `unmask`. What is pending is taken at the barrier.
            unsafe { asm!("wfi", "msr daifclr, #2", "isb", "msr daifset, #2", options(nostack)) };
        }
    }

    /// Takes what is pending.
    pub fn drain(&self) {
        self.unmask();
        // SAFETY: a barrier.
        unsafe { asm!("isb", options(nostack)) };
        self.mask();
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.mask();
        // SAFETY: the vectors that were there before.
        unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) self.others, options(nostack)) };
    }
}

/// The counter when the last interrupt came.
#[inline(always)]
pub fn last() -> u64 {
    let ticks: u64;
    // SAFETY: reads what the handler noted.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) ticks, options(nostack)) };
    ticks
}

/// Sends the software-generated interrupt to this vCPU.
#[inline(always)]
pub fn send_to_self() {
    /// Affinity 0, the first CPU of it (ICC_SGI1R_EL1).
    const COMMAND: u64 = (SGI as u64) << 24 | 1;
    // SAFETY: raises an interrupt, which only the handler takes.
    unsafe { asm!("msr icc_sgi1r_el1, {}", in(reg) COMMAND, options(nostack)) };
}

/// Arms the virtual timer.
#[inline(always)]
pub fn arm_timer(deadline: u64) {
    // SAFETY: the timer raises an interrupt, which only the handler takes.
    unsafe {
        asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", in(reg) deadline, in(reg) TIMER_ON,
            options(nostack));
    }
}

/// Stops it.
pub fn disarm_timer() {
    // SAFETY: the library arms it anew whenever it needs it.
    unsafe { asm!("msr cntv_ctl_el0, {}", in(reg) TIMER_OFF, options(nostack)) };
}
