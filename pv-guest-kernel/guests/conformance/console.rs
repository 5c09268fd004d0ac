//! `console_io`, of which a guest may only write.

use pv_guest_kernel::abi::Errno::{EFAULT, ENOSYS, EPERM};
use pv_guest_kernel::abi::console::Command;
use pv_guest_kernel::abi::hypercall::Number;

use crate::call::{Answers, address, call};

/// Asks.
pub fn ask(answers: &mut Answers) {
    let mut text = *b"conformance\n";
    let length = text.len() as u64;
    let pointer = address(&mut text);
    let mut ask = |what, command, length, pointer, expected| {
        let result = call(Number::ConsoleIo, [command, length, pointer, 0, 0]);
        answers.equal(what, result, expected);
    };
    let (write, read) = (Command::Write.raw(), Command::Read.raw());
    ask("write", write, length, pointer, Ok(0));
    ask("write nothing", write, 0, 8, Ok(0));
    ask("a length of 32 bits", write, 1 << 32, 8, Ok(0));
    ask("write from nowhere", write, length, 8, Err(EFAULT));
    ask("read", read, length, pointer, Err(EPERM));
    ask("an unknown command", 4711, length, pointer, Err(ENOSYS));
}
