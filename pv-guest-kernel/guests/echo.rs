//! `echo`: sends back what it gets, by TCP and UDP (RFC 862).

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::network::{
    Buffers, Network, StartError, TcpError, TcpStream, UDP_MAX, UdpError, UdpSocket,
};
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, executor, guest_main, power, println};
use thiserror::Error;

const PORT: u16 = 7;
/// Connections that may wait.
const BACKLOG: usize = 64;
const BUFFERS: Buffers = Buffers { receive: 64 << 10, send: 64 << 10 };

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
    #[error(transparent)]
    Udp(#[from] UdpError),
}

async fn main(environment: &'static Environment) {
    if let Err(error) = serve(environment).await {
        println!("echo: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn serve(environment: &Environment) -> Result<(), Error> {
    let network = Network::start(environment, &Client::for_guest()?).await?;
    let listener = network.listen(PORT, BUFFERS, BACKLOG)?;
    executor::spawn(echo_packets(network.bind_udp(PORT)?)).detach();
    println!("echo: serving {} port {PORT}", network.address().await.address());
    loop {
        let stream = listener.accept().await;
        executor::spawn(async move {
            if let Err(error) = echo_connection(stream).await {
                log::debug!("{error}");
            }
        })
        .detach();
    }
}

async fn echo_connection(mut stream: TcpStream) -> Result<(), TcpError> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(bytes.get(..count).unwrap_or_default()).await?;
    }
}

async fn echo_packets(socket: UdpSocket) {
    let mut bytes = [0; UDP_MAX];
    loop {
        let (count, sender) = socket.receive(&mut bytes).await;
        if let Err(error) = socket.send(bytes.get(..count).unwrap_or_default(), sender).await {
            log::debug!("{sender:?}: {error}");
        }
    }
}
