//! Interrupts, taken: the kernel's library leaves them masked and looks for events itself, but what
//! an interrupt costs shows only in a handler. This one does the least that ends an event or a
//! timer.
//!
//! They are unmasked only while something here waits for one.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use pv_guest_kernel::abi::shared_info::PortBit;
use pv_guest_kernel::abi::{Port, shared_info};
use pv_guest_kernel::device_tree::InterruptController;
use pv_guest_kernel::event;

use super::register;

/// The software-generated interrupt that this kernel sends to itself.
const SGI: u32 = 1;
/// Second frame of a redistributor: private interrupts (Arm IHI 0069, 12.11).
const GICR_SGI_FRAME: u64 = 0x1_0000;
const IGROUPR0: u64 = 0x0080;
const ISENABLER0: u64 = 0x0100;
/// CNTV_CTL_EL0: on, and its interrupt not masked.
const TIMER_ON: u64 = 1;

/// What the handler knows and notes. The assembly below has the offsets.
#[repr(C)]
struct State {
    /// The counter at the last interrupt's first instructions.
    entered: AtomicU64,
    /// Interrupts taken.
    count: AtomicU64,
    /// Address of this vCPU's `VcpuInfo`.
    vcpu_info: AtomicU64,
    /// Address of the word of pending events to be cleared.
    pending: AtomicU64,
}

static STATE: State = State {
    entered: AtomicU64::new(0),
    count: AtomicU64::new(0),
    vcpu_info: AtomicU64::new(0),
    pending: AtomicU64::new(0),
};

// Second entry: an interrupt at this level, on SP_EL0, where the library's kernels run. All others
// are faults, and the library's to tell.
global_asm!(
    r#"
    .section .text.bench, "ax"
    .balign 0x800
bench_vectors:
    .set entry, 0
    .rept 16
    .balign 0x80
    .if entry == 1
    stp     x0, x1, [sp, #-32]!
    stp     x2, x3, [sp, #16]
    mrs     x0, cntvct_el0
    adrp    x1, {state}
    add     x1, x1, :lo12:{state}
    str     x0, [x1]
    mrs     x0, icc_iar1_el1
    ldp     x2, x3, [x1, #16]
    strb    wzr, [x2]               // VcpuInfo::upcall_pending
    str     xzr, [x2, #8]           // VcpuInfo::pending_selector
    str     xzr, [x3]
    mov     x2, #3                  // on, and masked
    msr     cntv_ctl_el0, x2
    msr     icc_eoir1_el1, x0
    msr     icc_dir_el1, x0         // the library chose EOImode 1
    ldr     x2, [x1, #8]
    add     x2, x2, #1
    str     x2, [x1, #8]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp], #32
    eret
    .else
    b       exception_vectors + entry * 0x80
    .endif
    .set entry, entry + 1
    .endr
    "#,
    state = sym STATE,
);

unsafe extern "C" {
    static bench_vectors: u8;
}

/// Takes over the vectors, and enables the software-generated interrupt.
pub fn install(controller: InterruptController) {
    let private = controller.redistributor + GICR_SGI_FRAME;
    register::write32(private + IGROUPR0, register::read32(private + IGROUPR0) | 1 << SGI);
    register::write32(private + ISENABLER0, 1 << SGI);
    watch(Port(0));
    let vectors = (&raw const bench_vectors).addr();
    // SAFETY: the vectors above. Interrupts are masked.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) vectors, options(nostack)) };
}

/// Lets the handler clear the word of pending events that has this port.
pub fn watch(port: Port) {
    let (Some(pages), Some(place)) = (event::pages(), PortBit::of(port)) else { return };
    let address = |page: &pv_guest_kernel::shared::SharedPage, offset: usize| {
        (page.as_ptr().as_ptr().expose_provenance() + offset) as u64
    };
    let pending = offset_of!(shared_info::SharedInfo, pending) + place.word * size_of::<u64>();
    STATE.vcpu_info.store(address(&pages.vcpu_info, 0), Ordering::Relaxed);
    STATE.pending.store(address(&pages.shared_info, pending), Ordering::Relaxed);
}

/// Interrupts taken so far.
#[inline(always)]
pub fn count() -> u64 {
    STATE.count.load(Ordering::Relaxed)
}

/// The counter when the last interrupt was taken.
pub fn entered() -> u64 {
    STATE.entered.load(Ordering::Relaxed)
}

/// Takes interrupts from now on.
#[inline(always)]
pub fn unmask() {
    // SAFETY: the handler above preserves all registers, and touches only what is its own.
    unsafe { asm!("msr daifclr, #2", options(nostack)) };
}

/// Takes none from now on.
#[inline(always)]
pub fn mask() {
    // SAFETY: masks interrupts.
    unsafe { asm!("msr daifset, #2", options(nostack)) };
}

/// Waits without sleeping until more than `seen` interrupts were taken. They must be unmasked.
#[inline(always)]
pub fn spin_past(seen: u64) {
    while count() == seen {}
}

/// Sleeps until more than `seen` interrupts were taken. They must be masked, and are afterwards.
#[inline(always)]
pub fn sleep_past(seen: u64) {
    while count() == seen {
        // SAFETY: as for `unmask`. What is pending is taken at the barrier.
        unsafe { asm!("wfi", "msr daifclr, #2", "isb", "msr daifset, #2", options(nostack)) };
    }
}

/// Takes what is pending. Interrupts must be masked, and are afterwards.
pub fn drain() {
    unmask();
    // SAFETY: a barrier.
    unsafe { asm!("isb", options(nostack)) };
    mask();
}

/// Sends the software-generated interrupt to this vCPU.
#[inline(always)]
pub fn send_to_self() {
    /// Affinity 0, the first CPU of it (ICC_SGI1R_EL1).
    const COMMAND: u64 = (SGI as u64) << 24 | 1;
    // SAFETY: raises an interrupt, which the handler takes.
    unsafe { asm!("msr icc_sgi1r_el1, {}", in(reg) COMMAND, options(nostack)) };
}

/// Arms the virtual timer.
#[inline(always)]
pub fn arm_timer(deadline: u64) {
    // SAFETY: the timer raises an interrupt, which the handler takes and masks.
    unsafe {
        asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", in(reg) deadline, in(reg) TIMER_ON,
            options(nostack));
    }
}
