//! Measures what each operation costs: one line for each, with median, minimum and 99th percentile
//! in ticks of the virtual counter. Under the ruler (`cargo xtask bench`) a tick is an instruction.
//!
//! It runs unchanged on Xen. Its command line takes
//! - `samples=N`: how often each operation is done;
//! - `only=A,B`: only the rows whose name contains one of these;
//! - `ports=N`: that many ports are open beside those that are measured;
//! - `grants=N`: that many pages are granted, and that many of the partner's are mapped;
//! - `peer=ID`: the domain in which a second copy of this kernel runs as partner;
//! - `role=partner`: to be that partner.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod inbox;
#[expect(unsafe_code, reason = "what is measured are hypercalls, interrupts and registers")]
mod machine;
mod pair;
mod partner;
mod report;
mod rows;
mod ruler;

use core::str::FromStr;

use pv_guest_kernel::abi::DomId;
use pv_guest_kernel::{Environment, guest_main, println};

use pair::Pair;
use report::{Failure, Report};
use rows::Load;

guest_main!(main);

async fn main(environment: &'static Environment) {
    let peer = number(environment, "peer").map(DomId);
    let grants = number(environment, "grants").unwrap_or(0);
    match (environment.argument("role"), peer) {
        (Some("partner"), Some(peer)) => partner::serve(peer, grants).await,
        _ => match measure(environment, peer, grants).await {
            Ok(()) => println!("bench: done"),
            Err(failure) => println!("bench: stopped: {failure}"),
        },
    }
}

async fn measure(
    environment: &Environment,
    peer: Option<DomId>,
    grants: u32,
) -> Result<(), Failure> {
    let pair = match peer {
        Some(peer) => Some(Pair::find(peer, grants).await?),
        None => None,
    };
    let _load = Load::new(number(environment, "ports").unwrap_or(0), grants)?;
    let samples = number(environment, "samples");
    let report = Report::new(samples, environment.argument("only"));
    rows::all(&report, environment.interrupt_controller, pair).await
}

/// The number that the command line gives to `name`.
fn number<T: FromStr>(environment: &Environment, name: &str) -> Option<T> {
    environment.argument(name)?.parse().ok()
}
