//! `web`: an HTTP server.
//!
//! | path | |
//! |---|---|
//! | `/` | says what this is |
//! | `/bytes?n=N` | N bytes: 0 to 250, again and again |
//! | `/counters` | what was served, and what each queue of the interface carried |
//!
//! `send=KIB` on the command line gives each connection another buffer for sending than 32 KiB.

#![no_std]
#![no_main]

extern crate alloc;

mod http;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::network::{Buffers, Network, StartError, TcpError, TcpStream};
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, executor, guest_main, memory, power, println, time};
use thiserror::Error;

use http::{Connection, Status};

const PORT: u16 = 80;
/// Connections that may wait.
const BACKLOG: usize = 256;
/// Bytes of a connection's buffers. Requests are short, answers may be long; a thousand connections
/// shall fit into 64 MiB.
const RECEIVE: usize = 2 << 10;
const SEND_KIB: usize = 32;
/// The bytes of `/bytes` begin again after so many.
const PERIOD: usize = 251;

guest_main!(main);

/// Why it cannot serve.
#[derive(Debug, Error)]
enum Error {
    #[error("no store: {0}")]
    Store(#[from] Errno),
    #[error(transparent)]
    Network(#[from] StartError),
    #[error(transparent)]
    Tcp(#[from] TcpError),
}

/// What was served.
#[derive(Debug, Default)]
struct Counters {
    connections: Cell<u64>,
    open: Cell<u64>,
    requests: Cell<u64>,
    bytes: Cell<u64>,
}

async fn main(environment: &'static Environment) {
    if let Err(error) = serve(environment).await {
        println!("web: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn serve(environment: &Environment) -> Result<(), Error> {
    let network = Network::start(environment, &Client::for_guest()?).await?;
    let send = environment.argument("send").and_then(|text| text.parse().ok());
    let send = send.unwrap_or(SEND_KIB).saturating_mul(1 << 10);
    let listener = network.listen(PORT, Buffers { receive: RECEIVE, send }, BACKLOG)?;
    println!("web: serving http://{}:{PORT}/", network.address().await.address());
    let counters = Rc::new(Counters::default());
    loop {
        let stream = listener.accept().await;
        add(&counters.connections, 1);
        add(&counters.open, 1);
        let (network, counters) = (network.clone(), counters.clone());
        executor::spawn(async move {
            if let Err(error) = answer_all(stream, &network, &counters).await {
                log::debug!("{error}");
            }
            counters.open.set(counters.open.get().saturating_sub(1));
        })
        .detach();
    }
}

/// Answers a connection's requests until it ends.
async fn answer_all(
    stream: TcpStream,
    network: &Network,
    counters: &Counters,
) -> Result<(), TcpError> {
    let mut connection = Connection::new(stream);
    while let Some(target) = connection.next_request().await? {
        add(&counters.requests, 1);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match (path, count(query)) {
            ("/", _) => connection.answer(Status::Okay, "text/html", INDEX.as_bytes()).await?,
            ("/counters", _) => {
                let text = describe(counters) + &describe_queues(network);
                connection.answer(Status::Okay, "text/plain", text.as_bytes()).await?;
            }
            ("/bytes", Some(count)) => {
                connection.begin(Status::Okay, "application/octet-stream", count).await?;
                send_bytes(&mut connection, count, counters).await?;
            }
            ("/bytes", None) => {
                let text = "write /bytes?n=1000\n";
                connection.answer(Status::BadRequest, "text/plain", text.as_bytes()).await?;
            }
            _ => connection.answer(Status::NotFound, "text/plain", b"no such page\n").await?,
        }
    }
    Ok(())
}

/// The number in `n=NUMBER`.
fn count(query: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix("n="))?.parse().ok()
}

async fn send_bytes(
    connection: &mut Connection,
    count: u64,
    counters: &Counters,
) -> Result<(), TcpError> {
    let bytes: Vec<u8> = (0..PERIOD as u8).cycle().take(PERIOD * 128).collect();
    let mut left = count;
    while left > 0 {
        let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        connection.send(bytes.get(..length).unwrap_or_default()).await?;
        add(&counters.bytes, length as u64);
        left -= length as u64;
    }
    Ok(())
}

fn describe(counters: &Counters) -> String {
    let (used, all) = memory::heap_usage();
    format!(
        "connections {}\nopen {}\nrequests {}\nbytes {}\nuptime_ms {}\nheap {used} of {all}\n",
        counters.connections.get(),
        counters.open.get(),
        counters.requests.get(),
        counters.bytes.get(),
        time::now().as_millis(),
    )
}

fn describe_queues(network: &Network) -> String {
    let traffic = network.traffic();
    traffic
        .iter()
        .enumerate()
        .map(|(queue, traffic)| format!("queue {queue}: {traffic}\n"))
        .collect()
}

fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get().wrapping_add(count));
}

const INDEX: &str = "<!DOCTYPE html>
<title>Aurochs</title>
<h1>Hello from a paravirtual guest</h1>
<p>This page came out of a domain that has no device of its own: through its network frontend, a
ring in a shared page, dom0's backend and bridge, and a virtio device.
<ul>
<li><a href=\"/counters\">what was served</a>
<li><a href=\"/bytes?n=1000000\">a million bytes</a>
</ul>
";
