//! The far end of a guest's network interface (public/io/netif.h).

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::pin::pin;
use core::time::Duration;

use abi::net::{MacAddress, TxStatus, key};
use abi::ring::BackRing;
use abi::{DomId, GrantRef, Port};
use embassy_futures::select::{Either3, select3};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, CopyBatch, End, Mapping};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::xenbus::{Device, Error, State};
use pv_guest_kernel::{executor, time};
use thiserror::Error as ErrorMessage;

use super::bridge::PortId;
use super::credit::{Credit, Rate};
use super::frame::{Buffer, Frame, HEAD, Head, Piece, Pieces, WHOLE};
use super::receiver::{Abilities, Receiver};
use super::request::{Malformed, Packet, Ring};
use super::switch::{self, Misdeed, Plug};

/// Frames that are taken from one guest before others get their turn.
const BURST: usize = 64;
/// And their bytes, about.
const BURST_BYTES: usize = 256 << 10;

/// What is offered to a frontend.
const OFFER: [(&str, &str); 5] = [
    (key::RX_COPY, "1"),
    ("feature-rx-flip", "0"),
    (key::SCATTER_GATHER, "1"),
    (key::GSO_TCPV4, "1"),
    ("feature-split-event-channels", "0"),
];

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
    device.publish(&OFFER, State::InitWait).await?;
    device.wait_peer(&[State::Initialised, State::Connected]).await?;
    let Connection { rings: [tx, rx], channel, abilities } = Connection::accept(device).await?;

    let receiver = Rc::new(Receiver::new(device.peer(), rx, channel.clone(), abilities));
    let plug = Plug::new(address, receiver.clone());
    let mut sender = Sender {
        domain: device.peer(),
        ring: BackRing::attach(tx),
        channel,
        port: plug.0,
        credit: Credit::new(rate, time::now()),
    };
    device.switch_state(State::Connected).await?;
    let result = sender.run(device, &receiver).await;
    log::debug!("{device}: {} frames found no room in the guest", receiver.dropped());
    result
}

/// What the frontend has brought.
struct Connection {
    /// For what it sends, and for what it receives.
    rings: [SharedPage; 2],
    channel: Rc<Channel>,
    abilities: Abilities,
}

impl Connection {
    async fn accept(device: &Device) -> Result<Connection, Error> {
        let tx = GrantRef(device.read_peer(key::TX_RING).await?);
        let rx = GrantRef(device.read_peer(key::RX_RING).await?);
        let port = Port(device.read_peer(key::EVENT_CHANNEL).await?);
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
        // The rings' pages keep the mapping.
        let mapping = Mapping::new(device.peer(), &[tx, rx], Access::ReadWrite)?;
        let channel = Rc::new(Channel::bind_interdomain(device.peer(), port)?);
        Ok(Connection { rings: [mapping.page(0), mapping.page(1)], channel, abilities })
    }
}

/// The way of frames from the guest.
struct Sender {
    domain: DomId,
    ring: Ring<SharedPage>,
    channel: Rc<Channel>,
    port: PortId,
    credit: Credit,
}

/// What a guest's task waits for.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Event,
    Turn,
    Uplink,
    Credit(Duration),
}

impl Sender {
    /// Forwards what the guest sends until it goes away or does something wrong.
    async fn run(&mut self, device: &Device, receiver: &Receiver) -> Result<(), Error> {
        let mut ended = pin!(device.ended());
        let mut fault = pin!(receiver.fault());
        loop {
            let next = self.forward_burst().map_err(|offence| refused(&offence))?;
            let wait = pin!(async {
                match next {
                    Next::Event => self.channel.wait().await,
                    Next::Turn => executor::yield_now().await,
                    Next::Uplink => switch::uplink_has_room().await,
                    Next::Credit(then) => time::sleep_until(then).await,
                }
            });
            match select3(wait, ended.as_mut(), fault.as_mut()).await {
                Either3::First(()) => {}
                Either3::Second(error) => return Err(error),
                Either3::Third(fault) => return Err(refused(&fault)),
            }
        }
    }

    /// Forwards what is on the ring, but not more than a burst, nor than the credit reaches.
    fn forward_burst(&mut self) -> Result<Next, Offence> {
        let (mut packets, mut bytes) = (Vec::new(), 0);
        let mut next = loop {
            if let Some(then) = self.credit.wait_until(time::now()) {
                break Next::Credit(then);
            }
            if packets.len() == BURST || bytes >= BURST_BYTES {
                break Next::Turn;
            }
            match Packet::take(&mut self.ring)? {
                Some(packet) => {
                    self.credit.spend(packet.length);
                    bytes += packet.length;
                    packets.push(packet);
                }
                None => break Next::Event,
            }
        };
        if !packets.is_empty() {
            let frames = self.read(&packets)?;
            if switch::forward(self.port, &frames)? {
                next = Next::Uplink;
            }
            for packet in &packets {
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
    fn read(&self, packets: &[Packet]) -> Result<Vec<Frame>, Misdeed> {
        let mut copies = CopyBatch::default();
        let mut frames = Vec::with_capacity(packets.len());
        for packet in packets {
            match Buffer::new() {
                Ok(buffer) => frames.push(self.begin(packet, buffer, &mut copies)),
                Err(error) => log::warn!("{}: a frame is lost: {error}", self.domain),
            }
        }
        let run = copies.run();
        if run.is_err() || !(0..copies.len()).all(|number| copies.is_done(number)) {
            return Err(Misdeed::Grant);
        }
        Ok(frames)
    }

    fn begin(&self, packet: &Packet, buffer: Buffer, copies: &mut CopyBatch) -> Frame {
        let sender = self.domain;
        let (mut length, mut tail) = (0, Pieces::new());
        let head = if packet.length <= WHOLE { WHOLE } else { HEAD };
        for &Piece { reference, offset, length: whole } in &packet.pieces {
            let here = whole.min(head - length);
            if here > 0 {
                let source = (End::Granted(sender, reference), offset);
                copies.push(source, (End::Own(buffer.page()), length), here);
                length += here;
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
}

fn refused(reason: &dyn core::fmt::Display) -> Error {
    Error::Refused(alloc::format!("the guest breaks the protocol: {reason}"))
}

#[cfg(test)]
mod tests;
