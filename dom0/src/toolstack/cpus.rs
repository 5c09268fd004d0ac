//! Sets of physical CPUs as xl writes them: `all`, `0-3`, `0,2`, `0-3,^2`.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use thiserror::Error;

/// A set of physical CPUs, not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus(u64);

/// Why a text is not a set of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a set of CPUs: write all, or numbers as in 0-3,^2 (at most 63)")]
pub struct NotCpus(String);

impl Cpus {
    /// Any CPU.
    pub const ALL: Cpus = Cpus(u64::MAX);

    /// The set with bit n for CPU n.
    pub const fn from_bits(bits: u64) -> Cpus {
        Cpus(bits)
    }

    /// Bit n for CPU n.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether any of the first `count` CPUs is in it.
    pub const fn meets_first(self, count: u32) -> bool {
        self.0.trailing_zeros() < count
    }

    /// Reads a set.
    ///
    /// # Errors
    /// It is none, or an empty one.
    pub fn parse(text: &str) -> Result<Cpus, NotCpus> {
        let mut bits = 0;
        for part in text.split(',').map(str::trim) {
            let parsed = match part.strip_prefix('^') {
                Some(part) => range(part).map(|range| bits & !range),
                None if part == "all" => Some(u64::MAX),
                None => range(part).map(|range| bits | range),
            };
            bits = parsed.ok_or_else(|| NotCpus(text.to_string()))?;
        }
        if bits == 0 { Err(NotCpus(text.to_string())) } else { Ok(Cpus(bits)) }
    }
}

/// The bits of `3` or of `0-3`.
fn range(text: &str) -> Option<u64> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let up_to_last = u64::MAX.checked_shr(63_u32.checked_sub(last)?)?;
    (first <= last).then(|| up_to_last & (u64::MAX << first))
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Cpus::ALL {
            return f.write_str("all");
        }
        let mut ranges = Vec::new();
        let mut rest = self.0;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let length = (rest >> first).trailing_ones();
            let last = first + length - 1;
            ranges.push(if length == 1 { first.to_string() } else { format!("{first}-{last}") });
            // All of them together are `all`, so the shift is below 64.
            rest &= !(u64::MAX >> (63 - last));
        }
        f.write_str(&ranges.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<u64> {
        Cpus::parse(text).ok().map(Cpus::bits)
    }

    #[test]
    fn sets_are_written_as_by_xl() {
        assert_eq!(parse("all"), Some(u64::MAX));
        assert_eq!(parse("3"), Some(0b1000));
        assert_eq!(parse("0-3,^2"), Some(0b1011));
        assert_eq!(parse("all, ^0"), Some(u64::MAX - 1));
        assert_eq!(parse("0-63"), Some(u64::MAX));
        for wrong in ["", "x", "-1", "3-1", "0,,1", "64", "0-64", "^1", "1,^1", "99999999999"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(Cpus(0b1011).to_string(), "0-1,3");
        assert_eq!(Cpus(1 << 63).to_string(), "63");
        assert_eq!(Cpus::ALL.to_string(), "all");
        assert!(Cpus(0b100).meets_first(3) && !Cpus(0b100).meets_first(2));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(bits in 1u64..) {
            prop_assert_eq!(parse(&Cpus(bits).to_string()), Some(bits));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}|[0-9,^-]{0,20}") {
            let _ = Cpus::parse(&text);
        }
    }
}
