//! Sets of physical CPUs.

use crate::types::{CpuId, MAX_CPUS};

const _: () = assert!(MAX_CPUS <= u8::BITS as usize);

/// A set of CPUs: those to kick, those that are idle. Iterates in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "a CPU that is not kicked may sleep while there is work"]
pub struct CpuSet(u8);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: CpuSet = CpuSet(0);
    /// Every CPU that there can be.
    pub const ALL: CpuSet = CpuSet(!0 >> (u8::BITS as usize - MAX_CPUS));

    const fn bit(cpu: CpuId) -> u8 {
        1 << (cpu.0 % MAX_CPUS)
    }

    /// One CPU.
    pub const fn only(cpu: CpuId) -> CpuSet {
        CpuSet(Self::bit(cpu))
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this CPU is among them.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & Self::bit(cpu) != 0
    }

    /// The lowest.
    pub const fn first(self) -> Option<CpuId> {
        if self.0 == 0 { None } else { Some(CpuId(self.0.trailing_zeros() as usize)) }
    }

    /// The lowest as a set; empty if there are none.
    pub const fn lowest(self) -> CpuSet {
        CpuSet(self.0 & self.0.wrapping_neg())
    }

    /// Those whose bit is set in a bitmap; CPUs that there cannot be are left out.
    pub const fn from_bits(bits: u64) -> CpuSet {
        CpuSet(bits as u8 & Self::ALL.0)
    }

    /// The bitmap.
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Those that are in `others` too.
    pub const fn and(self, others: CpuSet) -> CpuSet {
        CpuSet(self.0 & others.0)
    }

    /// Those that are not in `others`.
    pub const fn without(self, others: CpuSet) -> CpuSet {
        CpuSet(self.0 & !others.0)
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: CpuId) {
        self.0 |= Self::bit(cpu);
    }

    /// Removes a CPU.
    pub fn remove(&mut self, cpu: CpuId) {
        self.0 &= !Self::bit(cpu);
    }

    /// Adds or removes a CPU.
    pub fn set(&mut self, cpu: CpuId, present: bool) {
        if present { self.insert(cpu) } else { self.remove(cpu) }
    }

    /// Adds all of a set.
    pub fn extend(&mut self, others: CpuSet) {
        self.0 |= others.0;
    }
}

impl Iterator for CpuSet {
    type Item = CpuId;

    fn next(&mut self) -> Option<CpuId> {
        let cpu = self.first()?;
        self.remove(cpu);
        Some(cpu)
    }
}
