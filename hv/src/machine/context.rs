//! A vCPU's registers: what the vectors save at a trap, and what else has to move when another
//! vCPU takes the CPU.

use abi::domctl::ExitCounts;

use super::list_register::{self, ListRegister, MAX_LIST_REGISTERS};
use super::registers::{read_register, write_register};
use super::{el2, percpu};

/// Everything a vCPU has in registers. The vectors know the offsets of the first four fields. What
/// moves at each change of vCPUs comes next, within reach of the instructions that move pairs.
///
/// While the vCPU runs, SP_EL2 points here. What is current in here depends on where one looks:
/// - in every entry from the vectors: `x[0..=18]`, `x[29]` and `x[30]`;
/// - in `sync_entry` also the other `x`, which may be written;
/// - in `reschedule`: also `sp_el0`, `elr` and `spsr`, which elsewhere are live in the CPU;
/// - the rest only between `switch_out` and `switch_in`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Context {
    /// General-purpose registers.
    pub x: [u64; 31],
    /// The stack pointer of EL0.
    pub sp_el0: u64,
    /// Where the vCPU continues.
    pub elr: u64,
    /// Its processor state there.
    pub spsr: u64,
    /// The system registers of EL1 and EL0.
    pub el1: El1State,
    /// Its virtual timer.
    pub timer: TimerState,
    /// What the monitor told this vCPU it is, and its stage-2 table.
    pub identity: IdentityState,
    /// Its virtual interrupt controller.
    pub gic: GicState,
    /// The floating-point and vector registers.
    pub fp: FpState,
    /// Why it left its own code, by cause. Only the CPU that it is on counts.
    pub exits: ExitCounts,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Context>() <= abi::PAGE_SIZE, "a context has one frame");
    assert!(offset_of!(Context, x) == 0, "the vectors save x0 at SP_EL2");
    // The vectors' load-pair instructions reach no farther.
    assert!(offset_of!(Context, spsr) <= 504 && offset_of!(Context, elr) % 8 == 0);
    assert!(offset_of!(Context, spsr) == offset_of!(Context, elr) + 8, "saved as a pair");
};

/// SIMD and floating-point registers; the monitor itself is compiled not to use any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct FpState {
    /// Floating-point control.
    pub fpcr: u64,
    /// Floating-point status.
    pub fpsr: u64,
    /// q0 to q31.
    pub q: [u128; 32],
}

/// Saves system registers, two at a time: memory is accessed in pairs.
macro_rules! save_registers {
    ($bank:ident, $a:ident = $a_name:literal, $b:ident = $b_name:literal, $($rest:tt)*) => {
        let (a, b) = (read_register!($a_name), read_register!($b_name));
        ($bank.$a, $bank.$b) = (a, b);
        save_registers!($bank, $($rest)*);
    };
    ($bank:ident, $a:ident = $a_name:literal,) => {
        $bank.$a = read_register!($a_name);
    };
    ($bank:ident,) => {};
}

/// Loads them likewise.
macro_rules! load_registers {
    ($bank:ident, $a:ident = $a_name:literal, $b:ident = $b_name:literal, $($rest:tt)*) => {
        let (a, b) = ($bank.$a, $bank.$b);
        write_register!($a_name, a);
        write_register!($b_name, b);
        load_registers!($bank, $($rest)*);
    };
    ($bank:ident, $a:ident = $a_name:literal,) => {
        write_register!($a_name, $bank.$a);
    };
    ($bank:ident,) => {};
}

