//! Connections that have come to a port and that nobody has accepted yet.
//!
//! A socket of the stack listens for one connection. So there is always one more that listens, as
//! long as not too many wait.

use alloc::collections::VecDeque;
use alloc::vec;
use core::task::Waker;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

/// How long a peer may be silent while something is expected of it.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often a peer is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Bytes of a connection's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// For what was received and not read yet: the window that the peer sees.
    pub receive: usize,
    /// For what was written and is not acknowledged yet.
    pub send: usize,
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers { receive: 16 << 10, send: 32 << 10 }
    }
}

/// A port's waiting connections.
#[derive(Debug)]
pub(super) struct Backlog {
    port: u16,
    buffers: Buffers,
    /// How many may wait.
    limit: usize,
    listening: Option<SocketHandle>,
    waiting: VecDeque<SocketHandle>,
    /// Whoever accepts.
    pub(super) waker: Option<Waker>,
}

/// A socket with buffers of these sizes.
pub(super) fn socket(buffers: Buffers) -> tcp::Socket<'static> {
    let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
    let mut socket = tcp::Socket::new(buffer(buffers.receive), buffer(buffers.send));
    socket.set_timeout(Some(TIMEOUT));
    socket.set_keep_alive(Some(KEEP_ALIVE));
    // All that came in a burst is acknowledged at its end anyway, and a peer may wait for it.
    socket.set_ack_delay(None);
    // Whoever writes little at a time means it.
    socket.set_nagle_enabled(false);
    socket
}

impl Backlog {
    pub(super) fn new(port: u16, buffers: Buffers, limit: usize) -> Backlog {
        Backlog { port, buffers, limit, listening: None, waiting: VecDeque::new(), waker: None }
    }

    /// Has a new socket listen if the last one has got a connection.
    pub(super) fn keep_listening(&mut self, sockets: &mut SocketSet<'_>) {
        if let Some(handle) = self.listening {
            if sockets.get::<tcp::Socket<'_>>(handle).state() == tcp::State::Listen {
                return;
            }
            self.waiting.push_back(handle);
            self.listening = None;
        }
        if self.waiting.len() >= self.limit {
            return;
        }
        let mut socket = socket(self.buffers);
        // It fails for port zero only, which nobody can listen on.
        if socket.listen(self.port).is_ok() {
            self.listening = Some(sockets.add(socket));
        }
    }

    /// Forgets connections that were given up before they were accepted, and wakes whoever accepts
    /// if there are others.
    pub(super) fn update(&mut self, sockets: &mut SocketSet<'_>) {
        self.waiting.retain(|&handle| {
            let state = sockets.get::<tcp::Socket<'_>>(handle).state();
            // A reset in the middle of the handshake makes it listen again.
            let gone = matches!(state, tcp::State::Closed | tcp::State::Listen);
            if gone {
                sockets.remove(handle);
            }
            !gone
        });
        self.keep_listening(sockets);
        if self.waiting.iter().any(|&handle| is_complete(sockets, handle)) {
            self.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Takes the first connection that is complete.
    pub(super) fn accept(&mut self, sockets: &mut SocketSet<'_>) -> Option<SocketHandle> {
        let position = self.waiting.iter().position(|&handle| is_complete(sockets, handle))?;
        self.waiting.remove(position)
    }

    /// Listens no more.
    pub(super) fn close(self, sockets: &mut SocketSet<'_>) {
        for handle in self.waiting.into_iter().chain(self.listening) {
            sockets.remove(handle);
        }
    }
}

fn is_complete(sockets: &SocketSet<'_>, handle: SocketHandle) -> bool {
    let state = sockets.get::<tcp::Socket<'_>>(handle).state();
    !matches!(state, tcp::State::SynReceived | tcp::State::Listen | tcp::State::Closed)
}
