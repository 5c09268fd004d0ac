//! Making a hypercall, and comparing what comes back.

use core::fmt::Debug;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::{hypercall, println};

/// How the answers were.
#[derive(Debug, Default)]
pub struct Answers {
    right: u32,
    wrong: u32,
}

impl Answers {
    /// Those that were as expected.
    pub fn right(&self) -> u32 {
        self.right
    }

    /// Those that were not.
    pub fn wrong(&self) -> u32 {
        self.wrong
    }

    /// Notes whether something is as it should be.
    pub fn check(&mut self, what: &str, good: bool) {
        self.note(what, good, &good);
    }

    /// Compares.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        self.note(what, found == expected, &found);
    }

    fn note(&mut self, what: &str, good: bool, found: &dyn Debug) {
        let (word, counter) =
            if good { ("ok  ", &mut self.right) } else { ("FAIL", &mut self.wrong) };
        *counter += 1;
        println!("{word} {what}: {found:?}");
    }
}

/// Makes a hypercall with plain numbers, or with pointers to what nobody else uses meanwhile.
pub fn call(number: Number, arguments: [u64; 5]) -> Result<u64, Errno> {
    // SAFETY: pointers among the arguments are to structures of the right size that the caller
    // owns, or lead nowhere, which the monitor has to find out.
    unsafe { hypercall::raw(number, arguments) }
}

/// Where `value` is.
pub fn address<T>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).expose_provenance() as u64
}
