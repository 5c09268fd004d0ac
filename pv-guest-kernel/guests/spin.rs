//! Wants the CPU: all the time, or in turns with sleeping, as a guest does that waits for devices.
//!
//! Without arguments it spins for ever and says nothing, so that it disturbs nobody's figures.
//! `rounds=N` ends it after N rounds, in each of which it sleeps for `sleep=MS` milliseconds (10)
//! and then spins for `run=MS` (1). It tells how late it woke: the time from the moment for which
//! it had set its timer until it ran.

#![no_std]
#![no_main]

use core::time::Duration;

use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, println, smp, time};

guest_main!(main);

/// Rounds after which it says how far it is.
const REPORT: u64 = 50;

async fn main(environment: &'static Environment) {
    let number = |name| environment.argument(name).and_then(|text| text.parse().ok());
    let Some(rounds) = number("rounds") else { spin_for_ever() };
    // Who has a store obeys `xl shutdown`. There may be none: then nobody asks.
    let _store = Client::for_guest();
    let run = Duration::from_millis(number("run").unwrap_or(1));
    let sleep = Duration::from_millis(number("sleep").unwrap_or(10));
    let mut late = Lateness::default();
    for round in 1..=rounds {
        let due = time::now().saturating_add(sleep);
        time::sleep_until(due).await;
        late.note(time::now().saturating_sub(due));
        if round % REPORT == 0 || round == rounds {
            println!("round {round} of {rounds}: {late}");
        }
        spin_until(time::now().saturating_add(run));
    }
}

fn spin_for_ever() -> ! {
    println!("spinning");
    loop {
        spin();
    }
}

fn spin_until(end: Duration) {
    while time::now() < end {
        spin();
    }
}

/// Spins for some microseconds. A machine that emulates its CPUs in turn may need to be told that
/// others could run, too.
fn spin() {
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    smp::relax();
}

/// How late it woke.
#[derive(Debug, Default)]
struct Lateness {
    rounds: u32,
    sum: Duration,
    worst: Duration,
}

impl Lateness {
    fn note(&mut self, late: Duration) {
        self.rounds = self.rounds.saturating_add(1);
        self.sum = self.sum.saturating_add(late);
        self.worst = self.worst.max(late);
    }
}

impl core::fmt::Display for Lateness {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mean = self.sum.checked_div(self.rounds).unwrap_or_default();
        write!(f, "woke {} us late, {} us at worst", mean.as_micros(), self.worst.as_micros())
    }
}
