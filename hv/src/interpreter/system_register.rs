//! System registers that trap: those that identify the CPU, from which what a guest cannot use is
//! hidden; those that send interrupts; and those that are the machine's and not the guest's.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::VcpuId;

use crate::allocator::physical_timer;
use crate::machine::id_registers;

/// A system register by its encoding (Arm ARM C5.1.2), kept as the syndrome has it, so that it is
/// compared in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(u32);

impl Encoding {
    const MASK: u64 = Encoding::new(3, 7, 15, 15, 7).0 as u64;

    /// The encoding with these fields.
    const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Encoding {
        Encoding(op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1)
    }

    const fn op0(self) -> u32 {
        self.0 >> 20 & 0x3
    }

    const fn op1(self) -> u32 {
        self.0 >> 14 & 0x7
    }

    const fn crn(self) -> u32 {
        self.0 >> 10 & 0xF
    }

    const fn crm(self) -> u32 {
        self.0 >> 1 & 0xF
    }

    const fn op2(self) -> u32 {
        self.0 >> 17 & 0x7
    }

    /// Whether this is one of those that identify the CPU: Op0 = 3, Op1 = 0, CRn = 0.
    const fn identifies(self) -> bool {
        const FIELDS: u32 = Encoding::new(3, 7, 15, 0, 0).0;
        self.0 & FIELDS == Encoding::new(3, 0, 0, 0, 0).0
    }
}

/// ICC_SGI1R_EL1
const ICC_SGI1R: Encoding = Encoding::new(3, 0, 12, 11, 5);
/// ICC_ASGI1R_EL1
const ICC_ASGI1R: Encoding = Encoding::new(3, 0, 12, 11, 6);
/// ICC_SGI0R_EL1
const ICC_SGI0R: Encoding = Encoding::new(3, 0, 12, 11, 7);
/// ACTLR_EL1
const ACTLR: Encoding = Encoding::new(3, 0, 1, 0, 1);

/// CNTP_TVAL_EL0
const CNTP_TVAL: Encoding = Encoding::new(3, 3, 14, 2, 0);
/// CNTP_CTL_EL0
const CNTP_CTL: Encoding = Encoding::new(3, 3, 14, 2, 1);
/// CNTP_CVAL_EL0
const CNTP_CVAL: Encoding = Encoding::new(3, 3, 14, 2, 2);

/// A trapped MRS or MSR (ISS of exception class 0x18, Arm ARM D24.2.40).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Which register.
    pub register: Encoding,
    /// The general register that receives or gives the value; 31 is the zero register.
    pub rt: usize,
    /// Whether it is an MRS.
    pub is_read: bool,
}

impl Access {
    /// Decodes the ISS.
    #[inline]
    pub const fn decode(iss: u64) -> Access {
        Access {
            register: Encoding((iss & Encoding::MASK) as u32),
            rt: (iss >> 5 & 0x1F) as usize,
            is_read: iss & 1 != 0,
        }
    }
}

impl Access {
    /// The value that a read of an identification register gives; `None` for any other access.
    #[inline(always)]
    pub fn identification(self) -> Option<u64> {
        (self.is_read && self.register.identifies()).then(|| identification(self.register))
    }

    /// Whether this is a write that sends an SGI. (ICC_ASGI1R is about the other security state,
    /// which does not exist here; it is taken for this one.)
    #[inline(always)]
    pub fn sends_sgi(self) -> bool {
        !self.is_read && matches!(self.register, ICC_SGI1R | ICC_ASGI1R)
    }
}

/// What comes of an access that neither identifies the CPU nor sends an SGI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A read gives this value.
    Value(u64),
    /// A write has no effect.
    Ignored,
    /// It concerns the physical timer.
    PhysicalTimer(physical_timer::Register),
    /// There is no such register here.
    Undefined,
}

/// Decides what such an access does.
pub fn access(access: Access) -> Effect {
    let Access { register, is_read, .. } = access;
    match (register, is_read) {
        (CNTP_CTL, _) => Effect::PhysicalTimer(physical_timer::Register::Control),
        (CNTP_CVAL, _) => Effect::PhysicalTimer(physical_timer::Register::CompareValue),
        (CNTP_TVAL, _) => Effect::PhysicalTimer(physical_timer::Register::TimerValue),
        // Group 0 is not the guest's.
        (ICC_SGI0R | ACTLR, false) => Effect::Ignored,
        (ACTLR, true) => Effect::Value(0),
        (register, true) if belongs_to_debug_or_pmu(register) => Effect::Value(0),
        (register, false) if belongs_to_debug_or_pmu(register) => Effect::Ignored,
        _ => Effect::Undefined,
    }
}

/// An SGI to vCPUs of the caller's domain: a value of ICC_SGI1R_EL1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SgiRequest {
    /// INTID, 0 to 15.
    pub intid: u32,
    /// The vCPUs whose bits are set; `None` for all but the sender.
    targets: Option<u16>,
}

