//! The monitor's view of RAM: every frame at its machine address, accessed word by word.
//!
//! At EL2 the monitor maps all RAM one to one, so a frame number is a pointer. The host tests
//! keep that rule: their "machine memory" is an allocation of the test process and its frames
//! are numbered by their host addresses. Memory that a guest may write at the same time is
//! touched here only, by atomic accesses or by copies: never through a reference.

use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use abi::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::bytes;
use crate::types::Mfn;

/// A frame that is RAM, mapped for the monitor. Holding one says nothing of who owns the frame:
/// that is the frame pool's matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RamFrame(Mfn);

/// Picks the atomic at a byte offset of a frame.
macro_rules! atomic {
    ($frame:expr, $offset:expr, $atomic:ty) => {{
        let offset: usize = $offset;
        assert!(
            offset % size_of::<$atomic>() == 0 && offset < PAGE_SIZE,
            "offset leaves its frame"
        );
        // SAFETY: the frame is RAM mapped for the monitor (the invariant of `RamFrame`), the
        // offset is aligned and inside it, and atomics may be shared with any other observer.
        unsafe { <$atomic>::from_ptr($frame.pointer().add(offset).cast()) }
    }};
}

impl RamFrame {
    /// Vouches that a frame is RAM.
    ///
    /// # Safety
    /// The frame must be RAM, mapped readable and writable at its machine address for as long as
    /// the machine runs, and must hold nothing that Rust code owns except through this type or
    /// through an allocation made from it.
    pub const unsafe fn new(mfn: Mfn) -> Self {
        RamFrame(mfn)
    }

    /// Which frame this is.
    pub const fn mfn(self) -> Mfn {
        self.0
    }

    /// Its first byte. Dereferencing it needs a reason of its own.
    pub fn pointer(self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.0.address() as usize)
    }

    /// The aligned byte at `offset`.
    #[inline(always)]
    pub fn u8(self, offset: usize) -> &'static AtomicU8 {
        atomic!(self, offset, AtomicU8)
    }

    /// The aligned half-word at byte `offset`. Panics if it is unaligned or outside the frame, as
    /// its siblings do: offsets come from layouts or were checked by the caller.
    #[inline(always)]
    pub fn u16(self, offset: usize) -> &'static AtomicU16 {
        atomic!(self, offset, AtomicU16)
    }

    /// The aligned word at byte `offset`.
    #[inline(always)]
    pub fn u32(self, offset: usize) -> &'static AtomicU32 {
        atomic!(self, offset, AtomicU32)
    }

    /// The aligned double word at byte `offset`.
    #[inline(always)]
    pub fn u64(self, offset: usize) -> &'static AtomicU64 {
        atomic!(self, offset, AtomicU64)
    }

    /// Fills `count` frames from this one on with zeros. They must be RAM as this one is: those of
    /// one block.
    #[inline]
    pub fn zero(self, count: usize) {
        // SAFETY: the frames are mapped RAM; a guest that still writes there races with stores
        // of which the monitor reads nothing back.
        unsafe { bytes::zero(self.pointer(), count * PAGE_SIZE) }
    }

    /// Reads a value that lies at an offset aligned for it, in accesses of that alignment; `None`
    /// if the offset is not so aligned or the value leaves the frame.
    #[inline(always)]
    pub fn read_aligned<T: FromBytes>(self, offset: usize) -> Option<T> {
        if !holds_aligned::<T>(offset) {
            return None;
        }
        // SAFETY: the range is inside mapped RAM and aligned.
        Some(unsafe { read_once(self.pointer().add(offset).cast()) })
    }

    /// Writes a value at an offset aligned for it; false if it is not, or would leave the frame.
    #[inline(always)]
    pub fn write_aligned<T: IntoBytes + Immutable + Copy>(self, offset: usize, value: &T) -> bool {
        if !holds_aligned::<T>(offset) {
            return false;
        }
        // SAFETY: as for `read_aligned`, the other way round.
        unsafe { self.pointer().add(offset).cast::<T>().write_volatile(*value) };
        true
    }

    /// Copies bytes out. The range must lie inside the frame.
    pub fn read(self, offset: usize, into: &mut [u8]) {
        assert!(in_frame(offset, into.len()), "read leaves its frame");
        // SAFETY: the range is inside mapped RAM, and `into` is the monitor's own memory, which
        // no `RamFrame` aliases. A guest may write meanwhile: any mixture of bytes is acceptable,
        // because it is copied once and checked afterwards.
        unsafe { bytes::copy(self.pointer().add(offset), into.as_mut_ptr(), into.len()) }
    }

    /// Copies bytes in. The range must lie inside the frame.
    pub fn write(self, offset: usize, from: &[u8]) {
        assert!(in_frame(offset, from.len()), "write leaves its frame");
        // SAFETY: as for `read`, the other way round.
        unsafe { bytes::copy(from.as_ptr(), self.pointer().add(offset), from.len()) }
    }

    /// Copies from this frame to another (or to another place in this one). Both ranges must lie
    /// inside their frames.
    #[inline(always)]
    pub fn copy_to(self, offset: usize, to: RamFrame, to_offset: usize, len: usize) {
        assert!(in_frame(offset, len) && in_frame(to_offset, len), "copy leaves its frame");
        if self == to {
            return self.move_within(offset, to_offset, len);
        }
        // SAFETY: both ranges are inside mapped RAM, in different frames.
        unsafe { bytes::copy(self.pointer().add(offset), to.pointer().add(to_offset), len) }
    }

    #[cold]
    fn move_within(self, offset: usize, to_offset: usize, len: usize) {
        // SAFETY: both ranges are inside mapped RAM (`copy_to`); they may overlap.
        unsafe { core::ptr::copy(self.pointer().add(offset), self.pointer().add(to_offset), len) }
    }
}

