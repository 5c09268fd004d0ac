//! The rings of an interface (public/io/netif.h): [`transmit`] and [`receive`], a pair for each queue.
//! Pages are granted once and used again.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::task::{Context, Poll};

use abi::DomId;
use abi::net::{RxFlags, key};

use crate::event::Channel;
use crate::grant::Grant;
use crate::network::Traffic;
use crate::xenbus::{Device, Error, State, queue_prefix};
use receive::Receive;

pub(super) use transmit::Transmit;

mod fault;
mod pages;
mod receive;
mod transmit;

/// What the other end can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Abilities {
    /// Frames of several pages.
    pub(super) scatter_gather: bool,
    /// TCP that is still to be cut into segments.
    pub(super) segmentation: bool,
    /// Checksums that are still to be filled in.
    pub(super) blank_checksums: bool,
}

/// A frame that has come, and what an answer is sent by.
type Incoming<'r> = (&'r mut [u8], RxFlags, &'r mut Transmit);

/// An interface's connection to its backend.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) abilities: Abilities,
    pub(super) transmit: Transmit,
    queues: Vec<Queue>,
    /// The queue whose turn it is.
    turn: usize,
}

/// What belongs to one queue alone: of what is sent, a ring does.
#[derive(Debug)]
struct Queue {
    receive: Receive,
    channel: Channel,
}

impl Rings {
    /// Waits for the backend, offers it rings for as many queues as are wanted, if it takes so many,
    /// and waits until it has taken them.
    pub(super) async fn connect(device: &Device, wanted: NonZeroUsize) -> Result<Rings, Error> {
        device.wait_peer_return(&[State::InitWait]).await?;
        let several = wanted > NonZeroUsize::MIN;
        let queues = if several { agree(device, wanted).await? } else { wanted };
        let mut rings = Rings::new(device.peer(), queues)?;
        rings.offer(device, several).await?;
        device.wait_peer(&[State::Connected]).await?;
        rings.abilities = abilities(device).await?;
        Ok(rings)
    }

    /// Empty rings, with pages posted for what will be received. Nobody knows of them yet.
    fn new(backend: DomId, queues: NonZeroUsize) -> Result<Rings, Error> {
        let queue = |_| -> Result<Queue, Error> {
            Ok(Queue { receive: Receive::new(backend)?, channel: Channel::alloc_unbound(backend)? })
        };
        Ok(Rings {
            abilities: Abilities::default(),
            transmit: Transmit::new(backend, queues)?,
            queues: (0..queues.get()).map(queue).collect::<Result<_, _>>()?,
            turn: 0,
        })
    }

    /// Publishes what the backend must know; with how many queues there are, if there might have been
    /// several: an earlier connection may have had more of them.
    async fn offer(&self, device: &Device, several: bool) -> Result<(), Error> {
        let mut keys: Vec<(String, String)> =
            [key::REQUEST_RX_COPY, key::RX_NOTIFY, key::SCATTER_GATHER, key::GSO_TCPV4]
                .map(|key| (key.to_string(), "1".to_string()))
                .into();
        if several {
            keys.push((key::NUM_QUEUES.to_string(), self.queues.len().to_string()));
        }
        for (index, (tx, queue)) in self.transmit.grants.iter().zip(&self.queues).enumerate() {
            let Queue { receive, channel } = queue;
            let prefix = queue_prefix(index, self.queues.len());
            let reference = |grant: &Grant| grant.reference().to_string();
            keys.extend([
                (format!("{prefix}{}", key::TX_RING), reference(tx)),
                (format!("{prefix}{}", key::RX_RING), reference(&receive.grant)),
                (format!("{prefix}{}", key::EVENT_CHANNEL), channel.port().to_string()),
            ]);
        }
        let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (&**key, &**value)).collect();
        device.publish(&keys, State::Connected).await
    }

    /// Whether there is a frame to be taken, or something that is none.
    pub(super) fn has_frame(&self) -> bool {
        self.queues.iter().any(|queue| queue.receive.has_frame())
    }

    /// Takes the next frame, if there is one, from each queue in turn.
    pub(super) fn next(&mut self) -> Result<Option<Incoming<'_>>, Error> {
        for _ in 0..self.queues.len() {
            self.turn = if self.turn + 1 < self.queues.len() { self.turn + 1 } else { 0 };
            let Some(queue) = self.queues.get_mut(self.turn) else { break };
            if let Some(flags) = queue.receive.next()? {
                let frame = self.queues.get_mut(self.turn).and_then(|queue| queue.receive.frame());
                return Ok(frame.map(|frame| (frame, flags, &mut self.transmit)));
            }
        }
        Ok(None)
    }

    /// Waits until the backend has something for us.
    pub(super) fn poll_event(&self, context: &Context<'_>) -> Poll<()> {
        // Each is asked: what one of them has said is not to be heard again.
        let poll = |queue: &Queue| queue.channel.poll(context).is_ready();
        match self.queues.iter().map(poll).fold(false, |any, ready| any | ready) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Shows the backend what was put on the rings.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        for (Queue { receive, channel }, sent) in
            self.queues.iter_mut().zip(self.transmit.publish())
        {
            let posted = receive.publish()?;
            if sent || posted {
                channel.notify();
            }
        }
        Ok(())
    }

    /// Gives the backend pages before it runs out of them.
    pub(super) fn replenish(&mut self) -> Result<(), Error> {
        let runs_low = self.queues.iter().any(|queue| queue.receive.runs_low());
        if runs_low { self.flush() } else { Ok(()) }
    }

    /// To be called before waiting: whether there is something already.
    pub(super) fn final_check(&mut self) -> Result<bool, Error> {
        for queue in &mut self.queues {
            if queue.receive.final_check()? {
                return Ok(true);
            }
        }
        self.transmit.final_check()
    }

    /// What each queue has carried.
    pub(super) fn traffic(&self) -> Vec<Traffic> {
        let traffic =
            |(sent, queue): (u32, &Queue)| Traffic { sent, received: queue.receive.received() };
        self.transmit.sent().zip(&self.queues).map(traffic).collect()
    }
}

/// How many queues it is to be: as many as are wanted, or as the backend takes.
async fn agree(device: &Device, wanted: NonZeroUsize) -> Result<NonZeroUsize, Error> {
    let most = device.read_peer_optional(key::MAX_QUEUES).await?.unwrap_or(NonZeroUsize::MIN);
    Ok(wanted.min(most))
}

async fn abilities(device: &Device) -> Result<Abilities, Error> {
    let scatter_gather = device.peer_has(key::SCATTER_GATHER).await?;
    Ok(Abilities {
        scatter_gather,
        segmentation: scatter_gather && device.peer_has(key::GSO_TCPV4).await?,
        blank_checksums: !device.peer_has(key::NO_CHECKSUM_OFFLOAD).await?,
    })
}

#[cfg(test)]
mod tests;
