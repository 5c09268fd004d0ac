//! A guest that asks the small hypercalls all that they know, and compares the answers with what
//! Xen on Arm answers: "ok   ..." for those that are the same, "FAIL ..." for others.
//!
//! Its command line chooses how it ends: `end=watchdog` by its watchdog, `end=code` with the reason
//! that it noted before.

#![no_std]
#![no_main]

extern crate alloc;

mod call;
mod console;
mod runstate;
mod sleep;
mod vcpu;
mod version;
mod watchdog;

use pv_guest_kernel::{Environment, guest_main, println};

use call::Answers;

guest_main!(main);

async fn main(environment: &'static Environment) {
    let mut answers = Answers::default();
    version::ask(&mut answers);
    vcpu::ask(&mut answers);
    runstate::ask(&mut answers);
    sleep::ask(&mut answers);
    console::ask(&mut answers);
    watchdog::ask(&mut answers);
    println!("{} as expected, {} not", answers.right(), answers.wrong());
    match environment.argument("end") {
        Some("watchdog") => watchdog::starve(),
        Some("code") => watchdog::note_reason(&mut answers),
        _ => {}
    }
}
