//! The global allocator, over all RAM that boot found unused.

use core::ops::Range;

use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<spin::Mutex<()>, Manual> = TalcLock::new(Manual);

/// Gives the allocator a range of RAM.
///
/// # Safety
/// Nothing else may use the range, ever.
pub(crate) unsafe fn add(range: &Range<u64>) {
    let start = core::ptr::with_exposed_provenance_mut(range.start as usize);
    // Ranges too small to be of use are refused, which is fine.
    // SAFETY: the caller's promise.
    let _ = unsafe { HEAP.lock().claim(start, (range.end - range.start) as usize) };
}

/// Bytes in use, and in all.
pub(super) fn usage() -> (usize, usize) {
    let heap = HEAP.lock();
    let counters = heap.counters();
    (counters.allocated_bytes, counters.claimed_bytes)
}
