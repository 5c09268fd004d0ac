//! The functions for runs of bytes that compiled code calls: copying, filling, comparing.
//!
//! Those of `compiler_builtins` move an aligned word at a time, and compare a byte at a time. These
//! have the CPU copy a range if it can, and else move pairs of words, aligned or not: what a kernel
//! with a network or a disk mostly does is copy.
//! The accesses are assembly because this target's compiler makes no unaligned ones, which normal
//! memory allows, and would make a call of the very function out of a loop that copies.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are moved at once.
const BLOCK: usize = 256;
const LINE: usize = 64;
const PAIR: usize = 2 * WORD;
const WORD: usize = size_of::<u64>();

/// Whether the CPU copies a range by itself (FEAT_MOPS), and the hypervisor lets this domain have it
/// do so. Xen 4.17 does not.
static COPIES_RANGES: AtomicBool = AtomicBool::new(false);

/// Looks at what the CPU can. Until then it is not asked for much.
pub fn start() {
    const MOPS: u64 = 0xF << 16;
    let features: u64;
    // SAFETY: ID_AA64ISAR2_EL1; reading it has no effect, and where it is not allocated it is zero.
    unsafe { asm!("mrs {}, S3_0_C0_C6_2", out(reg) features, options(nomem, nostack)) };
    COPIES_RANGES.store(features & MOPS != 0, Ordering::Relaxed);
}

/// Copies bytes between ranges that do not overlap. Short ones are moved from both ends, which meet or
/// overlap in the middle: most copies are of a header or a structure, and a loop costs more than they
/// do.
///
/// # Safety
/// As for [`core::ptr::copy_nonoverlapping`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(start: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: what is moved at either end is not longer than both ranges.
    unsafe {
        if count > 2 * LINE {
            return copy_many(start, from, count);
        }
        if count > LINE {
            move_64::<0>(start, from);
            move_64::<0>(start.add(count - LINE), from.add(count - LINE));
        } else if count > 2 * PAIR {
            let last = count - 2 * PAIR;
            let (a, b) = (load_pair::<0, 0>(from), load_pair::<0, 16>(from));
            let (c, d) = (load_pair::<0, 0>(from.add(last)), load_pair::<0, 16>(from.add(last)));
            store_pair::<0, 0>(start, a);
            store_pair::<0, 16>(start, b);
            store_pair::<0, 0>(start.add(last), c);
            store_pair::<0, 16>(start.add(last), d);
        } else if count >= PAIR {
            let last = count - PAIR;
            let (a, b) = (load_pair::<0, 0>(from), load_pair::<0, 0>(from.add(last)));
            store_pair::<0, 0>(start, a);
            store_pair::<0, 0>(start.add(last), b);
        } else if count >= WORD {
            let last = count - WORD;
            let (a, b) = (load(from), load(from.add(last)));
            store(start, a);
            store(start.add(last), b);
        } else {
            for index in 0..count {
                // Volatile, or it would become a call.
                start.add(index).write_volatile(from.add(index).read());
            }
        }
    }
    start
}

/// Copies more than two lines.
///
/// # Safety
/// As for [`memcpy`], of which it is the rare and long part: few bytes shall not pay for it.
#[inline(never)]
unsafe fn copy_many(start: *mut u8, mut from: *const u8, mut count: usize) -> *mut u8 {
    if COPIES_RANGES.load(Ordering::Relaxed) {
        // SAFETY: the caller's promise, and the CPU can do so.
        unsafe { copy_range(start, from, count) };
        return start;
    }
    let mut to = start;
    while count >= BLOCK {
        // SAFETY: a block lies within both ranges.
        unsafe {
            move_64::<0>(to, from);
            move_64::<64>(to, from);
            move_64::<128>(to, from);
            move_64::<192>(to, from);
            (to, from) = (to.add(BLOCK), from.add(BLOCK));
        }
        count -= BLOCK;
    }
    while count > LINE {
        // SAFETY: a line lies within both ranges.
        unsafe {
            move_64::<0>(to, from);
            (to, from) = (to.add(LINE), from.add(LINE));
        }
        count -= LINE;
    }
    if count > 0 {
        // SAFETY: the last line lies within both ranges, which are longer. What it has of the line
        // before is the same.
        unsafe { move_64::<0>(to.add(count).sub(LINE), from.add(count).sub(LINE)) }
    }
    start
}

