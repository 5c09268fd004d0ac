//! Event channels: which ports a domain has, and what each is bound to.
//!
//! This file owns a domain's [`EventTable`]. The operations on it are methods of the monitor,
//! because a channel has two ends: [`bind`] makes and closes channels, [`deliver`] sends along
//! them, [`switch`] changes the ABI by which a guest learns what is pending. There are two of those,
//! [`two_level`] and [`fifo`]; a domain has one of them at a time, and [`pending_bit`] is what they
//! have in common.
//!
//! What always holds:
//! - The two ends of a channel name each other, and a virtual interrupt's slot names a port that
//!   names the interrupt. A domain that dies closes its ports first, so no port leads to a domain
//!   that is gone.
//! - A channel's [`Channel::target`] is where the domain that it leads to has the pending bit of the
//!   port that it leads to, and nowhere if it leads nowhere: sending need not look up more than its
//!   own end. [`EventTable::pending_bit`] of the other end is the only source of it; it changes with
//!   the other end's domain's ABI and with its array of event words, and then every channel that
//!   leads there is changed with it, under the same lock ([`Monitor::redirect`]). Both kinds of
//!   frames that it can name are held as long as a port is open: the shared page is the domain's
//!   own until it is gone, and the event words are given back only when all ports are closed.
//!
//! [`Monitor::redirect`]: crate::allocator::Monitor

mod bind;
mod deliver;
mod fifo;
mod news;
mod pending_bit;
mod ports;
mod switch;
#[cfg(test)]
mod tests;
mod two_level;
mod upcall;
mod word;

pub use deliver::Announcement;

use abi::event::{VIRQS, Virq, fifo as fifo_abi};
use abi::shared_info::TWO_LEVEL_PORTS;
use abi::{DomId, Errno, Port, VcpuId};

use self::fifo::Fifo;
use self::pending_bit::PendingBit;
use self::ports::Ports;
use self::upcall::Effect;
use super::frame::FramePool;
use super::frame_box::FrameBox;
use super::vcpu::InfoPlace;
use crate::machine::memory::RamFrame;
use crate::types::MAX_VCPUS;

/// Never a valid port.
const NO_PORT: Port = Port(0);

/// What a port is bound to. What events are sent on comes first: it is recognised soonest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// A port of a domain, which may be the same one.
    Interdomain {
        /// Whose.
        remote: DomId,
        /// Which.
        port: Port,
    },
    /// Whoever in the domain sends on it.
    Ipi,
    /// Nothing yet: `remote` may bind it.
    Unbound {
        /// Who may.
        remote: DomId,
    },
    /// A virtual interrupt.
    Virq(Virq),
    /// Nothing: the port is free.
    Closed {
        /// In the list of free ports.
        next_free: Port,
    },
}

impl Default for Binding {
    fn default() -> Self {
        Binding::Closed { next_free: NO_PORT }
    }
}

/// One port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Channel {
    /// What it is bound to.
    pub binding: Binding,
    /// The vCPU that is notified.
    pub vcpu: VcpuId,
    fifo: fifo::PortState,
    /// What an event sent on it sets.
    target: PendingBit,
}

impl Channel {
    /// Whether it is bound to something.
    fn is_open(&self) -> bool {
        !matches!(self.binding, Binding::Closed { .. })
    }

    /// The port that an event sent on this one makes pending, if there is one. This one is `port`
    /// of `owner`.
    #[inline(always)]
    fn leads_to(&self, owner: DomId, port: Port) -> Option<(DomId, Port)> {
        match self.binding {
            Binding::Interdomain { remote, port } => Some((remote, port)),
            Binding::Ipi => Some((owner, port)),
            Binding::Closed { .. } | Binding::Unbound { .. } | Binding::Virq(_) => None,
        }
    }
}

/// Whether a virtual interrupt is the machine's (one binding) rather than a vCPU's (one each).
const fn is_global(virq: Virq) -> bool {
    !matches!(virq, Virq::Timer | Virq::Debug | Virq::Profile | Virq::Pmu)
}

/// Ports of one vCPU's virtual interrupts, by number; [`NO_PORT`] if unbound. Those of global ones
/// are in vCPU 0's.
type VirqPorts = [Port; VIRQS];

