//! The far end of a guest's network interface (public/io/netif.h).

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use abi::net::{MacAddress, TxStatus, key};
use abi::ring::BackRing;
use abi::{DomId, GrantRef, Port};
use embassy_futures::select::{Either3, select3};
use futures_util::FutureExt;
use futures_util::future::select_all;
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, CopyBatch, End, Mapping};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::xenbus::{Device, Error, State};
use pv_guest_kernel::{executor, time};
use thiserror::Error as ErrorMessage;

use super::bridge::PortId;
use super::frame::{Buffer, Frame, HEAD, Head, Piece, Pieces, WHOLE};
use super::receiver::{Abilities, Receiver};
use super::request::{Malformed, Packet, Ring};
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
        packets: Vec::new(),
        copies: CopyBatch::default(),
    };
    let senders = queues.into_iter().map(|queue| sender(queue).run().boxed_local());
    let senders = select_all(senders);
    device.switch_state(State::Connected).await?;
    let error = match select3(senders, device.ended(), receiver.fault()).await {
        Either3::First((offence, ..)) => refused(&offence),
        Either3::Second(error) => error,
        Either3::Third(fault) => refused(&fault),
    };
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
            // Those of a single one are not in a directory.
            let directory = if count == 1 { String::new() } else { format!("queue-{index}/") };
            queues.push(Queue::accept(device, &directory).await?);
        }
        Ok(Connection { queues, abilities })
    }
}

impl Queue {
    async fn accept(device: &Device, directory: &str) -> Result<Queue, Error> {
        let key = |name: &str| format!("{directory}{name}");
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
    /// The frames of a burst, and the copies that they need. Kept for their memory.
    packets: Vec<Packet>,
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
        self.packets.clear();
        let mut bytes = 0;
        let mut next = loop {
            if let Some(then) = self.credit.borrow_mut().wait_until(time::now()) {
                break Next::Credit(then);
            }
            if self.packets.len() == BURST || bytes >= BURST_BYTES {
                break Next::Turn;
            }
            match Packet::take(&mut self.ring)? {
                Some(packet) => {
                    self.credit.borrow_mut().spend(packet.length);
                    bytes += packet.length;
                    self.packets.push(packet);
                }
                None => break Next::Event,
            }
        };
        if !self.packets.is_empty() {
            let frames = self.read()?;
            if switch::forward(self.port, &frames, &mut self.copies)? {
                next = Next::Uplink;
            }
            for packet in &self.packets {
                packet.answer(&mut self.ring, TxStatus::Okay).map_err(Malformed::from)?;
            }
            if self.ring.publish() {
                self.channel.notify();
            }
        }
        match next {
            Next::Event if self.ring.final_check().map_err(Malformed::from)? => Ok(Next::Turn),
            next => Ok(next),
        }
    }

    /// Copies the beginnings of frames.
    fn read(&mut self) -> Result<Vec<Frame>, Misdeed> {
        self.copies.clear();
        let mut frames = Vec::with_capacity(self.packets.len());
        for packet in &self.packets {
            match Buffer::new() {
                Ok(buffer) => frames.push(begin(self.domain, packet, buffer, &mut self.copies)),
                Err(error) => log::warn!("{}: a frame is lost: {error}", self.domain),
            }
        }
        let run = self.copies.run();
        let copies = &self.copies;
        if run.is_err() || !(0..copies.len()).all(|number| copies.is_done(number)) {
            return Err(Misdeed::Grant);
        }
        Ok(frames)
    }
}

/// Has the beginning of a frame copied. The rest stays where it is.
fn begin(sender: DomId, packet: &Packet, buffer: Buffer, copies: &mut CopyBatch) -> Frame {
    let (mut length, mut tail) = (0, Pieces::new());
    let head = if packet.length <= WHOLE { WHOLE } else { HEAD };
    for &Piece { reference, offset, length: whole } in &packet.pieces {
        // No more than the piece has, which is 16 bits.
        let here = usize::from(whole).min(head - length) as u16;
        if here > 0 {
            let source = (End::Granted(sender, reference), offset.into());
            copies.push(source, (End::Own(buffer.page()), length), here.into());
            length += usize::from(here);
        }
        if here < whole {
            let rest = Piece { reference, offset: offset + here, length: whole - here };
            // There is room for as many pieces as the packet has.
            let _ = tail.push(rest);
        }
    }
    let head = Head { buffer: Rc::new(buffer), offset: 0, length };
    let (checksum, segment_size) = (packet.checksum, packet.segment_size);
    Frame { head, tail, sender, checksum, segment_size }
}

fn refused(reason: &dyn core::fmt::Display) -> Error {
    Error::Refused(alloc::format!("the guest breaks the protocol: {reason}"))
}

#[cfg(test)]
mod tests;
