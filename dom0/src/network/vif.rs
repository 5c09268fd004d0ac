//! The far end of a guest's network interface (public/io/netif.h).

use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use abi::net::{MacAddress, key};
use abi::ring::BackRing;
use abi::{DomId, GrantRef, Port};
use embassy_futures::select::{Either3, select3};
use futures_util::future::select_all;
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, CopyBatch, End, Mapping};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::xenbus::{Device, Error, State, queue_prefix};
use pv_guest_kernel::{executor, time};
use thiserror::Error as ErrorMessage;

use super::bridge::PortId;
use super::frame::{Buffer, Frame, HEAD, Head, Piece, WHOLE};
use super::receiver::{Abilities, Receiver};
use super::request::{Malformed, Requests, Ring};
use super::switch::{self, Misdeed, Plug};
use crate::credit::{Credit, Rate};

/// Frames that are taken from one guest before others get their turn.
const BURST: usize = 64;
/// And their bytes, about.
const BURST_BYTES: usize = 256 << 10;

/// Pairs of rings of one interface: as many as a guest has vCPUs at most.
const QUEUES_MAX: usize = 8;

/// What a guest did wrong; it is disconnected.
#[derive(Debug, PartialEq, Eq, ErrorMessage)]
enum Offence {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Misdeed(#[from] Misdeed),
}

/// The driver: serves one connection of a frontend. The toolstack's keys: `mac`, and `rate` as
/// bytes and microseconds.
pub(crate) async fn serve(device: &Device) -> Result<(), Error> {
    let address: MacAddress = device.read(key::MAC).await?;
    let rate: Option<Rate> = device.read("rate").await.ok();
    offer(device).await?;
    device.wait_peer(&[State::Initialised, State::Connected]).await?;
    let Connection { queues, abilities } = Connection::accept(device).await?;

    let receiving = queues.iter().map(|queue| (queue.rx.clone(), queue.rx_channel.clone()));
    let receiver = Rc::new(Receiver::new(device.peer(), receiving, abilities));
    let plug = Plug::new(address, receiver.clone());
    let credit = Rc::new(RefCell::new(Credit::new(rate, time::now())));
    let sender = |queue: Queue| Sender {
        domain: device.peer(),
        ring: BackRing::attach(queue.tx),
        channel: queue.tx_channel,
        port: plug.0,
        credit: credit.clone(),
        requests: Requests::default(),
        heads: Vec::new(),
        copies: CopyBatch::default(),
    };
    device.switch_state(State::Connected).await?;
    // Tasks of their own, so that nothing else is looked at for each frame.
    let senders = queues.into_iter().map(|queue| executor::spawn(sender(queue).run()));
    let mut senders: Vec<_> = senders.collect();
    let offence = select_all(&mut senders);
    let error = match select3(offence, device.ended(), receiver.fault()).await {
        Either3::First((offence, ..)) => refused(&offence),
        Either3::Second(error) => error,
        Either3::Third(fault) => refused(&fault),
    };
    for sender in senders {
        // The rings are not to be used any more when the guest hears that they are not.
        sender.cancel().await;
    }
    log::debug!("{device}: {} frames found no room in the guest", receiver.dropped());
    Err(error)
}

/// Says what a frontend may ask for.
async fn offer(device: &Device) -> Result<(), Error> {
    let queues = QUEUES_MAX.to_string();
    let keys = [
        (key::RX_COPY, "1"),
        ("feature-rx-flip", "0"),
        (key::SCATTER_GATHER, "1"),
        (key::GSO_TCPV4, "1"),
        (key::SPLIT_EVENT_CHANNELS, "1"),
        (key::MAX_QUEUES, &queues),
    ];
    device.publish(&keys, State::InitWait).await
}

/// What the frontend has brought.
struct Connection {
    queues: Vec<Queue>,
    abilities: Abilities,
}

/// A pair of rings, and the channels that tell of what is on them. They may be the same.
struct Queue {
    tx: SharedPage,
    tx_channel: Rc<Channel>,
    rx: SharedPage,
    rx_channel: Rc<Channel>,
}

impl Connection {
    async fn accept(device: &Device) -> Result<Connection, Error> {
        if !device.peer_has(key::REQUEST_RX_COPY).await? {
            let reason = "the frontend does not ask for copies (request-rx-copy)";
            return Err(Error::Refused(reason.into()));
        }
        let scatter_gather = device.peer_has(key::SCATTER_GATHER).await?;
        let abilities = Abilities {
            scatter_gather,
            segmentation: scatter_gather && device.peer_has(key::GSO_TCPV4).await?,
            blank_checksums: !device.peer_has(key::NO_CHECKSUM_OFFLOAD).await?,
        };
        let count = device.read_peer_optional(key::NUM_QUEUES).await?.unwrap_or(1);
        if !(1..=QUEUES_MAX).contains(&count) {
            let reason = format!("{}={count}, which is not 1 to {QUEUES_MAX}", key::NUM_QUEUES);
            return Err(Error::Refused(reason));
        }
        let mut queues = Vec::with_capacity(count);
        for index in 0..count {
            queues.push(Queue::accept(device, &queue_prefix(index, count)).await?);
        }
        Ok(Connection { queues, abilities })
    }
}

impl Queue {
    async fn accept(device: &Device, prefix: &str) -> Result<Queue, Error> {
        let key = |name: &str| format!("{prefix}{name}");
        let peer = device.peer();
        let tx = GrantRef(device.read_peer(&key(key::TX_RING)).await?);
        let rx = GrantRef(device.read_peer(&key(key::RX_RING)).await?);
        let bind = |port| Channel::bind_interdomain(peer, Port(port)).map(Rc::new);
        let split = device.read_peer_optional(&key(key::EVENT_CHANNEL_TX)).await?;
        let (tx_channel, rx_channel) = match split {
            Some(port) => {
                (bind(port)?, bind(device.read_peer(&key(key::EVENT_CHANNEL_RX)).await?)?)
            }
            None => {
                let both = bind(device.read_peer(&key(key::EVENT_CHANNEL)).await?)?;
                (both.clone(), both)
            }
        };
        // The rings' pages keep the mapping.
        let mapping = Mapping::new(peer, &[tx, rx], Access::ReadWrite)?;
        Ok(Queue { tx: mapping.page(0), tx_channel, rx: mapping.page(1), rx_channel })
    }
}

/// The way of frames from the guest.
struct Sender {
    domain: DomId,
    ring: Ring<SharedPage>,
    channel: Rc<Channel>,
    port: PortId,
    /// The interface's, whichever queue uses it.
    credit: Rc<RefCell<Credit>>,
    /// The frames of a burst, their beginnings, and the copies that these need. Kept for their
    /// memory.
    requests: Requests,
    heads: Vec<Head>,
    copies: CopyBatch,
}

/// What a queue waits for.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Event,
    Turn,
    Uplink,
    Credit(Duration),
}

