//! What each physical CPU has of its own: its stack, and at the stack's top a block that
//! TPIDR_EL2 points at.

use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;

use crate::types::{CpuId, MAX_CPUS, VcpuKey};

/// A CPU's own block. Only that CPU touches it while it runs the monitor, with interrupts masked,
/// so that nothing needs to be atomic.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct PerCpu {
    cpu: Cell<CpuId>,
    running: Cell<VcpuKey>,
    resident: Cell<VcpuKey>,
    only_ram: Cell<bool>,
    /// Whether the floating-point registers are the resident vCPU's.
    pub(super) has_fp: Cell<bool>,
    /// Levels of the locks that this CPU holds, one bit each (see `lock`).
    pub(super) held_locks: Cell<u8>,
    /// The registers at a fault of the monitor itself, written by the vectors.
    pub(super) fault: UnsafeCell<FaultRegisters>,
}

/// General-purpose registers and stack pointer at an exception taken from EL2.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct FaultRegisters {
    /// x0 to x30.
    pub x: [u64; 31],
    /// SP_EL2.
    pub sp: u64,
}

/// Bytes of stack that the monitor has on each CPU.
pub const STACK_SIZE: usize = 0x8000 - size_of::<PerCpu>();
const GUARD_SIZE: usize = abi::PAGE_SIZE;
const EMERGENCY_SIZE: usize = 2 * abi::PAGE_SIZE;

/// The memory of one CPU. The guard page is left unmapped, so that a stack that is too small ends
/// in a readable fault, reported on the emergency stack.
#[repr(C, align(4096))]
pub(super) struct Area {
    emergency: [u8; EMERGENCY_SIZE],
    guard: [u8; GUARD_SIZE],
    stack: [u8; STACK_SIZE],
    pub(super) per_cpu: PerCpu,
}

/// From the top of the emergency stack to the CPU's block, for the vectors.
#[cfg(target_os = "none")]
pub(super) const EMERGENCY_TO_PER_CPU: usize =
    core::mem::offset_of!(Area, per_cpu) - core::mem::offset_of!(Area, guard);

const _: () = {
    assert!(core::mem::offset_of!(Area, per_cpu).is_multiple_of(16), "the stack's top is aligned");
    assert!(
        core::mem::offset_of!(Area, guard).is_multiple_of(abi::PAGE_SIZE),
        "the guard is a page"
    );
    assert!(size_of::<Area>().is_multiple_of(abi::PAGE_SIZE));
};

#[repr(transparent)]
pub(super) struct Areas(UnsafeCell<[MaybeUninit<Area>; MAX_CPUS]>);

// SAFETY: each element is used by its own CPU only, but for `prepare`, which runs before that CPU
// does.
unsafe impl Sync for Areas {}

/// All zero until `prepare`, so that they cost no space in the image. The first is the boot CPU's.
pub(super) static AREAS: Areas =
    Areas(UnsafeCell::new([const { MaybeUninit::zeroed() }; MAX_CPUS]));

impl PerCpu {
    const fn new(cpu: CpuId) -> PerCpu {
        PerCpu {
            cpu: Cell::new(cpu),
            running: Cell::new(VcpuKey::NONE),
            resident: Cell::new(VcpuKey::NONE),
            only_ram: Cell::new(false),
            has_fp: Cell::new(false),
            held_locks: Cell::new(0),
            fault: UnsafeCell::new(FaultRegisters { x: [0; 31], sp: 0 }),
        }
    }
}

/// The area of a CPU.
pub(super) fn area(cpu: CpuId) -> Option<*mut Area> {
    (cpu.0 < MAX_CPUS).then(|| AREAS.0.get().cast::<Area>().wrapping_add(cpu.0))
}

/// Addresses of all guard pages.
pub(super) fn guard_pages() -> impl Iterator<Item = usize> {
    let guard = core::mem::offset_of!(Area, guard);
    (0..MAX_CPUS).filter_map(|n| area(CpuId(n))).map(move |area| area.addr() + guard)
}

/// Makes the block of a CPU that is about to run Rust, and returns its address.
#[cfg(target_os = "none")]
pub(super) fn prepare(cpu: CpuId) -> Option<*mut PerCpu> {
    let area = area(cpu)?;
    // SAFETY: the area is one of `AREAS`; its CPU is not running yet, so nobody else uses it.
    unsafe {
        let block = &raw mut (*area).per_cpu;
        block.write(PerCpu::new(cpu));
        Some(block)
    }
}

/// The block of the CPU that executes this.
#[cfg(target_os = "none")]
#[inline(always)]
pub(super) fn this() -> &'static PerCpu {
    let address = super::registers::read_constant!("tpidr_el2") as usize;
    // SAFETY: boot set TPIDR_EL2 to this CPU's element of `AREAS`, which no other CPU uses, and
    // nothing writes the register again.
    unsafe { &*core::ptr::with_exposed_provenance(address) }
}

/// Runs `f` with a fresh block: each host test is a CPU of its own.
#[cfg(not(target_os = "none"))]
pub(super) fn with_this<R>(f: impl FnOnce(&PerCpu) -> R) -> R {
    f(&PerCpu::new(CpuId(0)))
}

/// Runs `f` with the block of the CPU that executes it.
#[cfg(target_os = "none")]
#[inline(always)]
pub(super) fn with_this<R>(f: impl FnOnce(&PerCpu) -> R) -> R {
    f(this())
}

/// The CPU that executes this. Off the target: the first.
#[inline(always)]
pub fn this_cpu() -> CpuId {
    with_this(|block| block.cpu.get())
}

/// The vCPU that this CPU runs, as `set_running` said last, or [`VcpuKey::NONE`]. Off the target:
/// none.
#[inline(always)]
pub fn running() -> VcpuKey {
    with_this(|block| block.running.get())
}

/// Whether the stage-2 table of the vCPU in this CPU maps nothing but RAM.
#[inline(always)]
pub fn maps_only_ram() -> bool {
    with_this(|block| block.only_ram.get())
}

/// Notes which vCPU this CPU runs: hypercalls come from it, and a panic names it.
#[inline(always)]
pub fn set_running(key: VcpuKey) {
    with_this(|block| block.running.set(key));
}

/// The vCPU whose registers this CPU holds: the one that runs, or that ran before the CPU became
/// idle.
#[inline(always)]
pub fn resident() -> VcpuKey {
    with_this(|block| block.resident.get())
}

/// Notes whose registers this CPU holds, and whether its stage-2 table maps nothing but RAM.
pub fn set_resident(key: VcpuKey, only_ram: bool) {
    with_this(|block| {
        block.resident.set(key);
        block.only_ram.set(only_ram);
    });
}
