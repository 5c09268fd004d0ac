//! The interrupt controller as a guest sees it: a GICv3 (Arm IHI 0069) whose distributor and
//! redistributor the monitor emulates, touched at a vCPU's start only, and whose CPU interface is hardware.

use core::arch::asm;

use aarch64_cpu::registers::MPIDR_EL1;
use tock_registers::interfaces::Readable;

use crate::device_tree::{InterruptController, PrivateInterrupts};
use crate::interrupt::Trigger;

const GICD_CTLR: u64 = 0x0000;
const GICD_IROUTER: u64 = 0x6000;
const GICR_WAKER: u64 = 0x0014;
/// Second frame of a redistributor: private interrupts. Its registers, and the distributor's for
/// shared ones, have the same offsets.
const GICR_SGI_FRAME: u64 = 0x1_0000;
const IGROUPR: u64 = 0x0080;
const ISENABLER: u64 = 0x0100;
const ICENABLER: u64 = 0x0180;
const IPRIORITYR: u64 = 0x0400;
const ICFGR: u64 = 0x0C00;

/// GICD_CTLR: affinity routing, and group 1.
const CTLR_ARE_GROUP1: u32 = 1 << 4 | 1 << 1;
const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
const PRIORITY: u8 = 0xA0;
/// The affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xFF_00FF_FFFF;
/// ISR_EL1.I
const IRQ: u64 = 1 << 7;
/// What ICC_IAR1_EL1 answers from here on is no interrupt.
const FIRST_SPECIAL: u64 = 1020;

/// Bytes of each vCPU's redistributor frames.
const GICR_STRIDE: u64 = 0x2_0000;
/// All software-generated interrupts.
const SGIS: u32 = 0xFFFF;

/// What the device tree says.
static GIC: spin::Once<(InterruptController, PrivateInterrupts)> = spin::Once::new();

/// Starts the distributor, and this vCPU's part.
pub(crate) fn start(controller: InterruptController, interrupts: PrivateInterrupts) {
    GIC.call_once(|| (controller, interrupts));
    write32(controller.distributor + GICD_CTLR, CTLR_ARE_GROUP1);
    start_this_vcpu(0);
}

/// Enables the event, timer and software-generated interrupts of this vCPU, and its CPU interface.
pub(super) fn start_this_vcpu(vcpu: u32) {
    let Some((controller, interrupts)) = GIC.get() else { return };
    let redistributor = controller.redistributor + u64::from(vcpu) * GICR_STRIDE;
    wake(redistributor);
    let private = redistributor + GICR_SGI_FRAME;
    for intid in [interrupts.events, interrupts.timer] {
        write8(private + IPRIORITYR + u64::from(intid), PRIORITY);
    }
    let enabled = 1 << interrupts.events | 1 << interrupts.timer | SGIS;
    write32(private + IGROUPR, read32(private + IGROUPR) | enabled);
    write32(private + ISENABLER, enabled);
    start_cpu_interface();
}

fn wake(redistributor: u64) {
    let waker = redistributor + GICR_WAKER;
    write32(waker, read32(waker) & !WAKER_PROCESSOR_SLEEP);
    // An emulation answers at once; real hardware takes some cycles.
    for _ in 0..1000 {
        if read32(waker) & WAKER_CHILDREN_ASLEEP == 0 {
            break;
        }
    }
}

/// The event and the timer interrupt.
pub(crate) fn private_interrupts() -> PrivateInterrupts {
    GIC.get().map(|&(_, interrupts)| interrupts).unwrap_or_default()
}

fn distributor() -> u64 {
    GIC.get().map_or(0, |(controller, _)| controller.distributor)
}

/// Sends software-generated interrupt `intid`, below 16, to a vCPU of this domain, below 16.
pub(crate) fn send_sgi(vcpu: u32, intid: u32) {
    // ICC_SGI1R_EL1: INTID in bits 24 to 27, a bit for each target in 0 to 15 (affinity 0.0.0.n).
    let value = u64::from(intid & 0xF) << 24 | 1 << (vcpu & 0xF);
    // SAFETY: an interrupt of this domain's own. What was written before is visible before.
    unsafe { asm!("dsb ishst", "msr icc_sgi1r_el1, {}", "isb", in(reg) value, options(nostack)) };
}

