//! A guest that asks the small hypercalls all that they know, and compares the answers with what
//! Xen on Arm answers: "ok   ..." for those that are the same, "FAIL ..." for others.
//!
//! Its command line chooses how it ends: `end=watchdog` by its watchdog, `end=code` with the reason
//! that it noted before. With `events=fifo` it asks about those only: its own kernel hears none then.
//! `other=N` is a domain that it may not touch, if that is not dom0.
//!
//! It runs on Xen, too (`cargo xtask peer-run conformance`), where it prints the same lines.

#![no_std]
#![no_main]

extern crate alloc;

mod call;
mod console;
mod events;
mod fifo;
mod memory;
mod record;
mod runstate;
mod sleep;
mod system_time;
mod timer;
mod vcpu;
mod version;
mod watchdog;

use pv_guest_kernel::abi::DomId;
use pv_guest_kernel::{Environment, guest_main, println};

use call::Answers;

guest_main!(main);

async fn main(environment: &'static Environment) {
    let mut answers = Answers::default();
    answers.equal("system time", system_time::find().await, Ok(()));
    if environment.argument("events") == Some("fifo") {
        return ask_about_fifo(&mut answers);
    }
    let other = match environment.parsed("other", DomId::DOM0.0) {
        Ok(number) => DomId(number),
        Err(error) => panic!("{error}"),
    };
    version::ask(&mut answers);
    memory::ask(&mut answers, other);
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
