//! The smallest guest: says what it is, tells the time, and powers itself off.
//!
//! For tests of how a domain ends, its command line can make it misbehave: `crash=1` panics,
//! `fault=1` touches an address that is not mapped, `spin=1` never lets go of its CPU,
//! `sleep=SECONDS` idles first.

#![no_std]
#![no_main]

use core::time::Duration;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, hypercall, memory, println, time};

guest_main!(main);

async fn main(environment: &'static Environment) {
    println!("Hello from a paravirtual guest!");
    // Who has a store obeys `xl shutdown`. There may be none: then nobody asks.
    let _store = Client::for_guest();
    if let Err(error) = print_facts(environment) {
        println!("the monitor does not say: {error}");
    }
    misbehave(environment).await;
    for tick in 1..=2 {
        time::sleep(Duration::from_millis(100)).await;
        println!("tick {tick} at {} ms", time::now().as_millis());
    }
    println!("Goodbye.");
}

fn print_facts(environment: &Environment) -> Result<(), Errno> {
    println!("  monitor      Xen interface {}", hypercall::version::version()?);
    println!("  features     {:?}", hypercall::version::features()?);
    println!("  memory       {} MiB", environment.memory_size() >> 20);
    println!("  heap in use  {} KiB", memory::heap_usage().0 >> 10);
    println!("  vCPUs        {}", environment.vcpus);
    println!("  command line \"{}\"", environment.bootargs);
    println!("  booted       {} us ago", time::now().as_micros());
    match time::wall_clock() {
        Some(now) => println!("  wall clock   {} s since 1970", now.as_secs()),
        None => println!("  wall clock   unknown"),
    }
    Ok(())
}

async fn misbehave(environment: &Environment) {
    let asked = |name| environment.argument(name) == Some("1");
    if let Some(seconds) = environment.argument("sleep").and_then(|text| text.parse().ok()) {
        println!("sleeping for {seconds} s");
        time::sleep(Duration::from_secs(seconds)).await;
    }
    if asked("crash") {
        panic!("asked to crash");
    }
    if asked("fault") {
        println!("touching address 0");
        // SAFETY: not safe at all: nothing is mapped there, and the fault is what is wanted.
        unsafe { core::ptr::with_exposed_provenance::<u8>(8).read_volatile() };
    }
    if asked("spin") {
        println!("spinning");
        loop {
            core::hint::spin_loop();
        }
    }
}