fn start_cpu_interface() {
    // SAFETY: these registers decide which interrupts are signalled; the CPU masks them all.
    unsafe {
        asm!(
            "msr icc_sre_el1, {sre}", "isb",
            "msr icc_pmr_el1, {all}",
            "msr icc_bpr1_el1, xzr",
            "msr icc_ctlr_el1, {eoi_mode}",
            "msr icc_igrpen1_el1, {enable}", "isb",
            sre = in(reg) 0b111u64,
            all = in(reg) 0xFFu64,
            // EOImode: ending an interrupt only drops its priority.
            eoi_mode = in(reg) 0b10u64,
            enable = in(reg) 1u64,
            options(nostack),
        );
    }
}

/// Takes the next pending interrupt and drops its priority; it stays active.
pub(crate) fn acknowledge_interrupt() -> Option<u32> {
    let (pending, intid): (u64, u64);
    // SAFETY: reads whether an interrupt is pending at this CPU, which has no effect. It is cheaper
    // than to ask the controller.
    unsafe { asm!("mrs {}, isr_el1", out(reg) pending, options(nomem, nostack)) };
    if pending & IRQ == 0 {
        return None;
    }
    // SAFETY: reading it makes the interrupt active, which is what is wanted.
    unsafe { asm!("mrs {}, icc_iar1_el1", "dsb sy", out(reg) intid, options(nostack)) };
    if intid >= FIRST_SPECIAL {
        return None;
    }
    // SAFETY: the interrupt was acknowledged just now.
    unsafe { asm!("msr icc_eoir1_el1, {}", "isb", in(reg) intid, options(nostack)) };
    u32::try_from(intid).ok()
}

/// Ends an interrupt that was acknowledged.
pub(crate) fn deactivate_interrupt(intid: u32) {
    // SAFETY: deactivating an interrupt that is not active has no effect.
    unsafe { asm!("msr icc_dir_el1, {:x}", "isb", in(reg) u64::from(intid), options(nostack)) };
}

/// Routes a device's interrupt to this CPU and enables it.
pub(crate) fn enable_shared_interrupt(intid: u32, trigger: Trigger) {
    let distributor = distributor();
    let number = u64::from(intid);
    let (word, bit) = (number / 32 * 4, 1 << (intid % 32));
    let group = distributor + IGROUPR + word;
    write32(group, read32(group) | bit);
    write8(distributor + IPRIORITYR + number, PRIORITY);
    set_trigger(distributor + ICFGR + number / 16 * 4, intid % 16, trigger);
    write64(distributor + GICD_IROUTER + number * 8, MPIDR_EL1.get() & AFFINITY);
    write32(distributor + ISENABLER + word, bit);
}

/// The high one of an interrupt's two bits says "edge".
fn set_trigger(register: u64, index: u32, trigger: Trigger) {
    let bit = 0b10 << (2 * index);
    let others = read32(register) & !bit;
    write32(register, if trigger == Trigger::Edge { others | bit } else { others });
}

/// Disables it.
pub(crate) fn disable_shared_interrupt(intid: u32) {
    let register = distributor() + ICENABLER + u64::from(intid) / 32 * 4;
    write32(register, 1 << (intid % 32));
}

// Plain instructions, one register and no write-back: the monitor decodes no others (Arm ARM,
// ESR_ELx.ISV), and the compiler promises none.

fn read32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: a register of the interrupt controller; reading those used here has no effect.
    unsafe { asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack)) };
    value
}

fn write32(address: u64, value: u32) {
    // SAFETY: a register of the interrupt controller. None concerns memory.
    unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack)) };
}

fn write8(address: u64, value: u8) {
    // SAFETY: as above.
    unsafe { asm!("strb {:w}, [{}]", in(reg) u32::from(value), in(reg) address, options(nostack)) };
}

fn write64(address: u64, value: u64) {
    // SAFETY: as above.
    unsafe { asm!("str {}, [{}]", in(reg) value, in(reg) address, options(nostack)) };
}