impl SgiRequest {
    /// INTID in bits 27 to 24, IRM in bit 40, target list in bits 15 to 0. Only affinity 0 of
    /// cluster 0 exists, so the other affinity fields must be zero for anything to be reached.
    #[inline(always)]
    pub const fn decode(value: u64) -> SgiRequest {
        const ALL_OTHERS: u64 = 1 << 40;
        const OTHER_AFFINITIES: u64 = 0xFF << 16 | 0xFF << 32 | 0xFF << 48 | 0xF << 44;
        let intid = ((value >> 24) & 0xF) as u32;
        let targets = if value & ALL_OTHERS != 0 {
            None
        } else if value & OTHER_AFFINITIES != 0 {
            Some(0)
        } else {
            Some(value as u16)
        };
        SgiRequest { intid, targets }
    }

    /// The vCPUs to which it goes if this one sends it, a bit each.
    #[inline(always)]
    pub const fn targets_from(self, sender: VcpuId) -> u32 {
        match self.targets {
            Some(list) => list as u32,
            None => !(1 << (sender.0 % u32::BITS)),
        }
    }
}

/// Debug registers (Op0 = 2) and the performance monitors (CRn = 9, CRm = 12 to 14, and CRn = 14,
/// CRm = 8 to 15): neither is offered, and kernels that reset them unasked come to no harm.
const fn belongs_to_debug_or_pmu(register: Encoding) -> bool {
    let monitors = match (register.crn(), register.crm()) {
        (9, 12..=14) => true,
        (14, 8..=15) => register.op1() == 3,
        _ => false,
    };
    register.op0() == 2 || register.op0() == 3 && monitors
}

/// A register, by CRm and Op2, and the bits of it that guests see.
struct Seen((u8, u8), u64);

/// The four-bit fields that begin at these bits.
const fn fields(shifts: &[u32]) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < shifts.len() {
        mask |= 0xF << shifts[index];
        index += 1;
    }
    mask
}

/// What guests see of the registers that tell of features (Arm ARM D24.2): those whose state the
/// monitor moves with a vCPU, or which have none, and which EL1 may use. What is not named here
/// is hidden, features that are yet to come with it. Hidden are above all: EL2 and EL3, RAS, SVE,
/// SME, MPAM, AMU, MTE, pointer authentication, the performance monitors, tracing, NMI, LORegions,
/// TCR2_EL1, SCTLR2_EL1, permission indirection.
const SEEN: [Seen; 17] = [
    // ID_PFR0_EL1 (not AMU, RAS), ID_DFR0_EL1 (not PerfMon, TraceFilt), ID_PFR2_EL1 (CSV3, SSBS).
    Seen((1, 0), !fields(&[20, 28])),
    Seen((1, 2), !fields(&[24, 28])),
    Seen((3, 4), fields(&[0, 4])),
    // ID_AA64PFR0_EL1: EL0, EL1, FP, AdvSIMD, GIC, DIT, CSV2, CSV3.
    Seen((4, 0), fields(&[0, 4, 16, 20, 24, 48, 56, 60])),
    // ID_AA64PFR1_EL1: BT, SSBS, CSV2_frac.
    Seen((4, 1), fields(&[0, 4, 32])),
    Seen((4, 2), 0),
    Seen((4, 4), 0),
    Seen((4, 5), 0),
    Seen((4, 7), 0),
    // ID_AA64DFR0_EL1: DebugVer, BRPs, WRPs, CTX_CMPs.
    Seen((5, 0), fields(&[0, 12, 20, 28])),
    Seen((5, 1), 0),
    // ID_AA64ISAR0_EL1: all but TME.
    Seen((6, 0), !fields(&[0, 24])),
    // ID_AA64ISAR1_EL1: DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, DGH, I8MM, XS.
    Seen((6, 1), fields(&[0, 12, 16, 20, 32, 36, 40, 44, 48, 52, 56])),
    // ID_AA64ISAR2_EL1: WFxT, RPRES, MOPS, BC, CLRBHB, RPRFM, CSSC.
    Seen((6, 2), fields(&[0, 4, 16, 20, 28, 48, 52])),
    // ID_AA64MMFR0_EL1: PARange, ASIDBits, BigEnd, BigEndEL0, the granules of stage 1, ExS, ECV.
    Seen((7, 0), fields(&[0, 4, 8, 16, 20, 24, 28, 44, 60])),
    // ID_AA64MMFR1_EL1: HAFDBS, HPDS, PAN, SpecSEI, ETS, AFP, nTLBPA.
    Seen((7, 1), fields(&[0, 12, 20, 24, 36, 44, 48])),
    // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD.
    Seen((7, 2), fields(&[0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60])),
];

