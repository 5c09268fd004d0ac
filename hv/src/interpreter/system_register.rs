//! System registers that trap: those that identify the CPU, from which what a guest cannot use is
//! hidden; those that send interrupts; and those that are the machine's and not the guest's.

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

/// What comes of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A read gives this value.
    Value(u64),
    /// A write has no effect.
    Ignored,
    /// A write sends an SGI.
    SendSgi(SgiRequest),
    /// There is no such register here.
    Undefined,
}

/// An SGI to vCPUs of the caller's domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SgiRequest {
    /// INTID, 0 to 15.
    pub intid: u32,
    /// To whom.
    pub targets: SgiTargets,
}

/// To whom an SGI goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SgiTargets {
    /// The vCPUs whose bits are set.
    List(u16),
    /// All but the sender.
    AllOthers,
}

/// Decides what an access does; `value` is what an MSR writes.
#[inline]
pub fn access(access: Access, value: u64) -> Effect {
    let Access { register, is_read, .. } = access;
    if is_read && register.identifies() {
        return Effect::Value(identification(register));
    }
    match (register, is_read) {
        (ICC_SGI1R | ICC_ASGI1R, false) => Effect::SendSgi(decode_sgi(value)),
        // Group 0 is not the guest's.
        (ICC_SGI0R | ACTLR, false) => Effect::Ignored,
        (ACTLR, true) => Effect::Value(0),
        (register, true) if belongs_to_debug_or_pmu(register) => Effect::Value(0),
        (register, false) if belongs_to_debug_or_pmu(register) => Effect::Ignored,
        _ => Effect::Undefined,
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

/// ICC_SGI1R_EL1: INTID in bits 27 to 24, IRM in bit 40, target list in bits 15 to 0. Only affinity
/// 0 of cluster 0 exists, so the other affinity fields must be zero for anything to be reached.
fn decode_sgi(value: u64) -> SgiRequest {
    const OTHER_AFFINITIES: u64 = 0xFF << 16 | 0xFF << 32 | 0xFF << 48 | 0xF << 44;
    let intid = ((value >> 24) & 0xF) as u32;
    let targets = if value & (1 << 40) != 0 {
        SgiTargets::AllOthers
    } else if value & OTHER_AFFINITIES != 0 {
        SgiTargets::List(0)
    } else {
        SgiTargets::List(value as u16)
    };
    SgiRequest { intid, targets }
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

/// The value of an identification register for guests. Those that are not allocated read as zero.
#[inline]
fn identification(register: Encoding) -> u64 {
    let (crm, op2) = (register.crm() as usize, register.op2() as usize);
    match VISIBLE.get(crm) {
        Some(visible) => id_registers::read(crm, op2) & visible[op2 % 8],
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sgi_to_two_vcpus_is_decoded() {
        // MSR ICC_SGI1R_EL1, x3
        let trapped = Access::decode(3 << 20 | 5 << 17 | 12 << 10 | 3 << 5 | 11 << 1);
        assert_eq!(trapped, Access { register: ICC_SGI1R, rt: 3, is_read: false });
        let wanted = SgiRequest { intid: 4, targets: SgiTargets::List(0b101) };
        assert_eq!(access(trapped, 4 << 24 | 0b101), Effect::SendSgi(wanted));
    }

    #[test]
    fn an_sgi_to_another_cluster_reaches_nobody() {
        let SgiRequest { targets, .. } = decode_sgi(1 << 16 | 1);
        assert_eq!(targets, SgiTargets::List(0));
    }

    #[test]
    fn hidden_features_read_as_zero_and_their_neighbours_do_not() {
        // The host's stand-in for the CPU has every bit set.
        let value = |crm, op2| identification(Encoding::new(3, 0, 0, crm, op2));
        assert_eq!((value(4, 0) >> 28) & 0xFF, 0, "RAS and SVE");
        assert_eq!((value(4, 0) >> 24) & 0xF, 0xF, "the GIC interface");
        assert_eq!(value(4, 4), 0);
        assert_eq!(value(7, 0), u64::MAX);
        assert_eq!(value(8, 0), 0);
    }

    #[test]
    fn an_unknown_register_is_undefined() {
        let access_of = |register| access(Access { register, rt: 0, is_read: true }, 0);
        assert_eq!(access_of(Encoding::new(3, 4, 1, 1, 0)), Effect::Undefined);
        assert_eq!(access_of(ACTLR), Effect::Value(0));
        assert_eq!(access_of(Encoding::new(3, 3, 9, 12, 0)), Effect::Value(0));
        assert_eq!(access_of(Encoding::new(2, 0, 1, 0, 4)), Effect::Value(0));
    }
}
