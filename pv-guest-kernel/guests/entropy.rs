//! `entropy`: prints random bytes from its entropy device.

#![no_std]
#![no_main]

use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::entropy::Entropy;
use pv_guest_kernel::xenbus::Error;
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, power, print, println};

guest_main!(main);

async fn main(_: &'static Environment) {
    if let Err(error) = roll().await {
        println!("entropy: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn roll() -> Result<(), Error> {
    let entropy = Entropy::connect(&Client::for_guest()?).await?;
    let mut bytes = [0; 4096];
    entropy.fill(&mut bytes).await?;
    let different = (0..=u8::MAX).filter(|byte| bytes.contains(byte)).count();
    println!("{} random bytes, {different} different ones, the first of them:", bytes.len());
    bytes.iter().take(32).for_each(|byte| print!("{byte:02x}"));
    println!();
    Ok(())
}