/// The bits that guests see, by CRm (0 to 7) and Op2. Of CRm 1 to 3, which describe AArch32, all
/// that is not said otherwise; of the others nothing.
static VISIBLE: [[u64; 8]; 8] = {
    let all = [u64::MAX; 8];
    let mut visible = [[0; 8], all, all, all, [0; 8], [0; 8], [0; 8], [0; 8]];
    let mut index = 0;
    while index < SEEN.len() {
        let Seen((crm, op2), bits) = SEEN[index];
        visible[crm as usize][op2 as usize] = bits;
        index += 1;
    }
    visible
};

/// What a guest reads where the CPU says `value`: the visible fields, of which two are not larger
/// than what stage 2 and EL2's configuration let a guest use.
fn seen(crm: usize, op2: usize, value: u64) -> u64 {
    /// ID_AA64MMFR0_EL1.PARange: 40 bits of guest-physical address.
    const BITS_40: u64 = 0b0010;
    /// ID_AA64PFR0_EL1.EL1: AArch64 only.
    const AARCH64: u64 = 0b0001 << 4;
    let visible = VISIBLE.get(crm).and_then(|values| values.get(op2)).copied().unwrap_or(0);
    let value = value & visible;
    match (crm, op2) {
        (7, 0) => value & !0xF | (value & 0xF).min(BITS_40),
        (4, 0) => value & !0xF0 | AARCH64,
        _ => value,
    }
}

/// What guests read, by CRm (0 to 7) and Op2, once [`note_cpu`] has been called. All vCPUs see the
/// same CPU wherever they run.
static IDENTIFICATION: [[AtomicU64; 8]; 8] = [const { [const { AtomicU64::new(0) }; 8] }; 8];

/// Takes what guests are to read from the identification registers of the CPU that executes this.
pub fn note_cpu() {
    for (crm, values) in IDENTIFICATION.iter().enumerate() {
        for (op2, value) in values.iter().enumerate() {
            value.store(seen(crm, op2, id_registers::read(crm, op2)), Ordering::Relaxed);
        }
    }
}

/// The value of an identification register for guests. Those that are not allocated read as zero.
#[inline(always)]
fn identification(register: Encoding) -> u64 {
    let values = IDENTIFICATION.get(register.crm() as usize);
    values.map_or(0, |values| values[register.op2() as usize % 8].load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sgi_to_two_vcpus_is_decoded() {
        // MSR ICC_SGI1R_EL1, x3
        let trapped = Access::decode(3 << 20 | 5 << 17 | 12 << 10 | 3 << 5 | 11 << 1);
        assert_eq!(trapped, Access { register: ICC_SGI1R, rt: 3, is_read: false });
        assert!(trapped.sends_sgi());
        let request = SgiRequest::decode(4 << 24 | 0b101);
        assert_eq!((request.intid, request.targets_from(VcpuId(1))), (4, 0b101));
    }

    #[test]
    fn an_sgi_to_another_cluster_reaches_nobody() {
        assert_eq!(SgiRequest::decode(1 << 16 | 1).targets_from(VcpuId(0)), 0);
    }

    #[test]
    fn an_sgi_to_all_others_spares_the_sender() {
        assert_eq!(SgiRequest::decode(1 << 40).targets_from(VcpuId(2)) & 0xFF, 0b1111_1011);
    }

    #[test]
    fn hidden_features_read_as_zero_and_their_neighbours_do_not() {
        // The host's stand-in for the CPU has every bit set.
        note_cpu();
        let value = |crm, op2| identification(Encoding::new(3, 0, 0, crm, op2));
        assert_eq!((value(4, 0) >> 28) & 0xFF, 0, "RAS and SVE");
        assert_eq!((value(4, 0) >> 24) & 0xF, 0xF, "the GIC interface");
        assert_eq!(value(4, 4), 0);
        assert_eq!((value(6, 2) >> 8) & 0xFF, 0, "pointer authentication");
        assert_eq!(value(7, 3), 0);
        assert_eq!(value(8, 0), 0);
        assert_eq!(value(2, 0), u64::MAX, "AArch32");
    }

    #[test]
    fn a_guest_has_40_bits_of_address_at_most_and_no_aarch32_kernel() {
        assert_eq!(seen(7, 0, 0b0110) & 0xF, 0b0010);
        assert_eq!(seen(7, 0, 0b0001) & 0xF, 0b0001);
        assert_eq!(seen(4, 0, 0x2222), 0x12, "EL1 in AArch64 only, EL0 in both, no EL2, no EL3");
    }

    #[test]
    fn an_unknown_register_is_undefined() {
        let access_of = |register| access(Access { register, rt: 0, is_read: true });
        assert_eq!(access_of(Encoding::new(3, 4, 1, 1, 0)), Effect::Undefined);
        assert_eq!(access_of(ACTLR), Effect::Value(0));
        assert_eq!(access_of(Encoding::new(3, 3, 9, 12, 0)), Effect::Value(0));
        assert_eq!(access_of(Encoding::new(2, 0, 1, 0, 4)), Effect::Value(0));
    }
}
