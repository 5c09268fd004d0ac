//! Names of things that never cross the guest's border, as types. Those that do are in `abi`.

use core::fmt;

use abi::{DomId, PAGE_SHIFT, VcpuId};

/// A machine frame number: a physical address in units of 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mfn(pub u64);

impl Mfn {
    /// The frame that holds this machine address.
    pub const fn containing(address: u64) -> Mfn {
        Mfn(address >> PAGE_SHIFT)
    }

    /// The machine address of the frame's first byte.
    pub const fn address(self) -> u64 {
        self.0 << PAGE_SHIFT
    }
}

/// An intermediate physical address: what a guest takes for physical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipa(pub u64);

/// A guest virtual address: an allegation, until `guest.rs` has translated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestVa(pub u64);

/// A physical CPU, numbered from 0 in the order of the device tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub usize);

/// The most physical CPUs that the monitor uses.
pub const MAX_CPUS: usize = 8;
/// The most vCPUs that a domain may have.
pub const MAX_VCPUS: usize = 8;

/// One vCPU in the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuKey {
    /// Whose.
    pub domain: DomId,
    /// Which of them.
    pub vcpu: VcpuId,
}

impl VcpuKey {
    /// No vCPU: no domain has this number, so that whatever is looked up by it is not found.
    pub const NONE: VcpuKey = VcpuKey { domain: DomId::INVALID, vcpu: VcpuId(0) };
}

impl fmt::Display for VcpuKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.domain, self.vcpu.0)
    }
}

/// A point in time: ticks of the system counter (CNTPCT_EL0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(pub u64);

impl Ticks {
    /// A point in time that does not come: the counter takes centuries to get there.
    pub const NEVER: Ticks = Ticks(u64::MAX);

    /// The earlier of two points in time that may not come.
    #[inline(always)]
    pub fn earlier(a: Option<Ticks>, b: Option<Ticks>) -> Option<Ticks> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (Some(only), None) | (None, Some(only)) => Some(only),
            (None, None) => None,
        }
    }
}