impl Sender {
    /// Forwards what the guest sends until it does something wrong.
    async fn run(mut self) -> Offence {
        loop {
            match self.forward_burst() {
                Ok(Next::Event) => self.channel.wait().await,
                Ok(Next::Turn) => executor::yield_now().await,
                Ok(Next::Uplink) => switch::uplink_has_room().await,
                Ok(Next::Credit(then)) => time::sleep_until(then).await,
                Err(offence) => return offence,
            }
        }
    }

    /// Forwards what is on the ring, but not more than a burst, nor than the credit reaches.
    fn forward_burst(&mut self) -> Result<Next, Offence> {
        let mut next = self.take_burst()?;
        if !self.requests.is_empty() {
            self.read()?;
            if self.forward()? {
                next = Next::Uplink;
            }
            self.requests.answer_all(&mut self.ring).map_err(Malformed::from)?;
            if self.ring.publish() {
                self.channel.notify();
            }
        }
        match next {
            Next::Event if self.ring.final_check().map_err(Malformed::from)? => Ok(Next::Turn),
            next => Ok(next),
        }
    }

    /// Takes frames off the ring. Says what to wait for before there are more.
    fn take_burst(&mut self) -> Result<Next, Malformed> {
        self.requests.clear();
        let mut bytes = 0;
        let now = time::now();
        let mut credit = self.credit.borrow_mut();
        loop {
            if let Some(then) = credit.wait_until(now) {
                return Ok(Next::Credit(then));
            }
            if self.requests.packets.len() == BURST || bytes >= BURST_BYTES {
                return Ok(Next::Turn);
            }
            let Some(length) = self.requests.take(&mut self.ring)? else { return Ok(Next::Event) };
            credit.spend(length);
            bytes += length;
        }
    }

    /// Copies the beginnings of the frames that were taken. What is left of their pieces is the rest.
    fn read(&mut self) -> Result<(), Misdeed> {
        self.copies.clear();
        self.heads.clear();
        let Requests { packets, pieces, .. } = &mut self.requests;
        for packet in packets {
            let buffer = match Buffer::new() {
                Ok(buffer) => buffer,
                Err(error) => {
                    log::warn!("{}: frames are lost: {error}", self.domain);
                    break;
                }
            };
            let pieces = pieces.get_mut(packet.pieces.clone()).unwrap_or_default();
            let (length, passed) =
                read_head(self.domain, packet.length, pieces, &buffer, &mut self.copies);
            packet.pieces.start += passed;
            self.heads.push(Head { buffer, offset: 0, length });
        }
        let run = self.copies.run();
        let copies = &self.copies;
        if run.is_err() || !(0..copies.len()).all(|number| copies.is_done(number)) {
            return Err(Misdeed::Grant);
        }
        Ok(())
    }

    /// Delivers the frames whose beginnings were copied. Says whether the way out of the machine is
    /// to be waited for.
    fn forward(&mut self) -> Result<bool, Misdeed> {
        let Requests { packets, pieces, .. } = &self.requests;
        let sender = self.domain;
        let frames = packets.iter().zip(self.heads.drain(..)).map(|(packet, head)| Frame {
            head,
            tail: pieces.get(packet.pieces.clone()).unwrap_or_default(),
            sender,
            checksum: packet.checksum,
            segment_size: packet.segment_size,
        });
        switch::forward(self.port, frames)
    }
}

/// Has the beginning of a frame copied, and leaves the rest in its pieces. Returns how many bytes
/// that are, and how many pieces nothing is left of.
fn read_head(
    sender: DomId,
    length: usize,
    pieces: &mut [Piece],
    buffer: &Buffer,
    copies: &mut CopyBatch,
) -> (usize, usize) {
    let most = if length <= WHOLE { WHOLE } else { HEAD };
    let (mut copied, mut passed) = (0, 0);
    for piece in pieces {
        // No more than the piece has, which is 16 bits.
        let here = usize::from(piece.length).min(most - copied) as u16;
        if here > 0 {
            let source = (End::Granted(sender, piece.reference), piece.offset.into());
            copies.push(source, (End::Own(buffer.page()), copied), here.into());
        }
        copied += usize::from(here);
        // It ends in its page.
        piece.offset += here;
        piece.length -= here;
        if piece.length > 0 {
            break;
        }
        passed += 1;
    }
    (copied, passed)
}

fn refused(reason: &dyn core::fmt::Display) -> Error {
    Error::Refused(alloc::format!("the guest breaks the protocol: {reason}"))
}

#[cfg(test)]
mod tests;