/// How a domain learns what is pending.
#[derive(Debug)]
enum Abi {
    TwoLevel,
    Fifo(FrameBox<Fifo>),
}

/// A domain's ports.
#[derive(Debug)]
pub struct EventTable {
    ports: Ports,
    abi: Abi,
    /// The page in which the 2-level ABI has its bits.
    shared_info: RamFrame,
    virqs: [VirqPorts; MAX_VCPUS],
    /// Bit n: vCPU n sleeps in `SCHEDOP_poll`.
    pollers: u8,
    /// The highest port that the domain may have.
    max_port: u32,
}

impl EventTable {
    /// No ports, and no frames yet; there may be ports up to `max_port`.
    pub const fn new(shared_info: RamFrame, max_port: u32) -> Self {
        EventTable {
            ports: Ports::new(),
            abi: Abi::TwoLevel,
            shared_info,
            virqs: [[NO_PORT; VIRQS]; MAX_VCPUS],
            pollers: 0,
            max_port,
        }
    }

    /// The highest port that the domain may have, if its ABI can name it.
    pub const fn max_port(&self) -> u32 {
        self.max_port
    }

    /// Its open ports: what each is bound to, and whether it is pending and masked.
    pub fn open_ports(&self) -> impl Iterator<Item = (Port, &Channel, bool, bool)> {
        self.ports.touched(0..u32::MAX).filter_map(|port| {
            let channel = self.ports.get(port).filter(|channel| channel.is_open())?;
            let bit = self.pending_bit(port);
            Some((port, channel, bit.is_set(), bit.is_masked()))
        })
    }

    /// Binds a free port. `ENOSPC` if there is none left, `ENOMEM` if the table cannot grow.
    fn open(
        &mut self,
        pool: &mut FramePool,
        owner: DomId,
        binding: Binding,
        vcpu: VcpuId,
    ) -> Result<Port, Errno> {
        let limit = self.max_port.saturating_add(1);
        let port = match &self.abi {
            Abi::TwoLevel => self.ports.open(pool, owner, TWO_LEVEL_PORTS.min(limit), |_| false),
            Abi::Fifo(fifo) => {
                let limit = fifo_abi::PORTS.min(limit);
                self.ports.open(pool, owner, limit, |port| fifo.is_linked(port))
            }
        }?;
        let channel = self.ports.get_mut(port).ok_or(Errno::ENOSPC)?;
        (channel.binding, channel.vcpu) = (binding, vcpu);
        Ok(port)
    }

    /// Where the guest is shown that a port is pending.
    fn pending_bit(&self, port: Port) -> PendingBit {
        match &self.abi {
            Abi::TwoLevel => PendingBit::two_level(self.shared_info, port),
            Abi::Fifo(fifo) => PendingBit::fifo(fifo.word_place(port)),
        }
    }

    /// Lets the vCPU whose record is at `info` find a port that is pending and not masked.
    #[inline(always)]
    fn announce(&mut self, port: Port, info: Option<InfoPlace>) -> Effect {
        match &mut self.abi {
            Abi::TwoLevel => two_level::announce(info, port),
            Abi::Fifo(fifo) => {
                let Some(channel) = self.ports.get_mut(port) else { return Effect::None };
                let must_tell = fifo.enqueue(port, channel.vcpu, &mut channel.fifo);
                if must_tell { upcall::raise_at(info) } else { Effect::None }
            }
        }
    }

    /// Unmasks a port. If it is pending, its vCPU can find it now.
    fn unmask(&mut self, port: Port, info: Option<InfoPlace>) -> Effect {
        let due = match &self.abi {
            Abi::TwoLevel => two_level::unmask(self.shared_info, port),
            Abi::Fifo(fifo) => fifo.unmask(port),
        };
        if due { self.announce(port, info) } else { Effect::None }
    }

    /// Where the port of a virtual interrupt is noted. None if there is no such vCPU.
    fn virq_port(&mut self, virq: Virq, vcpu: VcpuId) -> Option<&mut Port> {
        let vcpu = if is_global(virq) { 0 } else { vcpu.0 as usize };
        self.virqs.get_mut(vcpu)?.get_mut(virq.raw() as usize)
    }
}
