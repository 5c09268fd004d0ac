//! Making a hypercall, and comparing what comes back.

use core::arch::asm;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::hypercall::{HVC_TAG, Number};
use pv_guest_kernel::println;

/// How the border held so far.
#[derive(Debug, Default)]
pub struct Border {
    held: u32,
    broken: u32,
}

impl Border {
    /// Attempts that were refused.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Attempts that were not refused, or for another reason.
    pub fn broken(&self) -> u32 {
        self.broken
    }

    /// Makes any hypercall, which must be refused for one of these reasons.
    pub fn call(&mut self, what: &str, number: u64, arguments: [u64; 5], reasons: &[Errno]) {
        let result = hypercall(number, arguments);
        let refused = reasons.iter().any(|errno| result == errno.to_return());
        self.note(what, result, refused);
    }

    /// Makes a hypercall of the common form, command and pointer to one structure.
    pub fn command<T>(
        &mut self,
        what: &str,
        number: Number,
        command: u64,
        mut argument: T,
        reasons: &[Errno],
    ) {
        let pointer = address(&mut argument);
        self.call(what, number.raw(), [command, pointer, 1, 0, 0], reasons);
    }

    /// Notes what came of an attempt.
    pub fn note(&mut self, what: &str, result: impl Into<i64>, refused: bool) {
        let result = result.into();
        if refused {
            self.held += 1;
            println!("ok   {what}: {result}");
        } else {
            self.broken += 1;
            println!("FAIL {what}: {result}");
        }
    }
}

/// Where `value` is.
pub fn address<T>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).expose_provenance() as u64
}

/// Makes a hypercall.
pub fn hypercall(number: u64, arguments: [u64; 5]) -> i64 {
    let [mut x0, x1, x2, x3, x4] = arguments;
    // SAFETY: the monitor may write where pointers among the arguments lead. Attempts that name
    // this guest's own memory name what they own; all others must be refused, which is what this
    // guest is here to find out.
    unsafe {
        asm!(
            "hvc {tag}",
            tag = const HVC_TAG,
            inlateout("x0") x0,
            inlateout("x1") x1 => _,
            inlateout("x2") x2 => _,
            inlateout("x3") x3 => _,
            inlateout("x4") x4 => _,
            inlateout("x16") number => _,
            options(nostack),
        );
    }
    x0.cast_signed()
}
