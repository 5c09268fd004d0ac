//! Runs of bytes in RAM: copying and zeroing them, in as few instructions as this CPU has for it.

#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes from which on it pays to ask whether the CPU copies a range by itself.
#[cfg(target_os = "none")]
const MANY: usize = 128;

/// Whether it does (FEAT_MOPS).
#[cfg(target_os = "none")]
static COPIES_RANGES: AtomicBool = AtomicBool::new(false);

/// Looks at what this CPU can; the others are like it.
#[cfg(target_os = "none")]
pub(super) fn note_cpu() {
    COPIES_RANGES.store(super::id_registers::copies_ranges(), Ordering::Relaxed);
}

/// Copies bytes between ranges of RAM, at any alignment.
///
/// # Safety
/// As for [`core::ptr::copy_nonoverlapping`], but that others may write there meanwhile: any mixture
/// of bytes is then acceptable, and `to` is the only copy that counts.
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's.
    #[cfg(target_os = "none")]
    unsafe {
        if len >= MANY && COPIES_RANGES.load(Ordering::Relaxed) {
            copy_range(from, to, len);
        } else {
            copy_pairs(from, to, len);
        }
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: the caller's.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, len)
    }
}

/// # Safety
/// As for [`copy`]; the CPU has FEAT_MOPS.
#[cfg(target_os = "none")]
#[inline(always)]
unsafe fn copy_range(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the three instructions copy forward from the one range to the other.
    unsafe {
        core::arch::asm!(
            ".arch_extension mops",
            "cpyfp [{0}]!, [{1}]!, {2}!; cpyfm [{0}]!, [{1}]!, {2}!; cpyfe [{0}]!, [{1}]!, {2}!",
            inout(reg) to => _,
            inout(reg) from => _,
            inout(reg) len => _,
            options(nostack)
        )
    }
}

/// # Safety
/// As for [`copy`].
#[cfg(target_os = "none")]
#[inline(always)]
unsafe fn copy_pairs(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the routine does what the caller vouches for; it clobbers what is named here.
    unsafe {
        core::arch::asm!(
            "bl copy_bytes",
            inout("x0") to => _,
            inout("x1") from => _,
            inout("x2") len => _,
            out("x3") _,
            out("x4") _,
            out("x30") _,
            options(nostack)
        )
    }
}

/// Fills a range with zeros: a whole number of frames, aligned as frames are.
///
/// # Safety
/// It must be mapped RAM of which Rust code owns nothing.
#[inline]
pub(super) unsafe fn zero(start: *mut u8, bytes: usize) {
    #[cfg(target_os = "none")]
    if let Some(block) = zeroing_block() {
        // SAFETY: the caller's; a frame is a multiple of sixteen blocks.
        unsafe { zero_blocks(start, bytes, block) }
        return;
    }
    // SAFETY: the caller's.
    unsafe { core::ptr::write_bytes(start, 0, bytes) }
}

#[cfg(target_os = "none")]
// The compiler's own copy moves one register at a time, at three times the price. Few registers are
// clobbered, so that who copies keeps his own.
core::arch::global_asm!(
    r#"
    .global zero_blocks
    .macro copy_pairs count
    .rept \count
    ldp x3, x4, [x1], #16
    stp x3, x4, [x0], #16
    .endr
    .endm
    .macro copy_one_if bit, size, register
    tbz x2, #\bit, 0f
    ldr\size \register\()3, [x1], #1 << \bit
    str\size \register\()3, [x0], #1 << \bit
0:
    .endm
copy_bytes:                             // x0: to, x1: from, x2: bytes; clobbers x3 and x4
    cmp x2, #16
    b.lo 3f
    subs x2, x2, #512
    b.lo 2f
1:  copy_pairs 32
    subs x2, x2, #512
    b.hs 1b
2:  .irp bit, 8, 7, 6, 5, 4             // that 512 was subtracted once more leaves these bits
    tbz x2, #\bit, 0f
    copy_pairs 1 << (\bit - 4)
0:
    .endr
3:  copy_one_if 3, , x
    copy_one_if 2, , w
    copy_one_if 1, h, w
    copy_one_if 0, b, w
    ret
zero_blocks:                            // x0: start, x1: bytes, x2: bytes that DC ZVA zeroes
    .rept 16
    dc zva, x0
    add x0, x0, x2
    .endr
    subs x1, x1, x2, lsl #4
    b.hi zero_blocks
    ret
    "#
);

#[cfg(target_os = "none")]
unsafe extern "C" {
    /// Zeroes `bytes`, a multiple of sixteen blocks that is not zero.
    fn zero_blocks(start: *mut u8, bytes: usize, block: usize);
}

/// Bytes that DC ZVA zeroes at once; `None` if it may not be used, or zeroes more than the
/// sixteenth part of a frame (DCZID_EL0, Arm ARM D24.2.35).
#[cfg(target_os = "none")]
#[inline]
fn zeroing_block() -> Option<usize> {
    const PROHIBITED: u64 = 1 << 4;
    const WORDS_LOG2: u64 = 0xF;
    let identification = super::registers::read_register!("dczid_el0");
    let block = 4 << (identification & WORDS_LOG2);
    (identification & PROHIBITED == 0 && 16 * block <= abi::PAGE_SIZE).then_some(block)
}
