//! A guest with several vCPUs, for the tests: it starts them, has them work, interrupts them, stops
//! and starts them again, and prints "ok   ..." for each thing that went as it should and "FAIL ..."
//! for every other.
//!
//! Its command line chooses: `do=all` (the default); `do=events` only sends `count=N` events to a
//! vCPU of its own that runs; `do=wake` the same to one that sleeps; `do=follow` keeps as many
//! vCPUs on as the toolstack says, until it is shut down.

#![no_std]
#![no_main]

extern crate alloc;

mod events;
mod hotplug;
mod interrupts;
mod power;
mod report;
mod work;

use alloc::vec::Vec;

use pv_guest_kernel::abi::VcpuId;
use pv_guest_kernel::{Environment, guest_main, println, smp};

use report::Report;

guest_main!(main);

async fn main(environment: &'static Environment) {
    let count = environment.argument("count").and_then(|text| text.parse().ok()).unwrap_or(1000);
    let mut report = Report::default();
    match environment.argument("do") {
        None | Some("all") => everything(&mut report, environment.vcpus).await,
        Some("events") => events::to_a_running_vcpu(&mut report, count),
        Some("wake") => events::to_a_sleeping_vcpu(&mut report, count).await,
        Some("follow") => hotplug::follow(environment.vcpus).await,
        Some(other) => report.check(other, false, "is not something to do"),
    }
    println!("{} ok, {} failed", report.passed(), report.failed());
}

async fn everything(report: &mut Report, vcpus: usize) {
    let others: Vec<VcpuId> = (1..vcpus as u32).map(VcpuId).collect();
    println!("{vcpus} vCPUs");
    power::psci(report, vcpus);
    for &vcpu in &others {
        report.expect("start", smp::start(vcpu));
    }
    power::all_are_on(report, &others);
    work::sums(report, &others).await;
    work::heap(report, &others).await;
    interrupts::by_event(report, &others).await;
    interrupts::by_sgi(report, &others).await;
    interrupts::to_itself(report, &others).await;
    interrupts::between(report, &others).await;
    interrupts::by_timer(report, &others).await;
    power::off_and_on(report, &others).await;
    work::sums(report, &others).await;
}
