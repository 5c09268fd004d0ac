//! A guest that uses the pair `sample`.

#![no_std]
#![no_main]

use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::xenbus::Error;
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, power, println};

use pv_guest_kernel::sample::Sample;

guest_main!(main);

async fn main(_: &'static Environment) {
    if let Err(error) = multiply().await {
        println!("sample: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn multiply() -> Result<(), Error> {
    let device = Sample::connect(&Client::for_guest()?).await?;
    for number in 1..=3 {
        println!("sample: {number} came back as {}", device.multiply(number).await?);
    }
    Ok(())
}
