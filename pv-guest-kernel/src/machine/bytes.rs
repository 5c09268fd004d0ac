//! The functions for runs of bytes that compiled code calls: copying, filling, comparing.
//!
//! Those of `compiler_builtins` move an aligned word at a time, and compare a byte at a time. Here it
//! is eight words, aligned or not: what a kernel with a network or a disk mostly does is copy. The
//! accesses are assembly because this target's compiler makes no unaligned ones, which normal memory
//! allows, and would make a call of the very function out of a loop that copies.

use core::arch::asm;

/// Bytes that are moved at once.
const BLOCK: usize = 64;
const WORD: usize = size_of::<u64>();

/// Copies bytes between ranges that do not overlap.
///
/// # Safety
/// As for [`core::ptr::copy_nonoverlapping`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(start: *mut u8, mut from: *const u8, mut count: usize) -> *mut u8 {
    let mut to = start;
    while count >= BLOCK {
        // SAFETY: a block lies within both ranges; unaligned accesses to normal memory work.
        unsafe {
            asm!(
                "ldp {a}, {b}, [{from}], #64",
                "ldp {c}, {d}, [{from}, #-48]",
                "ldp {e}, {f}, [{from}, #-32]",
                "ldp {g}, {h}, [{from}, #-16]",
                "stp {a}, {b}, [{to}], #64",
                "stp {c}, {d}, [{to}, #-48]",
                "stp {e}, {f}, [{to}, #-32]",
                "stp {g}, {h}, [{to}, #-16]",
                from = inout(reg) from, to = inout(reg) to,
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
        count -= BLOCK;
    }
    while count >= WORD {
        // SAFETY: a word lies within both ranges.
        unsafe {
            let word = load(from);
            asm!("str {}, [{}]", in(reg) word, in(reg) to, options(nostack, preserves_flags));
            (to, from) = (to.add(WORD), from.add(WORD));
        }
        count -= WORD;
    }
    while count > 0 {
        // SAFETY: a byte lies within both ranges. Volatile, or it would become a call.
        unsafe {
            to.write_volatile(from.read());
            (to, from) = (to.add(1), from.add(1));
        }
        count -= 1;
    }
    start
}

/// # Safety
/// A word, aligned or not, must be readable there.
#[inline(always)]
unsafe fn load(from: *const u8) -> u64 {
    let word;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldr {}, [{}]", out(reg) word, in(reg) from, options(nostack, readonly, preserves_flags));
    }
    word
}

/// Compares bytes: less than, equal to or greater than zero as the first range is to the second.
///
/// # Safety
/// Both ranges must be readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(mut one: *const u8, mut two: *const u8, mut count: usize) -> i32 {
    while count >= WORD {
        // SAFETY: a word lies within both ranges.
        let words = unsafe { (load(one), load(two)) };
        if words.0 != words.1 {
            // The first byte decides, and is the lowest.
            return if words.0.swap_bytes() < words.1.swap_bytes() { -1 } else { 1 };
        }
        // SAFETY: as above.
        unsafe { (one, two) = (one.add(WORD), two.add(WORD)) };
        count -= WORD;
    }
    while count > 0 {
        // SAFETY: a byte lies within both ranges.
        let bytes = unsafe { (one.read(), two.read()) };
        if bytes.0 != bytes.1 {
            return i32::from(bytes.0) - i32::from(bytes.1);
        }
        // SAFETY: as above.
        unsafe { (one, two) = (one.add(1), two.add(1)) };
        count -= 1;
    }
    0
}

/// Says by zero that bytes are equal.
///
/// # Safety
/// As for [`memcmp`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(one: *const u8, two: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(one, two, count) }
}
