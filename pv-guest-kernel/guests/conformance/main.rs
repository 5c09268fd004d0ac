//! A guest that asks the small hypercalls all that they know, and compares the answers with what
//! Xen on Arm answers: "ok   ..." for those that are the same, "FAIL ..." for others.
//!
//! Its command line chooses how it ends: `end=watchdog` by its watchdog, `end=code` with the reason
//! that it noted before. With `events=fifo` it asks about those only: its own kernel hears none then.

#![no_std]
#![no_main]

extern crate alloc;

mod call;
mod console;
mod events;
mod fifo;
mod memory;
mod runstate;
mod sleep;
mod timer;
mod vcpu;
mod version;
mod watchdog;

use pv_guest_kernel::{Environment, guest_main, println};

use call::Answers;

guest_main!(main);

async fn main(environment: &'static Environment) {
    let mut answers = Answers::default();
    if environment.argument("events") == Some("fifo") {
        return ask_about_fifo(&mut answers);
    }
    version::ask(&mut answers);
    memory::ask(&mut answers);
    vcpu::ask(&mut answers);
    runstate::ask(&mut answers);
    sleep::ask(&mut answers);
    timer::ask(&mut answers);
    console::ask(&mut answers);
    events::ask(&mut answers);
    watchdog::ask(&mut answers);
    println!("{} as expected, {} not", answers.right(), answers.wrong());
    match environment.argument("end") {
        Some("watchdog") => watchdog::starve(),
        Some("code") => watchdog::note_reason(&mut answers),
        _ => {}
    }
}

fn ask_about_fifo(answers: &mut Answers) {
    fifo::ask(answers);
    println!("{} as expected, {} not", answers.right(), answers.wrong());
    if let Err(error) = fifo::leave() {
        panic!("back to the 2-level ABI: {error}");
    }
}