/// A structure with one field for each system register, and their saving and loading.
macro_rules! register_bank {
    ($(#[$doc:meta])* $bank:ident { $($(#[$field_doc:meta])* $field:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[repr(C)]
        pub struct $bank {
            $($(#[$field_doc])* #[doc = concat!("(", $name, ")")] pub $field: u64,)*
        }

        impl $bank {
            /// Copies the CPU's registers here.
            #[inline]
            fn save(&mut self) {
                save_registers!(self, $($field = $name,)*);
            }

            /// Copies them into the CPU. Takes effect at the next context synchronization.
            #[inline]
            fn load(&self) {
                load_registers!(self, $($field = $name,)*);
            }
        }
    };
}

register_bank! {
    /// What EL1 and EL0 own. Registers that are trapped (ACTLR_EL1, the debug and performance
    /// registers) or whose feature is hidden (pointer authentication, SVE, MTE) are not here.
    El1State {
        /// Stack pointer of EL1.
        sp = "sp_el1",
        /// System control.
        sctlr = "sctlr_el1",
        /// Access to floating point.
        cpacr = "cpacr_el1",
        /// Translation table of the low half.
        ttbr0 = "ttbr0_el1",
        /// Translation table of the high half.
        ttbr1 = "ttbr1_el1",
        /// Translation control.
        tcr = "tcr_el1",
        /// Memory attributes.
        mair = "mair_el1",
        /// Auxiliary memory attributes.
        amair = "amair_el1",
        /// Exception vectors.
        vbar = "vbar_el1",
        /// Context id of debuggers.
        contextidr = "contextidr_el1",
        /// Why the last exception was taken.
        esr = "esr_el1",
        /// The address it was about.
        far = "far_el1",
        /// Auxiliary fault status.
        afsr0 = "afsr0_el1",
        /// Auxiliary fault status.
        afsr1 = "afsr1_el1",
        /// Where the last exception returns to.
        elr = "elr_el1",
        /// And its processor state.
        spsr = "spsr_el1",
        /// Software's own, of EL0.
        tpidr_el0 = "tpidr_el0",
        /// Software's own, read-only at EL0.
        tpidrro_el0 = "tpidrro_el0",
        /// Software's own, of EL1.
        tpidr_el1 = "tpidr_el1",
        /// Result of the last address translation instruction.
        par = "par_el1",
        /// What EL0 may see of the timers.
        cntkctl = "cntkctl_el1",
        /// Which cache is being asked about.
        csselr = "csselr_el1",
    }
}

/// What only the monitor sets: never saved, because no guest changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IdentityState {
    /// What the vCPU reads as MPIDR_EL1.
    pub vmpidr: u64,
    /// Its domain's stage-2 table and VMID.
    pub vttbr: u64,
    /// Where it sees its interrupt distributor.
    pub gicd_base: u64,
}

impl IdentityState {
    #[inline(always)]
    fn load(&self) {
        write_register!("vmpidr_el2", self.vmpidr);
        write_register!("vttbr_el2", self.vttbr);
    }
}

register_bank! {
    /// The virtual timer.
    TimerState {
        /// Enable, mask and status.
        ctl = "cntv_ctl_el0",
        /// When it fires, in virtual ticks.
        cval = "cntv_cval_el0",
    }
}

register_bank! {
    /// The virtual CPU interface but for its list registers.
    InterfaceState {
        /// Enable and maintenance requests.
        hcr = "ich_hcr_el2",
        /// The guest's mask, binary point and group enables.
        vmcr = "ich_vmcr_el2",
        /// Active priorities, group 0.
        ap0r0 = "ich_ap0r0_el2",
        /// Active priorities, group 1.
        ap1r0 = "ich_ap1r0_el2",
    }
}

/// The virtual interrupt controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GicState {
    /// Registers of the virtual CPU interface.
    pub interface: InterfaceState,
    /// Its list registers that are in use, one bit each.
    pub used: u32,
    /// Their values.
    pub list: [ListRegister; MAX_LIST_REGISTERS],
}

impl GicState {
    /// Saves, and leaves all list registers free. No other than those in `listed` are in use.
    #[inline(always)]
    fn save(&mut self, listed: u32) {
        self.interface.save();
        self.used = listed & !u32::from(list_register::empty_mask());
        if self.used != 0 {
            self.save_used();
        }
    }

    #[inline(never)]
    fn save_used(&mut self) {
        for (n, slot) in self.list.iter_mut().enumerate().filter(|(n, _)| self.used & 1 << n != 0) {
            *slot = list_register::read(n);
            list_register::write(n, ListRegister::default());
        }
    }

    /// Loads, and switches the interface on when the list registers are this vCPU's.
    #[inline(always)]
    fn load(&self) {
        if self.used != 0 {
            self.load_used();
        }
        self.interface.load();
    }

    #[inline(never)]
    fn load_used(&self) {
        for (n, slot) in self.list.iter().enumerate().filter(|(n, _)| self.used & 1 << n != 0) {
            list_register::write(n, *slot);
        }
    }
}

/// PSTATE at a vCPU's start: EL1 with its own stack pointer, all exceptions masked.
const SPSR_START: u64 = 0x3C5;
/// SCTLR_EL1 at a vCPU's start: RES1 bits, MMU and caches off.
const SCTLR_START: u64 = 0x00C5_0078;

impl Context {
    /// A vCPU about to start at `pc` with `x0`, as Xen starts one: at EL1, everything masked, MMU
    /// off, the other registers zero.
    pub fn reset(pc: u64, x0: u64, identity: IdentityState) -> Context {
        let mut context = Context { elr: pc, spsr: SPSR_START, identity, ..Context::default() };
        context.x[0] = x0;
        context.el1.sctlr = SCTLR_START;
        context.gic.interface.hcr = list_register::ENABLE;
        context
    }

    /// Takes from the CPU all that the vectors do not save. No other list registers than those in
    /// `listed`, one bit each, are in use. If no other vCPU is switched in, [`silence`] must follow.
    ///
    /// # Safety
    /// The vCPU that `self` belongs to must be the one whose state is in this CPU.
    #[inline(always)]
    pub unsafe fn switch_out(&mut self, listed: u32) {
        self.el1.save();
        self.timer.save();
        self.gic.save(listed);
        if percpu::with_this(|block| block.has_fp.get()) {
            self.save_fp();
        }
    }

    #[inline(never)]
    fn save_fp(&mut self) {
        percpu::with_this(|block| block.has_fp.set(false));
        self.fp.save();
        el2::trap_floating_point(true);
    }

    /// Gives the vCPU its floating-point registers, and those of the CPU with them, which it has
    /// begun to use: most vCPUs use none while they are in a CPU, and cost no copying of them.
    /// False if it has them already.
    ///
    /// # Safety
    /// The vCPU that `self` belongs to must be the one whose state is in this CPU.
    #[must_use]
    pub unsafe fn switch_in_fp(&self) -> bool {
        if percpu::with_this(|block| block.has_fp.replace(true)) {
            return false;
        }
        el2::trap_floating_point(false);
        // It holds for this level, too.
        #[cfg(target_os = "none")]
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
        self.fp.load();
        true
    }

    /// Puts into the CPU all that the vectors do not restore.
    ///
    /// # Safety
    /// No other vCPU's state may be in this CPU any more, `self` must belong to a vCPU that runs
    /// on no other CPU, and its stage-2 table must stay valid until it is switched out.
    #[inline(always)]
    pub unsafe fn switch_in(&self) {
        self.identity.load();
        self.el1.load();
        self.timer.load();
        self.gic.load();
        // What follows may translate addresses of this vCPU before the exception return does this.
        #[cfg(target_os = "none")]
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    }
}

/// Silences the virtual timer and interrupt interface of a CPU in which no vCPU is.
pub fn silence() {
    write_register!("cntv_ctl_el0", 0);
    write_register!("ich_hcr_el2", 0);
}

/// Where the trapped vCPU continues (ELR_EL2): right in every entry but `reschedule`.
#[inline(always)]
pub fn elr() -> u64 {
    read_register!("elr_el2")
}

/// Sets where the trapped vCPU continues.
#[inline(always)]
pub fn set_elr(value: u64) {
    write_register!("elr_el2", value);
}

/// The trapped vCPU's processor state (SPSR_EL2): right in every entry but `reschedule`.
#[inline(always)]
pub fn spsr() -> u64 {
    read_register!("spsr_el2")
}

/// Sets the trapped vCPU's processor state.
#[inline(always)]
pub fn set_spsr(value: u64) {
    write_register!("spsr_el2", value);
}

/// The address that a trapped access was about (FAR_EL2).
pub fn far() -> u64 {
    read_register!("far_el2")
}

/// The IPA of the page that a stage-2 fault was about (HPFAR_EL2).
pub fn fault_page() -> crate::types::Ipa {
    // FIPA, bits 39:4, holds address bits 47:12 (Arm ARM D19.2.59).
    crate::types::Ipa((read_register!("hpfar_el2") & 0xFF_FFFF_FFF0) << 8)
}

#[cfg(target_os = "none")]
// Defined in `vectors.rs`, which knows this file's layouts.
unsafe extern "C" {
    /// Restores everything the vectors save, and continues the guest.
    fn enter_guest(context: *mut Context) -> !;
    /// Stores q0 to q31, FPCR and FPSR.
    fn fp_save(state: *mut FpState);
    /// Loads q0 to q31, FPCR and FPSR.
    fn fp_load(state: *const FpState);
}

/// Leaves the monitor for a vCPU.
///
/// # Safety
/// The context must be switched in and live until the vCPU is switched out; no lock may be held.
#[inline(always)]
pub unsafe fn enter(context: *mut Context) -> ! {
    #[cfg(target_os = "none")]
    // SAFETY: the caller's promise is what the vectors' exit path needs.
    unsafe {
        enter_guest(context)
    }
    #[cfg(not(target_os = "none"))]
    {
        // Off the target there is no guest to enter.
        let _ = context;
        super::power::system_off()
    }
}

#[cfg(not(target_os = "none"))]
impl FpState {
    fn save(&mut self) {}
    fn load(&self) {}
}

#[cfg(target_os = "none")]
impl FpState {
    fn save(&mut self) {
        // SAFETY: `fp_save` writes a whole `FpState` at its argument and nothing else.
        unsafe { fp_save(self) }
    }

    fn load(&self) {
        // SAFETY: `fp_load` reads a whole `FpState`; the monitor uses no FP registers.
        unsafe { fp_load(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_starts_as_xen_starts_one() {
        let context = Context::reset(0x4000_0000, 0x4800_0000, IdentityState::default());
        assert_eq!((context.elr, context.spsr), (0x4000_0000, 0x3C5));
        assert_eq!((context.x[0], context.x[1..].iter().sum::<u64>()), (0x4800_0000, 0));
        assert_eq!(context.el1.sctlr, 0x00C5_0078);
        assert_eq!(context.gic.interface.hcr & 1, 1, "the virtual interface is on");
        assert!(context.gic.list.iter().all(|slot| slot.is_empty()));
    }
}
