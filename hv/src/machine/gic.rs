//! The physical interrupt controller, a GICv3 in one security state: set-up and routing by the
//! `arm-gic` crate, acknowledging and ending by hand, because the monitor ends interrupts in two
//! steps (EOImode 1): the priority drop at once, the deactivation when the guest is done.

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arm_gic::gicv3::GicV3;
use arm_gic::{IntId, Trigger as GicTrigger, UniqueMmioPointer};
use tock_registers::interfaces::{Readable, Writeable};

use super::lock::{Level, Lock};
use super::registers::{
    ICC_DIR_EL1, ICC_EOIR1_EL1, ICC_IAR1_EL1, ICC_IGRPEN1_EL1, ICC_PMR_EL1, ICC_SGI1R_EL1,
    read_register, write_register,
};
use crate::types::{CpuId, MAX_CPUS};

/// An interrupt number: 0-15 software-generated, 16-31 private to a CPU, 32-1019 shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intid(pub u32);

impl Intid {
    /// First of the shared ones.
    pub const SPI_START: Intid = Intid(32);
    /// First that is none.
    pub const END: Intid = Intid(1020);

    /// Whether it is shared between CPUs.
    pub const fn is_spi(self) -> bool {
        self.0 >= Self::SPI_START.0 && self.0 < Self::END.0
    }

    /// Whether it is private to each CPU (and not software-generated).
    pub const fn is_ppi(self) -> bool {
        self.0 >= 16 && self.0 < Self::SPI_START.0
    }

    fn to_gic(self) -> Option<IntId> {
        match self.0 {
            0..16 => Some(IntId::sgi(self.0)),
            16..32 => Some(IntId::ppi(self.0 - 16)),
            32..1020 => Some(IntId::spi(self.0 - 32)),
            _ => None,
        }
    }
}

/// How a device signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// As long as the line is high.
    Level,
    /// When the line rises.
    Edge,
}

/// Why the controller cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GicError {
    /// A redistributor or distributor did not answer as one of a GICv3.
    NotGicV3,
    /// This CPU has no redistributor in the region that the device tree gives.
    NoRedistributor(CpuId),
    /// No such interrupt.
    NoInterrupt(Intid),
}

impl core::fmt::Display for GicError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            GicError::NotGicV3 => write!(f, "the interrupt controller is not a usable GICv3"),
            GicError::NoRedistributor(cpu) => write!(f, "CPU {} has no redistributor", cpu.0),
            GicError::NoInterrupt(intid) => write!(f, "there is no interrupt {}", intid.0),
        }
    }
}

/// The software-generated interrupt that stops a CPU for good, after a panic of another.
const SGI_STOP: u32 = 15;

/// Lets every priority through.
const PRIORITY_MASK_ALL: u64 = 0xFF;
/// ICC_CTLR_EL1.EOImode: ending drops the priority only.
const EOI_MODE_SPLIT: u64 = 1 << 1;

static GIC: Lock<Option<GicV3<'static>>> = Lock::new(Level::Interrupts, None);

/// Affinities of the CPUs, in their order, for routing and software-generated interrupts.
static AFFINITIES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Whether a CPU takes interrupts already: before, a signal would be an undefined instruction.
static STARTED: AtomicBool = AtomicBool::new(false);

fn affinity(cpu: CpuId) -> u64 {
    AFFINITIES.get(cpu.0).map_or(0, |affinity| affinity.load(Ordering::Relaxed))
}

/// Takes over the distributor: all shared interrupts off, group 1, level-triggered.
///
/// # Safety
/// The regions must be those of a GICv3, mapped as device memory, and used by nothing else; to be
/// called once.
pub unsafe fn init(gicd: Range<u64>, gicr: Range<u64>, cpus: &[u64]) -> Result<(), GicError> {
    for (slot, mpidr) in AFFINITIES.iter().zip(cpus) {
        slot.store(*mpidr, Ordering::Relaxed);
    }
    let (Some(gicd), Some(gicr)) = (mmio(gicd.start), mmio(gicr.start)) else {
        return Err(GicError::NotGicV3);
    };
    // SAFETY: the caller vouches for the regions.
    let mut gic = unsafe { GicV3::new(UniqueMmioPointer::new(gicd), gicr, cpus.len()) }
        .map_err(|_| GicError::NotGicV3)?;
    gic.distributor().enable_all_interrupts(false);
    gic.distributor().configure_default_settings();
    *GIC.lock() = Some(gic);
    Ok(())
}

