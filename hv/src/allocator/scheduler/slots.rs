//! One place in a fixed table for each vCPU that can exist at a time.

use core::ops::{Index, IndexMut};

use crate::allocator::{MAX_DOMAINS, slot};
use crate::types::{MAX_VCPUS, VcpuKey};

/// vCPUs in the machine at a time.
pub(super) const SLOTS: usize = MAX_DOMAINS * MAX_VCPUS;
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= u16::MAX as usize);

/// A vCPU's place in a [`PerVcpu`]. Domains share places as they do in the domain table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u16);

impl Slot {
    /// The place of a vCPU, or `None` if no vCPU can have that number.
    pub(super) fn of(key: VcpuKey) -> Option<Slot> {
        let vcpu = usize::try_from(key.vcpu.0).ok().filter(|&vcpu| vcpu < MAX_VCPUS)?;
        let index = slot(key.domain) * MAX_VCPUS + vcpu;
        u16::try_from(index).ok().map(Slot)
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

    fn index(&self, slot: Slot) -> &T {
        // The remainder changes nothing; it lets the compiler see that the index is in range.
        &self.0[usize::from(slot.0) % SLOTS]
    }
}

impl<T> IndexMut<Slot> for PerVcpu<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.0[usize::from(slot.0) % SLOTS]
    }
}
