//! Event channels: which ports a domain has, and what each is bound to.
//!
//! This file owns a domain's [`EventTable`]. The operations on it are methods of the monitor,
//! because a channel has two ends: [`bind`] makes and closes channels, [`deliver`] sends along
//! them. [`two_level`] is the ABI by which a guest learns what is pending; another one (FIFO) would
//! stand beside it.
//!
//! What always holds: the two ends of a channel name each other, and a virtual interrupt's slot
//! names a port that names the interrupt. A domain that dies closes its ports first, so no port
//! leads to a domain that is gone.

mod bind;
mod deliver;
#[cfg(test)]
mod tests;
mod two_level;

pub use deliver::Announcement;

use abi::event::Virq;
use abi::shared_info::TWO_LEVEL_PORTS;
use abi::{DomId, Errno, Port, VcpuId};
use heapless::Vec;

use super::frame::FramePool;
use super::frame_box::FrameBox;
use crate::types::MAX_VCPUS;

/// Channels in one chunk of a table: as many as fit in a frame.
const CHUNK: u32 = 256;
/// Chunks in a full table.
const CHUNKS: usize = (TWO_LEVEL_PORTS / CHUNK) as usize;
const _: () = assert!(size_of::<Chunk>() == abi::PAGE_SIZE);

type Chunk = [Channel; CHUNK as usize];

/// What a port is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Binding {
    /// Nothing: the port is free.
    #[default]
    Closed,
    /// Nothing yet: `remote` may bind it.
    Unbound {
        /// Who may.
        remote: DomId,
    },
    /// A port of a domain, which may be the same one.
    Interdomain {
        /// Whose.
        remote: DomId,
        /// Which.
        port: Port,
    },
    /// A virtual interrupt.
    Virq(Virq),
    /// Whoever in the domain sends on it.
    Ipi,
}

/// One port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(align(16))]
pub struct Channel {
    /// What it is bound to.
    pub binding: Binding,
    /// The vCPU that is notified.
    pub vcpu: VcpuId,
}

/// Whether a virtual interrupt is the machine's (one binding) rather than a vCPU's (one each).
const fn is_global(virq: Virq) -> bool {
    match virq {
        Virq::Timer | Virq::Debug => false,
        Virq::Console | Virq::DomExc => true,
    }
}

/// Ports of one vCPU's virtual interrupts, by number; [`EventTable::NO_PORT`] if unbound. Those of
/// global ones are in vCPU 0's.
type VirqPorts = [Port; 4];

/// A domain's ports.
#[derive(Debug)]
pub struct EventTable {
    chunks: Vec<FrameBox<Chunk>, CHUNKS>,
    /// No port below this one is free.
    first_free: u32,
    virqs: [VirqPorts; MAX_VCPUS],
    /// Bit n: vCPU n sleeps in `SCHEDOP_poll`.
    pollers: u8,
}

impl EventTable {
    /// Never a valid port.
    const NO_PORT: Port = Port(0);

    /// No ports, and no frames yet.
    pub const fn new() -> Self {
        EventTable {
            chunks: Vec::new(),
            first_free: 1,
            virqs: [[Self::NO_PORT; 4]; MAX_VCPUS],
            pollers: 0,
        }
    }

    /// A port, if the table has grown so far; it may be closed.
    #[inline]
    pub fn channel(&self, port: Port) -> Option<&Channel> {
        let chunk = self.chunks.get((port.0 / CHUNK) as usize)?;
        chunk.get((port.0 % CHUNK) as usize)
    }

    #[inline]
    fn channel_mut(&mut self, port: Port) -> Option<&mut Channel> {
        let chunk = self.chunks.get_mut((port.0 / CHUNK) as usize)?;
        chunk.get_mut((port.0 % CHUNK) as usize)
    }

    /// Ports that the table has room for.
    fn capacity(&self) -> u32 {
        self.chunks.len() as u32 * CHUNK
    }

    /// Binds the lowest free port. `ENOSPC` if there is none left, `ENOMEM` if the table cannot
    /// grow.
    fn open(
        &mut self,
        pool: &mut FramePool,
        owner: DomId,
        channel: Channel,
    ) -> Result<Port, Errno> {
        let is_free = |port: &Port| {
            self.channel(*port).is_none_or(|channel| channel.binding == Binding::Closed)
        };
        // The port after the last is free if the table can grow.
        let port = (self.first_free..=self.capacity()).map(Port).find(is_free);
        let port = port.unwrap_or(Port(self.first_free));
        if port.0 >= self.capacity() {
            self.grow(pool, owner)?;
        }
        *self.channel_mut(port).ok_or(Errno::ENOSPC)? = channel;
        self.first_free = port.0 + 1;
        Ok(port)
    }

    fn grow(&mut self, pool: &mut FramePool, owner: DomId) -> Result<(), Errno> {
        if self.chunks.is_full() {
            return Err(Errno::ENOSPC);
        }
        let chunk = FrameBox::new(pool, owner, [Channel::default(); CHUNK as usize])?;
        // There is room: it was checked.
        self.chunks.push(chunk).or(Err(Errno::ENOSPC))
    }

    /// Frees a port. What was bound to it is the caller's matter.
    fn release(&mut self, port: Port) {
        if let Some(channel) = self.channel_mut(port) {
            *channel = Channel::default();
            self.first_free = self.first_free.min(port.0);
        }
    }

    /// Where the port of a virtual interrupt is noted. None if there is no such vCPU.
    fn virq_port(&mut self, virq: Virq, vcpu: VcpuId) -> Option<&mut Port> {
        let vcpu = if is_global(virq) { 0 } else { vcpu.0 as usize };
        self.virqs.get_mut(vcpu)?.get_mut(virq.raw() as usize)
    }
}

impl Default for EventTable {
    fn default() -> Self {
        Self::new()
    }
}
