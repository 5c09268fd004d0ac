//! What went as it should, and what did not.

use core::fmt::{Debug, Display};

use pv_guest_kernel::println;

/// Counts.
#[derive(Debug, Default)]
pub struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// How much went well.
    pub fn passed(&self) -> u32 {
        self.passed
    }

    /// How much did not.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Tells of one thing.
    pub fn check(&mut self, what: &str, good: bool, detail: impl Display) {
        let (word, counter) =
            if good { ("ok  ", &mut self.passed) } else { ("FAIL", &mut self.failed) };
        *counter += 1;
        println!("{word} {what}: {detail}");
    }

    /// Tells of one thing that has one right outcome.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        self.check(what, found == expected, format_args!("{found:?}, expected {expected:?}"));
    }

    /// Takes the good outcome out of a result, and tells of the other.
    pub fn expect<T, E: Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.passed += 1;
                Some(value)
            }
            Err(error) => {
                self.check(what, false, error);
                None
            }
        }
    }
}
