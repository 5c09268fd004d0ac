//! `ping`: asks the host at `to=ADDRESS`, dom0 without, `count=N` times whether it is there, and says
//! how long the answers took.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::device_tree::InvalidArgument;
use pv_guest_kernel::network::{Ipv4Address, Network, PingError, StartError};
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, power, println, time};
use thiserror::Error;

const DOM0: Ipv4Address = Ipv4Address::new(10, 0, 2, 1);
/// Bytes of data, as many as other people's `ping` sends.
const SIZE: usize = 56;
/// Between two of them: nobody is busy any more with the one before.
const INTERVAL: Duration = Duration::from_millis(5);

guest_main!(main);

/// Why it failed.
#[derive(Debug, Error)]
enum Error {
    #[error("no store: {0}")]
    Store(#[from] Errno),
    #[error(transparent)]
    Network(#[from] StartError),
    #[error("{0}; write to=10.0.2.1 count=10 size=56")]
    Argument(#[from] InvalidArgument),
    #[error("{0}: {1}")]
    Ping(Ipv4Address, PingError),
}

async fn main(environment: &'static Environment) {
    if let Err(error) = ping(environment).await {
        println!("ping: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn ping(environment: &Environment) -> Result<(), Error> {
    let to = environment.parsed("to", DOM0)?;
    let count: usize = environment.parsed("count", 10)?;
    let size = environment.parsed("size", SIZE)?;
    let network = Network::start(environment, &Client::for_guest()?).await?;
    let failed = |error| Error::Ping(to, error);
    let mut pinger = network.pinger().map_err(failed)?;
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
    // The first one finds out the hardware address, too.
    let first = pinger.ping(to, &data).await.map_err(failed)?;
    let mut times = vec![first];
    for _ in 1..count {
        time::sleep(INTERVAL).await;
        times.push(pinger.ping(to, &data).await.map_err(failed)?);
    }
    times.sort_unstable();
    let [least, median, most] =
        [0, times.len() / 2, times.len() - 1].map(|index| nanoseconds(&times, index));
    println!(
        "ping: {to} answered {} times; round trip {least} ns at least, {median} median, {most} at most",
        times.len(),
    );
    Ok(())
}

fn nanoseconds(times: &[Duration], index: usize) -> u128 {
    times.get(index).map_or(0, Duration::as_nanos)
}
