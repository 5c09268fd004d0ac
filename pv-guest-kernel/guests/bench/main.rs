//! Measures what each operation costs: one line for each, with median, minimum and 99th percentile
//! in ticks of the virtual counter. Under the ruler (`cargo xtask bench`) a tick is an instruction.
//!
//! It runs unchanged on Xen. Its command line takes
//! - `samples=N`: how often each operation is done;
//! - `only=A,B`: only the rows whose name contains one of these;
//! - `ports=N`, `grants=N`: that many ports and grants are open beside those that are measured;
//! - `peer=ID`: the domain in which a second copy of this kernel runs as partner;
//! - `role=partner`: to be that partner.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

#[expect(unsafe_code, reason = "what is measured are hypercalls, interrupts and registers")]
mod machine;
mod pair;
mod partner;
mod report;
mod rows;
mod ruler;

use pv_guest_kernel::abi::DomId;
use pv_guest_kernel::{Environment, guest_main, println};

use report::Report;

guest_main!(main);

async fn main(environment: &'static Environment) {
    machine::interrupt::install(environment.interrupt_controller);
    let peer = environment.argument("peer").and_then(|id| id.parse().ok()).map(DomId);
    match (environment.argument("role"), peer) {
        (Some("partner"), Some(peer)) => partner::serve(peer).await,
        _ => measure(environment, peer).await,
    }
}

async fn measure(environment: &Environment, peer: Option<DomId>) {
    let report = Report::new(environment);
    let done = rows::all(&report, environment, peer).await;
    match done {
        Ok(()) => println!("bench: done"),
        Err(failure) => println!("bench: stopped: {failure}"),
    }
}