/// Makes this CPU take interrupts: its redistributor awake, private interrupts off, its interface
/// on with split end of interrupt, and software-generated interrupts enabled.
pub fn init_cpu(cpu: CpuId) -> Result<(), GicError> {
    with_redistributor(cpu, |redistributor| {
        // It may be awake already, of which the crate makes an error.
        let _ = redistributor.mark_core_awake();
        redistributor.configure_default_settings();
    })?;
    ICC_PMR_EL1.set(PRIORITY_MASK_ALL);
    write_register!("icc_ctlr_el1", EOI_MODE_SPLIT);
    ICC_IGRPEN1_EL1.set(1);
    synchronize();
    STARTED.store(true, Ordering::Relaxed);
    (0..=SGI_STOP).try_for_each(|n| enable_private(cpu, Intid(n)))
}

/// Takes the most urgent pending interrupt of this CPU, if any. It must be given to `end`.
#[inline]
pub fn acknowledge() -> Option<Intid> {
    let intid = ICC_IAR1_EL1.get() as u32;
    // The acknowledgement is to reach the controller before the device is touched.
    #[cfg(target_os = "none")]
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
    match intid {
        SGI_STOP => stopped(),
        intid if intid < Intid::END.0 => Some(Intid(intid)),
        _ => None,
    }
}

#[cold]
fn stopped() -> Option<Intid> {
    #[cfg(target_os = "none")]
    super::power::halt();
    #[cfg(not(target_os = "none"))]
    None
}

/// Ends the handling of an interrupt: others of its priority may come. It itself cannot, before
/// it is deactivated.
#[inline]
pub fn end(intid: Intid) {
    ICC_EOIR1_EL1.set(u64::from(intid.0));
    synchronize();
}

/// Ends the handling of an interrupt for good: it may come again.
#[inline]
pub fn end_and_deactivate(intid: Intid) {
    ICC_EOIR1_EL1.set(u64::from(intid.0));
    ICC_DIR_EL1.set(u64::from(intid.0));
    synchronize();
}

/// Routes a shared interrupt to a CPU and switches it on.
pub fn enable_spi(intid: Intid, cpu: CpuId) -> Result<(), GicError> {
    with_spi(intid, |distributor, id| {
        distributor.set_routing(id, Some(affinity(cpu)))?;
        distributor.enable_interrupt(id, true)
    })
}

/// Switches a shared interrupt off.
pub fn disable_spi(intid: Intid) -> Result<(), GicError> {
    with_spi(intid, |distributor, id| distributor.enable_interrupt(id, false))
}

/// Says how a shared interrupt is signalled. It should be off.
pub fn set_trigger(intid: Intid, trigger: Trigger) -> Result<(), GicError> {
    let trigger = match trigger {
        Trigger::Level => GicTrigger::Level,
        Trigger::Edge => GicTrigger::Edge,
    };
    with_spi(intid, |distributor, id| distributor.set_trigger(id, trigger))
}

/// Switches on a private interrupt of the CPU that executes this.
pub fn enable_ppi(intid: Intid) -> Result<(), GicError> {
    enable_private(super::percpu::this_cpu(), intid)
}

/// Sends software-generated interrupt `n` (0-14; others are ignored) to a CPU.
#[inline]
pub fn send_sgi(cpu: CpuId, n: u8) {
    if u32::from(n) < SGI_STOP {
        send(affinity(cpu), u32::from(n));
    }
}

/// Stops all other CPUs for good: each as soon as it acknowledges an interrupt.
pub fn stop_others() {
    const ALL_BUT_SELF: u64 = 1 << 40;
    if !STARTED.load(Ordering::Relaxed) {
        return;
    }
    ICC_SGI1R_EL1.set(ALL_BUT_SELF | sgi_value(0, SGI_STOP));
    synchronize();
}

