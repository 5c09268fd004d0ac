//! TCP connections.

use alloc::rc::Rc;
use core::future::poll_fn;
use core::task::Poll;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::{IpEndpoint, Ipv4Address};
use thiserror::Error;

use super::backlog::{self, Backlog, Buffers};
use super::stack::{Stack, State};

/// Why a connection does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TcpError {
    /// Somebody else listens there.
    #[error("port {0} is in use")]
    PortInUse(u16),
    /// Nobody listens there, or it is not reached.
    #[error("no connection")]
    Refused,
    /// The other end has broken it off.
    #[error("the connection was reset")]
    Reset,
}

/// Listens on a port until it is dropped.
#[derive(Debug)]
pub struct TcpListener {
    stack: Rc<Stack>,
    port: u16,
}

impl TcpListener {
    pub(super) fn new(
        stack: Rc<Stack>,
        port: u16,
        buffers: Buffers,
        limit: usize,
    ) -> Result<TcpListener, TcpError> {
        let listening = stack.with(|state| {
            if port == 0 || state.backlogs.contains_key(&port) {
                return Err(TcpError::PortInUse(port));
            }
            let mut backlog = Backlog::new(port, buffers, limit);
            backlog.keep_listening(&mut state.sockets);
            state.backlogs.insert(port, backlog);
            Ok(())
        });
        listening.unwrap_or(Err(TcpError::Refused))?;
        Ok(TcpListener { stack, port })
    }

    /// Waits for a connection. One task at a time can wait.
    pub async fn accept(&self) -> TcpStream {
        let handle = poll_fn(|context| {
            self.stack.poll_with(|State { backlogs, sockets, .. }| {
                // It is there as long as the listener.
                let Some(backlog) = backlogs.get_mut(&self.port) else { return Poll::Pending };
                match backlog.accept(sockets) {
                    Some(handle) => Poll::Ready(handle),
                    None => {
                        backlog.waker = Some(context.waker().clone());
                        Poll::Pending
                    }
                }
            })
        });
        TcpStream { handle: handle.await, stack: self.stack.clone() }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.stack.with(|state| {
            if let Some(backlog) = state.backlogs.remove(&self.port) {
                backlog.close(&mut state.sockets);
            }
        });
    }
}

/// A connection. Dropping it closes it: what was written is still sent.
#[derive(Debug)]
pub struct TcpStream {
    stack: Rc<Stack>,
    handle: SocketHandle,
}

impl TcpStream {
    pub(super) async fn connect(
        stack: Rc<Stack>,
        remote: (Ipv4Address, u16),
        buffers: Buffers,
    ) -> Result<TcpStream, TcpError> {
        let handle = stack.with(|state| {
            let port = state.ports.take();
            let mut socket = backlog::socket(buffers);
            let remote = IpEndpoint::from(remote);
            let begun = socket.connect(state.interface.context(), remote, port);
            begun.map_err(|_| TcpError::Refused).map(|()| state.sockets.add(socket))
        });
        let stream = TcpStream { handle: handle.unwrap_or(Err(TcpError::Refused))?, stack };
        stream
            .poll(|socket, waker| match socket.state() {
                tcp::State::SynSent | tcp::State::SynReceived => {
                    socket.register_send_waker(waker);
                    Poll::Pending
                }
                tcp::State::Closed => Poll::Ready(Err(TcpError::Refused)),
                _ => Poll::Ready(Ok(())),
            })
            .await?;
        Ok(stream)
    }

    /// Reads what has come, at least a byte; zero at the end.
    ///
    /// # Errors
    /// [`TcpError::Reset`]
    pub async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, TcpError> {
        self.receive(|socket| socket.recv_slice(bytes)).await.map(Option::unwrap_or_default)
    }

    /// Shows what has come where it is, without a copy, and takes as much of it as `look` says; `None`
    /// at the end.
    ///
    /// # Errors
    /// [`TcpError::Reset`]
    pub async fn read_in_place<R>(
        &mut self,
        mut look: impl FnMut(&[u8]) -> (usize, R),
    ) -> Result<Option<R>, TcpError> {
        self.receive(|socket| socket.recv(|bytes| look(bytes))).await
    }

    /// Waits until something has come, and takes it; `None` at the end.
    async fn receive<R>(
        &mut self,
        mut take: impl FnMut(&mut tcp::Socket<'static>) -> Result<R, tcp::RecvError>,
    ) -> Result<Option<R>, TcpError> {
        self.poll(|socket, waker| {
            if !socket.can_recv() && socket.may_recv() {
                socket.register_recv_waker(waker);
                return Poll::Pending;
            }
            match take(socket) {
                Ok(result) => Poll::Ready(Ok(Some(result))),
                Err(tcp::RecvError::Finished) => Poll::Ready(Ok(None)),
                Err(tcp::RecvError::InvalidState) => Poll::Ready(Err(TcpError::Reset)),
            }
        })
        .await
    }

    /// Writes some of the bytes, as soon as there is room for any; returns how many.
    ///
    /// # Errors
    /// [`TcpError::Reset`]
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, TcpError> {
        self.poll(|socket, waker| match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(waker);
                Poll::Pending
            }
            Ok(count) => Poll::Ready(Ok(count)),
            Err(tcp::SendError::InvalidState) => Poll::Ready(Err(TcpError::Reset)),
        })
        .await
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// [`TcpError::Reset`]
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), TcpError> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Says that no more will be written. What comes can still be read.
    pub fn finish(&mut self) {
        self.stack.with(|state| state.sockets.get_mut::<tcp::Socket<'_>>(self.handle).close());
    }

    /// Closes the connection and waits until the other end has, too. Whoever powers off after
    /// merely dropping it may be gone before the other end hears of that.
    pub async fn close(mut self) {
        self.finish();
        self.poll(|socket, waker| match socket.state() {
            tcp::State::Closed | tcp::State::TimeWait => Poll::Ready(()),
            _ => {
                // What still comes is for nobody.
                let _ = socket.recv(|bytes| (bytes.len(), ()));
                socket.register_recv_waker(waker);
                socket.register_send_waker(waker);
                Poll::Pending
            }
        })
        .await;
    }

    async fn poll<T>(
        &self,
        mut work: impl FnMut(&mut tcp::Socket<'static>, &core::task::Waker) -> Poll<T>,
    ) -> T {
        poll_fn(|context| {
            self.stack.poll_with(|state| {
                work(state.sockets.get_mut::<tcp::Socket<'_>>(self.handle), context.waker())
            })
        })
        .await
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.stack.with(|state| {
            state.sockets.get_mut::<tcp::Socket<'_>>(self.handle).close();
            state.closing.push(self.handle);
        });
    }
}
