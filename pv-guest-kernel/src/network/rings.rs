//! The two rings of an interface, and the pages behind them (public/io/netif.h). Pages are granted
//! once and used again.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroU16;

use abi::net::{
    EXTRA_MORE, ExtraInfo, MAX_SLOTS, RxFlags, RxRequest, RxResponse, TxFlags, TxRequest,
    TxResponse, key,
};
use abi::ring::FrontRing;
use abi::{DomId, PAGE_SIZE};

use crate::event::Channel;
use crate::grant::{Access, Grant};
use crate::shared::SharedPage;
use crate::xenbus::{Device, Error, State};

type TxRing = FrontRing<SharedPage, TxRequest, TxResponse>;
type RxRing = FrontRing<SharedPage, RxRequest, RxResponse>;

/// Slots of the longest frame, with one of extra information.
const SLOTS_MAX: u32 = MAX_SLOTS as u32 + 1;

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
    transmit: TxRing,
    receive: RxRing,
    channel: Channel,
    /// Granted for reading; a slot's identifier is its page's number here.
    tx_pages: Vec<Grant>,
    tx_free: Vec<u16>,
    tx_busy: Vec<bool>,
    /// Granted for writing; numbered likewise.
    rx_pages: Vec<Grant>,
    /// In the order in which they were posted, which is that of the answers.
    rx_posted: VecDeque<u16>,
    /// On the rings themselves.
    grants: [Grant; 2],
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
        let (tx_ring, rx_ring) = (SharedPage::allocate()?, SharedPage::allocate()?);
        let mut rings = Rings {
            abilities: Abilities::default(),
            transmit: TxRing::new(tx_ring.clone()),
            receive: RxRing::new(rx_ring.clone()),
            channel: Channel::alloc_unbound(backend)?,
            tx_pages: granted(backend, TxRing::SLOTS, Access::ReadOnly)?,
            tx_free: (0..TxRing::SLOTS as u16).rev().collect(),
            tx_busy: alloc::vec![false; TxRing::SLOTS as usize],
            rx_pages: granted(backend, RxRing::SLOTS, Access::ReadWrite)?,
            rx_posted: VecDeque::new(),
            grants: [
                Grant::new(&tx_ring, backend, Access::ReadWrite)?,
                Grant::new(&rx_ring, backend, Access::ReadWrite)?,
            ],
        };
        for id in 0..RxRing::SLOTS as u16 {
            rings.post(id)?;
        }
        // Nobody listens yet.
        let _ = rings.receive.publish();
        Ok(rings)
    }

    /// Publishes what the backend must know.
    async fn offer(&self, device: &Device) -> Result<(), Error> {
        let [tx, rx] = self.grants.each_ref().map(|grant| grant.reference().to_string());
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

    /// Takes back what the backend has sent. Says whether the longest frame finds room now.
    pub(super) fn has_room(&mut self) -> Result<bool, Error> {
        if self.transmit.free() < SLOTS_MAX {
            self.reap()?;
        }
        Ok(self.transmit.free() >= SLOTS_MAX)
    }

    fn reap(&mut self) -> Result<(), Error> {
        while let Some(response) = self.transmit.pop()? {
            // Slots with extra information have no page.
            let busy = self.tx_busy.get_mut(usize::from(response.id));
            if response.status != abi::net::TxStatus::Null.raw() {
                let busy = busy.filter(|busy| **busy).ok_or_else(unasked)?;
                *busy = false;
                self.tx_free.push(response.id);
            }
        }
        Ok(())
    }

    /// Puts a frame on the ring, for which there must be room.
    pub(super) fn send(
        &mut self,
        frame: &[u8],
        flags: TxFlags,
        segment_size: Option<NonZeroU16>,
    ) -> Result<(), Error> {
        let size = u16::try_from(frame.len()).map_err(|_| refused("too long a frame"))?;
        let mut parts = frame.chunks(PAGE_SIZE).peekable();
        let mut first = true;
        while let Some(part) = parts.next() {
            let id = self.tx_free.pop().ok_or_else(|| refused("no page is free"))?;
            let (Some(page), Some(busy)) =
                (self.tx_pages.get(usize::from(id)), self.tx_busy.get_mut(usize::from(id)))
            else {
                return Err(refused("no such page"));
            };
            *busy = true;
            page.page().write_bytes(0, part);
            let mut flags = if first { flags } else { TxFlags::empty() };
            flags.set(TxFlags::MORE_DATA, parts.peek().is_some());
            flags.set(TxFlags::EXTRA_INFO, first && segment_size.is_some());
            let size = if first { size } else { part.len() as u16 };
            let reference = page.reference();
            let flags = flags.bits();
            self.transmit.push(&TxRequest { reference, offset: 0, flags, id, size })?;
            if let Some(segment_size) = segment_size.filter(|_| first) {
                let extra = ExtraInfo::segmentation(segment_size.get());
                self.transmit.push(&extra.into_tx())?;
            }
            first = false;
        }
        Ok(())
    }

    /// Takes the next frame, if there is one, and posts its pages again; returns its length and
    /// flags. Frames that the backend failed to deliver are left out. `frame` must have room for the
    /// longest one.
    pub(super) fn receive(&mut self, frame: &mut [u8]) -> Result<Option<(usize, RxFlags)>, Error> {
        loop {
            let Some(first) = self.receive.pop()? else { return Ok(None) };
            let flags = RxFlags::from_bits_truncate(first.flags);
            let mut length = 0;
            let mut whole = self.take(&first, frame, &mut length)?;
            if flags.contains(RxFlags::EXTRA_INFO) {
                self.skip_extra()?;
            }
            let mut more = flags.contains(RxFlags::MORE_DATA);
            while more {
                let next = self.receive.pop()?.ok_or_else(unfinished)?;
                whole &= self.take(&next, frame, &mut length)?;
                more = RxFlags::from_bits_truncate(next.flags).contains(RxFlags::MORE_DATA);
            }
            if whole {
                return Ok(Some((length, flags)));
            }
        }
    }

    /// Copies a slot's part of a frame behind what is there. Says whether it is one.
    fn take(
        &mut self,
        response: &RxResponse,
        frame: &mut [u8],
        length: &mut usize,
    ) -> Result<bool, Error> {
        let id = self.rx_posted.pop_front().filter(|&id| id == response.id).ok_or_else(unasked)?;
        let page = self.rx_pages.get(usize::from(id)).ok_or_else(unasked)?;
        let offset = usize::from(response.offset);
        let part = usize::try_from(response.status).ok();
        let part = part.filter(|part| offset + part <= PAGE_SIZE);
        let place = part.and_then(|part| frame.get_mut(*length..*length + part));
        let whole = place.is_some();
        if let Some(place) = place {
            page.page().read_bytes(offset, place);
            *length += place.len();
        }
        self.post(id)?;
        Ok(whole)
    }

    /// Only how a frame is to be cut is said there, and nobody wants to cut it any more.
    fn skip_extra(&mut self) -> Result<(), Error> {
        loop {
            let extra = ExtraInfo::from_rx(self.receive.pop()?.ok_or_else(unfinished)?);
            let id = self.rx_posted.pop_front().ok_or_else(unasked)?;
            self.post(id)?;
            if extra.flags & EXTRA_MORE == 0 {
                return Ok(());
            }
        }
    }

    fn post(&mut self, id: u16) -> Result<(), Error> {
        let page = self.rx_pages.get(usize::from(id)).ok_or_else(unasked)?;
        self.receive.push(&RxRequest { id, padding: 0, reference: page.reference() })?;
        self.rx_posted.push_back(id);
        Ok(())
    }

    /// Shows the backend what was put on the rings.
    pub(super) fn flush(&mut self) {
        let sent = self.transmit.publish();
        let posted = self.receive.publish();
        if sent || posted {
            self.channel.notify();
        }
    }

    /// To be called before waiting: whether there is something already. What was sent is of
    /// interest only while there is no room to send more.
    pub(super) fn final_check(&mut self) -> Result<bool, Error> {
        let waits_for_room = self.transmit.free() < SLOTS_MAX;
        let room = waits_for_room && self.transmit.final_check()?;
        Ok(self.receive.final_check()? || room)
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

fn granted(backend: DomId, count: u32, access: Access) -> Result<Vec<Grant>, Error> {
    (0..count).map(|_| Ok(Grant::new(&SharedPage::allocate()?, backend, access)?)).collect()
}

fn unasked() -> Error {
    refused("the backend answers what was not asked")
}

fn unfinished() -> Error {
    refused("the backend shows half a frame")
}

fn refused(reason: &str) -> Error {
    Error::Refused(String::from(reason))
}

#[cfg(test)]
mod tests;
