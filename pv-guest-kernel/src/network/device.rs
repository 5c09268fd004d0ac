//! The interface as the TCP/IP stack sees it. While there is no connection to a backend, nothing
//! comes and what is sent is lost, as on a cable that is not plugged in.

use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroUsize};

use abi::net::{MAX_FRAME, RxFlags, TxFlags};
use smoltcp::phy::{self, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::checksum::{self, Fill};
use super::rings::Rings;
use crate::xenbus::Error;

/// Bytes of a frame that is not to be cut: 1500 of data and the header.
const FRAME: usize = 1514;
/// Bytes at the beginning of a frame in which nothing of an earlier one may be left: headers need
/// not fill every bit.
const HEADERS: usize = 512;

/// The interface.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) rings: Option<Rings>,
    /// What went wrong while the stack used it.
    pub(super) error: Option<Error>,
    segmentation: bool,
    received: Vec<u8>,
    sent: Vec<u8>,
}

impl Interface {
    /// Connected for the first time: the stack learns once what can be done.
    pub(super) fn new(rings: Rings) -> Interface {
        let segmentation = rings.abilities.segmentation;
        let buffer = || alloc::vec![0; MAX_FRAME];
        let (received, sent) = (buffer(), buffer());
        Interface { rings: Some(rings), error: None, segmentation, received, sent }
    }

    /// The length of the next frame that is what it says.
    fn next_received(&mut self) -> Result<Option<usize>, Error> {
        let Some(rings) = &mut self.rings else { return Ok(None) };
        while let Some((length, flags)) = rings.receive(&mut self.received)? {
            let frame = self.received.get_mut(..length).unwrap_or_default();
            let trusted = RxFlags::DATA_VALIDATED | RxFlags::CHECKSUM_BLANK;
            if flags.intersects(trusted) || checksum::is_right(frame) {
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    fn has_room(&mut self) -> bool {
        match self.rings.as_mut().map_or(Ok(true), Rings::has_room) {
            Ok(room) => room,
            Err(error) => {
                self.error = Some(error);
                false
            }
        }
    }
}

impl phy::Device for Interface {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Outgoing<'_>)> {
        if !self.has_room() {
            return None;
        }
        let length = self.next_received().unwrap_or_else(|error| {
            self.error = Some(error);
            None
        })?;
        let Interface { rings, error, received, sent, .. } = self;
        let received = received.get(..length).unwrap_or_default();
        Some((Received(received), Outgoing { rings, error, sent, segment_size: None }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        if !self.has_room() {
            return None;
        }
        let Interface { rings, error, sent, .. } = self;
        Some(Outgoing { rings, error, sent, segment_size: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.checksum = checksum::capabilities();
        if self.segmentation {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(MAX_FRAME);
        }
        capabilities
    }
}

/// A frame that has come.
#[derive(Debug)]
pub(super) struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(self.0)
    }
}

/// The right to send a frame.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    rings: &'a mut Option<Rings>,
    error: &'a mut Option<Error>,
    sent: &'a mut Vec<u8>,
    segment_size: Option<NonZeroU16>,
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        if self.sent.len() < length {
            self.sent.resize(length, 0);
        }
        let frame = self.sent.get_mut(..length).unwrap_or_default();
        frame.iter_mut().take(HEADERS).for_each(|byte| *byte = 0);
        let result = work(frame);
        let Some(rings) = self.rings else { return result };
        let blank = rings.abilities.blank_checksums;
        let how = if blank { Fill::Pseudo } else { Fill::Whole };
        let flags = match checksum::fill(frame, how) {
            true if blank => TxFlags::CHECKSUM_BLANK | TxFlags::DATA_VALIDATED,
            _ => TxFlags::empty(),
        };
        if let Err(error) = rings.send(frame, flags, self.segment_size) {
            *self.error = Some(error);
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_size = meta.segmentation_offload_size;
    }
}
