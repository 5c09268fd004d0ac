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

/// A field of an identification register, by CRm and Op2, its lowest bit and its width.
struct Field((u8, u8), u32, u32);

/// Features that guests do not see, because the monitor neither saves their state nor lets EL1 use
/// them.
const HIDDEN: [Field; 16] = [
    Field((4, 0), 28, 4),  // ID_AA64PFR0: RAS
    Field((4, 0), 32, 4),  // SVE
    Field((4, 0), 40, 4),  // MPAM
    Field((4, 0), 44, 4),  // AMU
    Field((4, 1), 8, 4),   // ID_AA64PFR1: MTE
    Field((4, 1), 12, 4),  // RAS_frac
    Field((4, 1), 16, 4),  // MPAM_frac
    Field((4, 1), 24, 4),  // SME
    Field((4, 4), 0, 64),  // ID_AA64ZFR0
    Field((4, 5), 0, 64),  // ID_AA64SMFR0
    Field((5, 0), 4, 8),   // ID_AA64DFR0: TraceVer, PMUVer
    Field((5, 0), 32, 20), // PMSVer, DoubleLock, TraceFilt, TraceBuffer, MTPMU
    Field((6, 1), 4, 8),   // ID_AA64ISAR1: APA, API
    Field((6, 1), 24, 8),  // GPA, GPI
    Field((6, 2), 8, 8),   // ID_AA64ISAR2: GPA3, APA3
    Field((7, 2), 24, 4),  // ID_AA64MMFR2: NV
];

/// Registers by CRm (0 to 7) and Op2: the bits that guests see.
static VISIBLE: [[u64; 8]; 8] = {
    let mut visible = [[u64::MAX; 8]; 8];
    let mut index = 0;
    while index < HIDDEN.len() {
        let Field((crm, op2), shift, width) = HIDDEN[index];
        visible[crm as usize][op2 as usize] &= !((u64::MAX >> (64 - width)) << shift);
        index += 1;
    }
    visible
};

/// What guests read, by CRm (0 to 7) and Op2, once [`note_cpu`] has been called. All vCPUs see the
/// same CPU wherever they run.
static IDENTIFICATION: [[AtomicU64; 8]; 8] = [const { [const { AtomicU64::new(0) }; 8] }; 8];

/// Takes what guests are to read from the identification registers of the CPU that executes this.
pub fn note_cpu() {
    for (crm, (values, visible)) in IDENTIFICATION.iter().zip(&VISIBLE).enumerate() {
        for (op2, (value, visible)) in values.iter().zip(visible).enumerate() {
            value.store(id_registers::read(crm, op2) & visible, Ordering::Relaxed);
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
        assert_eq!(value(7, 0), u64::MAX);
        assert_eq!(value(8, 0), 0);
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
