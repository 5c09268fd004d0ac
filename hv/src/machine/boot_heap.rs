//! A heap for boot alone: the libraries that write the privileged domain's device tree want one.
//!
//! Memory is handed out once and never taken back, and after [`BootHeap::close`] none is handed
//! out: nothing that a guest does can allocate here.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the heap.
const SIZE: usize = 128 * 1024;

/// The memory, aligned for whatever is put there first.
#[repr(C, align(16))]
struct Memory(UnsafeCell<[u8; SIZE]>);

/// A heap that only grows.
#[expect(missing_debug_implementations, reason = "nothing to show but its bytes")]
pub struct BootHeap {
    memory: Memory,
    used: AtomicUsize,
}

// SAFETY: each byte is handed out once, by an atomic step of `used`.
unsafe impl Sync for BootHeap {}

impl BootHeap {
    /// An empty heap.
    pub const fn new() -> Self {
        BootHeap { memory: Memory(UnsafeCell::new([0; SIZE])), used: AtomicUsize::new(0) }
    }

    /// Ends allocation: boot is over.
    pub fn close(&self) {
        self.used.store(SIZE, Ordering::Relaxed);
    }
}

impl Default for BootHeap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: the memory handed out lies in `memory`, is aligned as asked and handed out once; a null
// pointer says that there is no more.
unsafe impl GlobalAlloc for BootHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.memory.0.get().cast::<u8>();
        let place = |used: usize| {
            let begin = (start.addr() + used).checked_next_multiple_of(layout.align())?;
            let begin = begin - start.addr();
            let end = begin.checked_add(layout.size())?;
            (end <= SIZE).then_some((begin, end))
        };
        let claim = |used| place(used).map(|(_, end)| end);
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim);
        match before.ok().and_then(place) {
            Some((begin, _)) => start.wrapping_add(begin),
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