/// Has the CPU copy a range, forward.
///
/// # Safety
/// As for [`memcpy`]; the CPU must be able to.
#[inline(always)]
unsafe fn copy_range(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's promise; the instructions change nothing but what is named.
    unsafe {
        asm!(
            ".arch_extension mops",
            "cpyfp [{0}]!, [{1}]!, {2}!; cpyfm [{0}]!, [{1}]!, {2}!; cpyfe [{0}]!, [{1}]!, {2}!",
            inout(reg) to => _,
            inout(reg) from => _,
            inout(reg) count => _,
            options(nostack)
        );
    }
}

/// Fills bytes.
///
/// # Safety
/// As for [`core::ptr::write_bytes`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(start: *mut u8, byte: i32, count: usize) -> *mut u8 {
    let word = u64::from_ne_bytes([byte as u8; WORD]);
    let (mut to, mut left) = (start, count);
    while left >= LINE {
        // SAFETY: a line lies within the range.
        unsafe {
            store_pair::<0, 0>(to, (word, word));
            store_pair::<0, 16>(to, (word, word));
            store_pair::<0, 32>(to, (word, word));
            store_pair::<0, 48>(to, (word, word));
            to = to.add(LINE);
        }
        left -= LINE;
    }
    while left >= WORD {
        // SAFETY: a word lies within the range.
        unsafe {
            store(to, word);
            to = to.add(WORD);
        }
        left -= WORD;
    }
    while left > 0 {
        // SAFETY: a byte lies within the range. Volatile, or it would become a call.
        unsafe {
            to.write_volatile(byte as u8);
            to = to.add(1);
        }
        left -= 1;
    }
    start
}

/// Moves 64 bytes at an offset.
///
/// # Safety
/// They must be readable and writable.
#[inline(always)]
unsafe fn move_64<const AT: usize>(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = (load_pair::<AT, 0>(from), load_pair::<AT, 16>(from));
        let (c, d) = (load_pair::<AT, 32>(from), load_pair::<AT, 48>(from));
        store_pair::<AT, 0>(to, a);
        store_pair::<AT, 16>(to, b);
        store_pair::<AT, 32>(to, c);
        store_pair::<AT, 48>(to, d);
    }
}

/// Two words at an offset, which is given in two parts.
///
/// # Safety
/// They must be readable there, aligned or not.
#[inline(always)]
unsafe fn load_pair<const AT: usize, const PLUS: usize>(from: *const u8) -> (u64, u64) {
    let (a, b);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldp {}, {}, [{}, {} + {}]", out(reg) a, out(reg) b, in(reg) from, const AT, const PLUS)
    };
    (a, b)
}

/// # Safety
/// As for [`load_pair`], but writable.
#[inline(always)]
unsafe fn store_pair<const AT: usize, const PLUS: usize>(to: *mut u8, (a, b): (u64, u64)) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("stp {}, {}, [{}, {} + {}]", in(reg) a, in(reg) b, in(reg) to, const AT, const PLUS)
    };
}

/// # Safety
/// A word, aligned or not, must be readable there.
#[inline(always)]
unsafe fn load(from: *const u8) -> u64 {
    let word;
    // SAFETY: the caller's promise.
    unsafe { asm!("ldr {}, [{}]", out(reg) word, in(reg) from) };
    word
}

/// # Safety
/// A word, aligned or not, must be writable there.
#[inline(always)]
unsafe fn store(to: *mut u8, word: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("str {}, [{}]", in(reg) word, in(reg) to) };
}

/// The number that bytes are in memory, read at once wherever they lie.
#[inline(always)]
pub(crate) fn word(bytes: &[u8; WORD]) -> u64 {
    // SAFETY: a word.
    unsafe { load(bytes.as_ptr()) }
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
