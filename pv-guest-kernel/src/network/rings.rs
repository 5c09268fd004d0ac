//! The two rings of an interface (public/io/netif.h): [`transmit`] and [`receive`]. Pages are granted
//! once and used again.

use alloc::string::ToString;

use abi::DomId;
use abi::net::key;

use crate::event::Channel;
use crate::xenbus::{Device, Error, State};
use receive::Receive;

pub(super) use transmit::Transmit;

mod fault;
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

/// An interface's connection to its backend.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) abilities: Abilities,
    pub(super) transmit: Transmit,
    pub(super) receive: Receive,
    channel: Channel,
}

impl Rings {
    /// Waits for the backend, offers it rings, and waits until it has taken them.
    pub(super) async fn connect(device: &Device) -> Result<Rings, Error> {
        device.wait_peer_return(&[State::InitWait]).await?;
        let mut rings = Rings::new(device.peer())?;
        rings.offer(device).await?;
        device.wait_peer(&[State::Connected]).await?;
        rings.abilities = abilities(device).await?;
        Ok(rings)
    }

    /// Empty rings, with pages posted for what will be received. Nobody knows of them yet.
    fn new(backend: DomId) -> Result<Rings, Error> {
        Ok(Rings {
            abilities: Abilities::default(),
            transmit: Transmit::new(backend)?,
            receive: Receive::new(backend)?,
            channel: Channel::alloc_unbound(backend)?,
        })
    }

    /// Publishes what the backend must know.
    async fn offer(&self, device: &Device) -> Result<(), Error> {
        let [tx, rx] =
            [&self.transmit.grant, &self.receive.grant].map(|grant| grant.reference().to_string());
        let port = self.channel.port().to_string();
        let keys = [
            (key::TX_RING, tx.as_str()),
            (key::RX_RING, &rx),
            (key::EVENT_CHANNEL, &port),
            (key::REQUEST_RX_COPY, "1"),
            (key::RX_NOTIFY, "1"),
            (key::SCATTER_GATHER, "1"),
            (key::GSO_TCPV4, "1"),
        ];
        device.publish(&keys, State::Connected).await
    }

    /// Waits until the backend has something for us.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Shows the backend what was put on the rings.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let sent = self.transmit.publish();
        let posted = self.receive.publish()?;
        if sent || posted {
            self.channel.notify();
        }
        Ok(())
    }

    /// Gives the backend pages before it runs out of them.
    pub(super) fn replenish(&mut self) -> Result<(), Error> {
        if self.receive.runs_low() { self.flush() } else { Ok(()) }
    }

    /// To be called before waiting: whether there is something already.
    pub(super) fn final_check(&mut self) -> Result<bool, Error> {
        Ok(self.receive.final_check()? || self.transmit.final_check()?)
    }
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
