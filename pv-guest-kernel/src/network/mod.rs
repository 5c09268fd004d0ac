//! The network frontend, with TCP/IP on top (public/io/netif.h; the stack is `smoltcp`).
//!
//! ```ignore
//! let network = Network::start(environment, &store).await?;
//! let listener = network.listen(80, Buffers::default(), 16)?;
//! let mut connection = listener.accept().await;
//! connection.write_all(b"hello").await?;
//! ```
//!
//! Frames are copied between the stack's memory and pages that are granted to the backend once.
//! TCP leaves in frames of up to 64 KiB without checksums, which go to another guest as they are,
//! and are cut by the backend if they leave the machine. When the backend dies, sockets stay: to
//! them it is as if a cable had been pulled for a while.
//!
//! ```text
//! tasks --> sockets --> stack (smoltcp) --> device --> rings (pages, event channel)
//! ```

use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use abi::Errno;
use thiserror::Error as ErrorMessage;

use crate::Environment;
use crate::xenbus::{Error, first_frontend, run_frontend, start_driver};
use crate::xenstore::Client;

mod backlog;
pub mod checksum;
mod configuration;
mod device;
mod ping;
mod ports;
pub mod queue;
mod rings;
mod stack;
mod tcp;
mod udp;

pub use backlog::Buffers;
pub use configuration::{Addressing, BadArgument, Configuration};
pub use ping::{PING_MAX, PingError, Pinger};
pub use smoltcp::wire::{Ipv4Address, Ipv4Cidr};
pub use tcp::{TcpError, TcpListener, TcpStream};
pub use udp::{UDP_MAX, UdpError, UdpSocket};

use stack::Stack;

/// Why there is no network.
#[derive(Debug, ErrorMessage)]
pub enum StartError {
    /// The command line is wrong.
    #[error(transparent)]
    Argument(#[from] BadArgument),
    /// The store does not answer.
    #[error("no store: {0}")]
    Store(#[from] Errno),
    /// The device cannot be connected.
    #[error(transparent)]
    Device(#[from] Error),
}

/// What a queue has carried: slots of its rings, modulo 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Towards the backend.
    pub sent: u32,
    /// From it.
    pub received: u32,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {} slots, received {}", self.sent, self.received)
    }
}

/// An interface, and the stack on top of it. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Network(Rc<Stack>);

impl Network {
    /// Connects this domain's first interface as the command line says, and waits until it has an
    /// address. If there is no interface yet, waits for one.
    ///
    /// # Errors
    /// As [`StartError`] says.
    pub async fn start(environment: &Environment, store: &Client) -> Result<Network, StartError> {
        let configuration = Configuration::from_arguments(environment)?;
        let path = first_frontend(store, "vif").await?;
        let network = Network::connect(store, &path, configuration).await?;
        network.address().await;
        Ok(network)
    }

    /// Connects the frontend in a directory such as `device/vif/0`. It stays connected as long as
    /// the domain lives.
    ///
    /// # Errors
    /// If the device cannot be connected.
    pub async fn connect(
        store: &Client,
        path: &str,
        configuration: Configuration,
    ) -> Result<Network, Error> {
        let stack = Stack::new(configuration);
        let (store, path, driven) = (store.clone(), path.to_string(), stack.clone());
        let driver = async move {
            let result = run_frontend(&store, &path, async |device| driven.drive(device).await);
            result.await.inspect_err(|error| log::error!("{path}: {error}"))
        };
        start_driver(driver, stack.until(|_| Some(()))).await?;
        Ok(Network(stack))
    }

    /// Waits until the interface has an address.
    pub async fn address(&self) -> Ipv4Cidr {
        self.0.until(|state| state.address()).await
    }

    /// Listens on a port; so many connections may wait to be accepted.
    ///
    /// # Errors
    /// [`TcpError::PortInUse`]
    pub fn listen(
        &self,
        port: u16,
        buffers: Buffers,
        backlog: usize,
    ) -> Result<TcpListener, TcpError> {
        TcpListener::new(self.0.clone(), port, buffers, backlog)
    }

    /// Connects to a port of another host.
    ///
    /// # Errors
    /// [`TcpError::Refused`]
    pub async fn connect_tcp(
        &self,
        remote: (Ipv4Address, u16),
        buffers: Buffers,
    ) -> Result<TcpStream, TcpError> {
        TcpStream::connect(self.0.clone(), remote, buffers).await
    }

    /// Takes a UDP port.
    ///
    /// # Errors
    /// [`UdpError::Port`]
    pub fn bind_udp(&self, port: u16) -> Result<UdpSocket, UdpError> {
        UdpSocket::bind(self.0.clone(), port)
    }

    /// What each queue has carried since the backend connected; nothing without one.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.0.traffic()
    }

    /// Gets ready to ask whether other hosts are there.
    ///
    /// # Errors
    /// [`PingError::NoNetwork`]
    pub fn pinger(&self) -> Result<Pinger, PingError> {
        Pinger::new(self.0.clone())
    }
}
