//! A machine for the allocator's tests: RAM is an allocation of the test process.

use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{DomId, PAGE_SIZE};

use super::domain::DomainConfig;
use super::frame::FramePool;
use super::ram::RamRange;
use super::{Monitor, Privileged, Progress};
use crate::types::{Ipa, Mfn};

/// RAM that lives as long as the process, as the machine's does. It lies below 2^40, so that a
/// domain can be mapped one to one. What is not touched costs nothing.
#[expect(unsafe_code, reason = "stands in for the boot code, which vouches for the machine's RAM")]
pub(crate) fn ram(frames: usize) -> RamRange {
    static NEXT: AtomicUsize = AtomicUsize::new(0x10_0000_0000);
    let size = frames * PAGE_SIZE;
    let wanted = NEXT.fetch_add(size.next_multiple_of(1 << 21), Ordering::Relaxed);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping touches nothing that exists; the address is only a wish.
    let start = unsafe {
        libc::mmap(core::ptr::without_provenance_mut(wanted), size, protection, flags, -1, 0)
    };
    assert_ne!(start, libc::MAP_FAILED, "no memory for the test's machine");
    let first = Mfn::containing(start.expose_provenance() as u64);
    // SAFETY: the mapping is never undone, and nothing else refers to it.
    unsafe { RamRange::new(first, Mfn(first.0 + frames as u64)) }
}

/// A pool of that many frames, table included.
pub(crate) fn pool(frames: usize) -> FramePool {
    let mut pool = FramePool::empty();
    pool.fill(&mut [ram(frames)]).expect("RAM");
    pool
}

/// A monitor with that many frames.
pub(crate) fn monitor(frames: usize) -> Monitor {
    Monitor { frames: pool(frames), ..Monitor::new() }
}

/// The right to do anything.
pub(crate) const PRIVILEGED: Privileged = Privileged::granted_by_dispatcher();

/// An unprivileged domain with one vCPU.
pub(crate) fn config(max_frames: u64) -> DomainConfig {
    DomainConfig {
        privileged: false,
        direct_mapped: false,
        max_frames,
        max_vcpus: 1,
        max_grant_frames: 64,
        max_event_port: u32::MAX,
        gicd_base: Ipa(abi::guest_map::GICD_BASE),
        gicr_base: Ipa(abi::guest_map::GICR_BASE),
    }
}

/// Adds a domain.
pub(crate) fn create(monitor: &mut Monitor, max_frames: u64) -> DomId {
    monitor.create_domain(PRIVILEGED, &config(max_frames)).expect("a domain")
}

/// Removes a domain.
pub(crate) fn destroy(monitor: &mut Monitor, id: DomId) {
    while monitor.destroy_step(PRIVILEGED, id).expect("it exists") == Progress::More {}
}