/// Reads a value of which any bytes are one. A guest may write it meanwhile: any mixture of bytes is
/// acceptable, because each is read once.
///
/// # Safety
/// The pointer must be aligned, and lead to mapped RAM.
#[inline(always)]
pub unsafe fn read_once<T: FromBytes>(from: *const T) -> T {
    if align_of::<T>() != align_of::<u64>() {
        // SAFETY: the caller's.
        return unsafe { from.read_volatile() };
    }
    // By pairs of double words, however small the fields are: their number makes the cost.
    let mut value = MaybeUninit::<T>::uninit();
    let mut from = from.cast::<u64>();
    let mut into = value.as_mut_ptr().cast::<u64>();
    // SAFETY: `from` and `into` go through two values of that many double words.
    unsafe {
        for _ in 0..size_of::<T>() / size_of::<[u64; 2]>() {
            into.cast::<[u64; 2]>().write(read_pair(&mut from));
            into = into.add(2);
        }
        if !size_of::<T>().is_multiple_of(size_of::<[u64; 2]>()) {
            into.write(from.read_volatile());
        }
        value.assume_init()
    }
}

/// Reads two double words, and moves on behind them.
///
/// # Safety
/// The pointer must be aligned, and lead to two double words of mapped RAM.
#[inline(always)]
unsafe fn read_pair(from: &mut *const u64) -> [u64; 2] {
    #[cfg(target_os = "none")]
    {
        let (first, second);
        // SAFETY: the caller's. Not `pure`: it is done once.
        unsafe {
            core::arch::asm!(
                "ldp {first}, {second}, [{from}], #16",
                first = out(reg) first,
                second = out(reg) second,
                from = inout(reg) *from,
                options(nostack, readonly, preserves_flags)
            )
        }
        [first, second]
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: the caller's.
    unsafe {
        let pair = [from.read_volatile(), from.add(1).read_volatile()];
        *from = from.add(2);
        pair
    }
}

/// Whether an offset below the frame's size is aligned for a `T` that ends in the same frame. One
/// that is as large as its alignment cannot do otherwise.
#[inline(always)]
const fn holds_aligned<T>(offset: usize) -> bool {
    offset.is_multiple_of(align_of::<T>())
        && (size_of::<T>() == align_of::<T>() || in_frame(offset, size_of::<T>()))
}

/// Whether `len` bytes from `offset` lie inside one frame.
#[inline(always)]
pub const fn in_frame(offset: usize, len: usize) -> bool {
    offset.saturating_add(len) <= PAGE_SIZE
}

/// Makes earlier writes to translation tables visible to every CPU's table walker (DSB ISHST,
/// Arm ARM D8.2).
#[inline(always)]
pub fn publish_tables() {
    #[cfg(target_os = "none")]
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
}
