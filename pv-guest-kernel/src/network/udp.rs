//! UDP.

use alloc::rc::Rc;
use alloc::vec;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;
use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address};
use thiserror::Error;

use super::stack::{Stack, State};

/// Bytes of data in a packet that needs not be split.
pub const UDP_MAX: usize = 1472;
/// Packets that wait in either direction.
const PACKETS: usize = 32;

/// Why a packet cannot be sent, or a port not be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UdpError {
    /// Port zero, or there is no network.
    #[error("port {0} cannot be used")]
    Port(u16),
    /// More than [`UDP_MAX`] bytes.
    #[error("{0} bytes are more than a packet's {UDP_MAX}")]
    TooLong(usize),
    /// No way leads there.
    #[error("the receiver cannot be reached")]
    Unreachable,
}

/// A bound port, until it is dropped.
#[derive(Debug)]
pub struct UdpSocket {
    stack: Rc<Stack>,
    handle: SocketHandle,
}

impl UdpSocket {
    pub(super) fn bind(stack: Rc<Stack>, port: u16) -> Result<UdpSocket, UdpError> {
        let buffer = || {
            let metadata = vec![udp::PacketMetadata::EMPTY; PACKETS];
            udp::PacketBuffer::new(metadata, vec![0; PACKETS * UDP_MAX])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).map_err(|_| UdpError::Port(port))?;
        let handle = stack.with(|state| state.sockets.add(socket)).ok_or(UdpError::Port(port))?;
        Ok(UdpSocket { stack, handle })
    }

    /// Waits for a packet; returns its length and its sender. What does not fit is lost.
    pub async fn receive(&self, bytes: &mut [u8]) -> (usize, (Ipv4Address, u16)) {
        let mut try_receive = |socket: &mut udp::Socket<'_>, waker: &Waker| match socket.recv() {
            Ok((data, metadata)) => {
                let count = data.len().min(bytes.len());
                let (place, _) = bytes.split_at_mut(count);
                place.copy_from_slice(data.get(..count).unwrap_or_default());
                match metadata.endpoint.addr {
                    IpAddress::Ipv4(address) => {
                        Poll::Ready((count, (address, metadata.endpoint.port)))
                    }
                    // The interface has no such address.
                    IpAddress::Ipv6(_) => Poll::Pending,
                }
            }
            Err(_) => {
                socket.register_recv_waker(waker);
                Poll::Pending
            }
        };
        poll_fn(|context| {
            self.stack.poll_quietly(|state| try_receive(self.socket(state), context.waker()))
        })
        .await
    }

    /// Sends a packet, as soon as there is room for it.
    ///
    /// # Errors
    /// As [`UdpError`] says.
    pub async fn send(&self, bytes: &[u8], to: (Ipv4Address, u16)) -> Result<(), UdpError> {
        if bytes.len() > UDP_MAX {
            return Err(UdpError::TooLong(bytes.len()));
        }
        let try_send = |socket: &mut udp::Socket<'_>, waker: &Waker| match socket
            .send_slice(bytes, IpEndpoint::from(to))
        {
            Ok(()) => Poll::Ready(Ok(())),
            Err(udp::SendError::BufferFull) => {
                socket.register_send_waker(waker);
                Poll::Pending
            }
            Err(udp::SendError::Unaddressable) => Poll::Ready(Err(UdpError::Unreachable)),
        };
        poll_fn(|context| {
            self.stack.poll_with(|state| try_send(self.socket(state), context.waker()))
        })
        .await
    }

    fn socket<'s>(&self, state: &'s mut State) -> &'s mut udp::Socket<'static> {
        state.sockets.get_mut(self.handle)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.stack.with(|state| drop(state.sockets.remove(self.handle)));
    }
}
