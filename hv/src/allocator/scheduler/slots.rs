//! Tables with a fixed place for each vCPU and each domain that can exist at a time, and for each
//! CPU. The remainders in here change nothing: they let the compiler see that an index is in range.

use core::num::NonZeroU16;
use core::ops::{Index, IndexMut};

use crate::allocator::{MAX_DOMAINS, slot};
use crate::types::{CpuId, MAX_CPUS, MAX_VCPUS, VcpuKey};

/// vCPUs in the machine at a time.
pub(super) const SLOTS: usize = MAX_DOMAINS * MAX_VCPUS;
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= Slot::SOME.get() as usize);

/// A vCPU's place in a [`PerVcpu`]. Domains share places as they do in the domain table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(NonZeroU16);

impl Slot {
    /// Set in each, so that an `Option` of one is no larger.
    const SOME: NonZeroU16 = match NonZeroU16::new(1 << 15) {
        Some(bit) => bit,
        None => NonZeroU16::MAX,
    };
    /// Place 0, to fill tables with.
    pub(super) const FIRST: Slot = Slot(Self::SOME);

    /// The place of a vCPU, or `None` if no vCPU can have that number.
    #[inline]
    pub(super) fn of(key: VcpuKey) -> Option<Slot> {
        let vcpu = usize::try_from(key.vcpu.0).ok().filter(|&vcpu| vcpu < MAX_VCPUS)?;
        let index = slot(key.domain) * MAX_VCPUS + vcpu;
        Some(Slot(Self::SOME | u16::try_from(index).ok()?))
    }

    #[inline(always)]
    fn index(self) -> usize {
        usize::from(self.0.get()) % SLOTS
    }
}

/// A table with one entry for each vCPU.
#[derive(Debug)]
pub(super) struct PerVcpu<T>([T; SLOTS]);

impl<T: Copy> PerVcpu<T> {
    pub(super) const fn filled(value: T) -> Self {
        PerVcpu([value; SLOTS])
    }
}

impl<T> Index<Slot> for PerVcpu<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        &self.0[slot.index()]
    }
}

impl<T> IndexMut<Slot> for PerVcpu<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.0[slot.index()]
    }
}

/// A table with one entry for each domain, found by the place of any of its vCPUs.
#[derive(Debug)]
pub(super) struct PerDomain<T>([T; MAX_DOMAINS]);

impl<T: Copy> PerDomain<T> {
    pub(super) const fn filled(value: T) -> Self {
        PerDomain([value; MAX_DOMAINS])
    }
}

impl<T> Index<Slot> for PerDomain<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        &self.0[slot.index() / MAX_VCPUS]
    }
}

impl<T> IndexMut<Slot> for PerDomain<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.0[slot.index() / MAX_VCPUS]
    }
}

/// A table with one entry for each CPU.
#[derive(Debug)]
pub(super) struct PerCpu<T>(pub(super) [T; MAX_CPUS]);

impl<T> Index<CpuId> for PerCpu<T> {
    type Output = T;

    #[inline]
    fn index(&self, cpu: CpuId) -> &T {
        &self.0[cpu.0 % MAX_CPUS]
    }
}

impl<T> IndexMut<CpuId> for PerCpu<T> {
    #[inline]
    fn index_mut(&mut self, cpu: CpuId) -> &mut T {
        &mut self.0[cpu.0 % MAX_CPUS]
    }
}
