//! `fetch`: gets `bytes=N` bytes from the guest `web` at `from=ADDRESS` by each of `connections=N`
//! connections at once, checks each of them (unless `check=0`: that costs more than to get them), and
//! says what that took, and what each queue of the interface carried if there are several (`queues=N`).

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::device_tree::InvalidArgument;
use pv_guest_kernel::network::{Buffers, Ipv4Address, Network, StartError, TcpError, TcpStream};
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, executor, guest_main, power, println, time};
use thiserror::Error;

const PORT: u16 = 80;
const BUFFERS: Buffers = Buffers { receive: 512 << 10, send: 4 << 10 };
/// The bytes of `/bytes` begin again after so many.
const PERIOD: u64 = 251;
/// What ends the answer's header.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

guest_main!(main);

/// Why it failed.
#[derive(Debug, Error)]
enum Error {
    #[error("no store: {0}")]
    Store(#[from] Errno),
    #[error(transparent)]
    Network(#[from] StartError),
    #[error("{0}; write from=10.0.2.15 bytes=1000000 connections=1")]
    Argument(#[from] InvalidArgument),
    #[error(transparent)]
    Tcp(#[from] TcpError),
    #[error("the answer ends after {0} bytes")]
    Short(u64),
    #[error("byte {0} is wrong")]
    Wrong(u64),
}

async fn main(environment: &'static Environment) {
    if let Err(error) = fetch(environment).await {
        println!("fetch: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn fetch(environment: &Environment) -> Result<(), Error> {
    let from: Ipv4Address = environment.parsed("from", Ipv4Address::new(10, 0, 2, 15))?;
    let bytes: u64 = environment.parsed("bytes", 1_000_000)?;
    let connections: u64 = environment.parsed("connections", 1)?;
    let network = Network::start(environment, &Client::for_guest()?).await?;
    let address = network.address().await.address();
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(network.connect_tcp((from, PORT), BUFFERS).await?);
    }
    let check = environment.argument("check") != Some("0");
    let start = time::now();
    let fetching: Vec<_> =
        streams.into_iter().map(|stream| executor::spawn(get(stream, bytes, check))).collect();
    let mut streams = Vec::new();
    for task in fetching {
        streams.push(task.await?);
    }
    let time = time::now().saturating_sub(start);
    for stream in streams {
        stream.close().await;
    }
    let bytes = bytes.saturating_mul(connections);
    println!("fetch: {address} got {bytes} bytes from {from} in {} us", time.as_micros());
    let traffic = network.traffic();
    for (queue, traffic) in traffic.iter().enumerate().filter(|_| traffic.len() > 1) {
        println!("fetch: queue {queue}: {traffic}");
    }
    Ok(())
}

/// Asks for so many bytes, and gets them; gives the connection back.
async fn get(mut stream: TcpStream, bytes: u64, check: bool) -> Result<TcpStream, Error> {
    let request =
        format!("GET /bytes?n={bytes} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    read_answer(&mut stream, bytes, check).await?;
    Ok(stream)
}

/// Reads the answer to its end, which must be that of the bytes.
async fn read_answer(stream: &mut TcpStream, bytes: u64, check: bool) -> Result<(), Error> {
    let mut answer = Answer::new(check);
    while let Some(result) = stream.read_in_place(|part| (part.len(), answer.take(part))).await? {
        result?;
    }
    if answer.received == bytes { Ok(()) } else { Err(Error::Short(answer.received)) }
}

/// What has come of the answer.
struct Answer {
    /// What the bytes should be, from the first on; nothing if they are not to be looked at.
    expected: Option<Vec<u8>>,
    in_header: bool,
    /// Bytes of the blank line after the header.
    blank: usize,
    /// Bytes after it.
    received: u64,
}

impl Answer {
    fn new(check: bool) -> Answer {
        let length = BUFFERS.receive + PERIOD as usize;
        let cycle = || (0..PERIOD as u8).cycle().take(length).collect();
        Answer { expected: check.then(cycle), in_header: true, blank: 0, received: 0 }
    }

    fn take(&mut self, mut part: &[u8]) -> Result<(), Error> {
        while let (true, Some((&byte, rest))) = (self.in_header, part.split_first()) {
            let matches = BLANK_LINE.get(self.blank) == Some(&byte);
            self.blank = if matches { self.blank + 1 } else { usize::from(byte == b'\r') };
            self.in_header = self.blank < BLANK_LINE.len();
            part = rest;
        }
        let phase = (self.received % PERIOD) as usize;
        let is_right = |expected: &Vec<u8>| expected.get(phase..phase + part.len()) == Some(part);
        if !self.expected.as_ref().is_none_or(is_right) {
            return Err(Error::Wrong(self.received));
        }
        self.received += part.len() as u64;
        Ok(())
    }
}