fn send(mpidr: u64, n: u32) {
    // What the other CPU is to see is to be visible before the interrupt.
    #[cfg(target_os = "none")]
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
    ICC_SGI1R_EL1.set(sgi_value(mpidr, n));
    synchronize();
}

/// ICC_SGI1R_EL1 for one CPU: Aff3 55:48, RS 47:44, Aff2 39:32, INTID 27:24, Aff1 23:16, and a bit
/// in 15:0 for Aff0 within its group of 16.
const fn sgi_value(mpidr: u64, n: u32) -> u64 {
    let (aff0, aff1) = (mpidr & 0xFF, (mpidr >> 8) & 0xFF);
    let (aff2, aff3) = ((mpidr >> 16) & 0xFF, (mpidr >> 32) & 0xFF);
    (aff3 << 48)
        | ((aff0 >> 4) << 44)
        | (aff2 << 32)
        | ((n as u64) << 24)
        | (aff1 << 16)
        | (1 << (aff0 & 0xF))
}

/// Whether an interrupt waits for this CPU. Off the target: no.
#[inline]
pub fn interrupt_pending() -> bool {
    const IRQ: u64 = 1 << 7;
    read_register!("isr_el1") & IRQ != 0
}

fn synchronize() {
    #[cfg(target_os = "none")]
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}

fn mmio<T>(address: u64) -> Option<NonNull<T>> {
    NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize))
}

fn enable_private(cpu: CpuId, intid: Intid) -> Result<(), GicError> {
    let id = intid.to_gic().filter(|id| id.is_private()).ok_or(GicError::NoInterrupt(intid))?;
    with_redistributor(cpu, |redistributor| redistributor.enable_interrupt(id, true))?
        .map_err(|_| GicError::NoInterrupt(intid))
}

/// Runs `f` with a CPU's redistributor: they lie in the order that the firmware likes.
fn with_redistributor<R>(
    cpu: CpuId,
    f: impl FnOnce(&mut arm_gic::gicv3::GicRedistributor<'_>) -> R,
) -> Result<R, GicError> {
    const AFFINITY: u64 = 0xFF_00FF_FFFF;
    let mut gic = GIC.lock();
    let gic = gic.as_mut().ok_or(GicError::NotGicV3)?;
    for index in 0..MAX_CPUS {
        let Ok(mut redistributor) = gic.redistributor(index) else { break };
        if redistributor.typer().core_mpidr() & AFFINITY == affinity(cpu) & AFFINITY {
            return Ok(f(&mut redistributor));
        }
    }
    Err(GicError::NoRedistributor(cpu))
}

/// Runs `f` with the distributor, for a shared interrupt.
fn with_spi(
    intid: Intid,
    f: impl FnOnce(
        &mut arm_gic::gicv3::GicDistributor<'static>,
        IntId,
    ) -> Result<(), arm_gic::gicv3::GicError>,
) -> Result<(), GicError> {
    let id = intid.to_gic().filter(|_| intid.is_spi()).ok_or(GicError::NoInterrupt(intid))?;
    match GIC.lock().as_mut() {
        Some(gic) => f(gic.distributor(), id).map_err(|_| GicError::NoInterrupt(intid)),
        None => Ok(()), // off the target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_software_interrupt_names_one_cpu() {
        assert_eq!(sgi_value(0x8000_0000, 1), 0x0100_0001);
        assert_eq!(sgi_value(0x0000_0003, 0), 0x0000_0008);
        assert_eq!(sgi_value(0x04_0003_0212, 7), 0x0004_1003_0702_0004);
    }

    #[test]
    fn only_shared_interrupts_are_routed() {
        assert_eq!(enable_spi(Intid(31), CpuId(0)), Err(GicError::NoInterrupt(Intid(31))));
        assert_eq!(disable_spi(Intid(1020)), Err(GicError::NoInterrupt(Intid(1020))));
        assert_eq!(Intid(27).to_gic(), Some(IntId::ppi(11)));
        assert_eq!(Intid(79).to_gic(), Some(IntId::spi(47)));
    }
}
