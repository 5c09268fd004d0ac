//! The interface as the TCP/IP stack sees it. While there is no connection to a backend, nothing
//! comes and nothing can be sent: what the stack wants to say waits in it.

use core::num::{NonZeroU16, NonZeroUsize};

use abi::net::{MAX_FRAME, RxFlags, TxFlags};
use smoltcp::phy::{self, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::checksum::{self, Fill};
use super::rings::{Rings, Transmit};
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
}

impl Interface {
    /// Connected for the first time: the stack learns once what can be done.
    pub(super) fn new(rings: Rings) -> Interface {
        let segmentation = rings.abilities.segmentation;
        Interface { rings: Some(rings), error: None, segmentation }
    }

    /// The connection, if a frame can be sent by it.
    fn with_room(&mut self) -> Option<(&mut Rings, &mut Option<Error>)> {
        let rings = self.rings.as_mut()?;
        match rings.transmit.has_room() {
            Ok(true) => Some((rings, &mut self.error)),
            Ok(false) => None,
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

impl phy::Device for Interface {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Outgoing<'_>)> {
        // What is asked most often, and answered by no, comes first.
        if !self.rings.as_ref()?.has_frame() {
            return None;
        }
        let (rings, error) = self.with_room()?;
        let blank = rings.abilities.blank_checksums;
        match rings.next() {
            Ok(next) => next.map(|(frame, flags, transmit)| {
                let outgoing = Outgoing { transmit, blank, error, segment_size: None };
                (Received { frame, flags }, outgoing)
            }),
            Err(cause) => {
                *error = Some(cause);
                None
            }
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        let (Rings { transmit, abilities, .. }, error) = self.with_room()?;
        let blank = abilities.blank_checksums;
        Some(Outgoing { transmit, blank, error, segment_size: None })
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
pub(super) struct Received<'a> {
    frame: &'a mut [u8],
    flags: RxFlags,
}

impl phy::RxToken for Received<'_> {
    /// What is damaged is shown as nothing at all.
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        let trusted = RxFlags::DATA_VALIDATED | RxFlags::CHECKSUM_BLANK;
        let is_right = self.flags.intersects(trusted) || checksum::is_right(self.frame);
        work(if is_right { self.frame } else { &[] })
    }
}

/// The right to send a frame.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    transmit: &'a mut Transmit,
    /// Whether checksums may be left blank.
    blank: bool,
    error: &'a mut Option<Error>,
    segment_size: Option<NonZeroU16>,
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        let Some(frame) = self.transmit.frame(length) else {
            // There was room, and the stack makes no frame longer than it was told.
            return work(&mut alloc::vec![0; length]);
        };
        frame.iter_mut().take(HEADERS).for_each(|byte| *byte = 0);
        let result = work(frame);
        let how = if self.blank { Fill::Pseudo } else { Fill::Whole };
        let mut flags = TxFlags::DATA_VALIDATED;
        flags.set(TxFlags::CHECKSUM_BLANK, checksum::fill(frame, how) && self.blank);
        if let Err(error) = self.transmit.send(length, flags, self.segment_size) {
            *self.error = Some(error);
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_size = meta.segmentation_offload_size;
    }
}
