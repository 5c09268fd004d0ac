//! The sum that checksums of the internet are made of (RFC 1071). It does not depend on the order of
//! the bytes in a word, nor on how many bytes are added at once, so it takes eight. (This target's
//! compiler reads what may be unaligned byte by byte: sums made of such words, as smoltcp's are, take
//! six times as long.)

use crate::machine;

/// The ones' complement sum of bytes, as words whose first byte is the higher one.
pub fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks();
    let sum = words.iter().map(|word| u128::from(machine::word(word))).sum::<u128>();
    // The upper half counts how often the lower one overflowed.
    let (sum, carry) = (sum as u64).overflowing_add((sum >> 64) as u64);
    let sum = (sum & u64::from(u32::MAX)) + (sum >> 32) + u64::from(carry);
    u16::from_be(fold(sum + pairs(rest)))
}

/// The sum of pairs of bytes. One without a partner has a zero.
fn pairs(bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let last = last.first().map_or(0, |&byte| u64::from(u16::from_ne_bytes([byte, 0])));
    pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum::<u64>() + last
}

/// Adds what does not fit in a word to it.
fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
    }
    sum as u16
}

/// The sum of two sums.
pub fn add(one: u16, two: u16) -> u16 {
    fold(u64::from(one) + u64::from(two))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_sum_of_the_words_wherever_they_lie(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff), Just(0)], 0..3000),
            start in 0..16_usize,
        ) {
            let bytes = bytes.get(start..).unwrap_or_default();
            let word = |word: &[u8]| u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]);
            let mut expected: u32 = bytes.chunks(2).map(word).map(u32::from).sum();
            while expected >> 16 != 0 {
                expected = (expected & 0xffff) + (expected >> 16);
            }
            prop_assert_eq!(u32::from(sum(bytes)), expected);
        }
    }
}
