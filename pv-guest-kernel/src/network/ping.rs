//! Ping: echo requests and their replies (RFC 792).

use alloc::rc::Rc;
use alloc::vec;
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Poll, Waker};
use core::time::Duration;

use futures_util::future::{Either, select};
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpAddress, Ipv4Address};
use thiserror::Error;

use super::stack::{Stack, State};
use crate::time;

/// Bytes of data in a ping that needs not be split.
pub const PING_MAX: usize = 1472;
/// Bytes before the data.
const HEADER: usize = 8;
/// Messages that wait in either direction.
const MESSAGES: usize = 4;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a ping brings nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PingError {
    /// There is no interface.
    #[error("there is no network")]
    NoNetwork,
    /// More than [`PING_MAX`] bytes.
    #[error("{0} bytes are more than a ping's {PING_MAX}")]
    TooLong(usize),
    /// No way leads there.
    #[error("no way leads there")]
    Unreachable,
    /// Nothing came back within a second.
    #[error("no answer")]
    Silent,
    /// Other data came back than was sent.
    #[error("the answer is damaged")]
    Damaged,
}

/// Sends pings, one after the other.
#[derive(Debug)]
pub struct Pinger {
    stack: Rc<Stack>,
    handle: SocketHandle,
    identifier: u16,
    sequence: u16,
}

impl Pinger {
    pub(super) fn new(stack: Rc<Stack>) -> Result<Pinger, PingError> {
        let buffer = || {
            let metadata = vec![icmp::PacketMetadata::EMPTY; MESSAGES];
            icmp::PacketBuffer::new(metadata, vec![0; MESSAGES * (HEADER + PING_MAX)])
        };
        let bound = stack.with(|state| {
            let identifier = state.ports.take();
            let mut socket = icmp::Socket::new(buffer(), buffer());
            socket.bind(icmp::Endpoint::Ident(identifier)).ok()?;
            Some((state.sockets.add(socket), identifier))
        });
        let (handle, identifier) = bound.flatten().ok_or(PingError::NoNetwork)?;
        Ok(Pinger { stack, handle, identifier, sequence: 0 })
    }

    /// Sends these bytes; returns how long they took there and back.
    ///
    /// # Errors
    /// As [`PingError`] says.
    pub async fn ping(&mut self, to: Ipv4Address, data: &[u8]) -> Result<Duration, PingError> {
        self.sequence = self.sequence.wrapping_add(1);
        let begin = time::now();
        self.send(to, data).await?;
        match select(pin!(self.answer(to, data)), pin!(time::sleep_until(begin + PATIENCE))).await {
            Either::Left((answer, _)) => answer.map(|()| time::now().saturating_sub(begin)),
            Either::Right(_) => Err(PingError::Silent),
        }
    }

    async fn send(&self, to: Ipv4Address, data: &[u8]) -> Result<(), PingError> {
        if data.len() > PING_MAX {
            return Err(PingError::TooLong(data.len()));
        }
        let request =
            Icmpv4Repr::EchoRequest { ident: self.identifier, seq_no: self.sequence, data };
        let try_send = |socket: &mut icmp::Socket<'_>, waker: &Waker| {
            match socket.send(request.buffer_len(), IpAddress::Ipv4(to)) {
                Ok(bytes) => {
                    let mut packet = Icmpv4Packet::new_unchecked(bytes);
                    // The stack makes a message of it anew, which gets the sum.
                    request.emit(&mut packet, &ChecksumCapabilities::ignored());
                    Poll::Ready(Ok(()))
                }
                Err(icmp::SendError::BufferFull) => {
                    socket.register_send_waker(waker);
                    Poll::Pending
                }
                Err(icmp::SendError::Unaddressable) => Poll::Ready(Err(PingError::Unreachable)),
            }
        };
        poll_fn(|context| {
            self.stack.poll_with(|state| try_send(self.socket(state), context.waker()))
        })
        .await
    }

    /// Waits for the answer to the last ping. Answers to earlier ones are too late.
    async fn answer(&self, from: Ipv4Address, data: &[u8]) -> Result<(), PingError> {
        let try_receive = |socket: &mut icmp::Socket<'_>, waker: &Waker| {
            while let Ok((bytes, sender)) = socket.recv() {
                let Ok(message) = Icmpv4Packet::new_checked(bytes) else { continue };
                let asked = message.msg_type() == Icmpv4Message::EchoReply
                    && message.echo_seq_no() == self.sequence;
                if asked && sender == IpAddress::Ipv4(from) {
                    let whole = message.data() == data;
                    return Poll::Ready(if whole { Ok(()) } else { Err(PingError::Damaged) });
                }
            }
            socket.register_recv_waker(waker);
            Poll::Pending
        };
        poll_fn(|context| {
            self.stack.poll_quietly(|state| try_receive(self.socket(state), context.waker()))
        })
        .await
    }

    fn socket<'s>(&self, state: &'s mut State) -> &'s mut icmp::Socket<'static> {
        state.sockets.get_mut(self.handle)
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.stack.with(|state| drop(state.sockets.remove(self.handle)));
    }
}
