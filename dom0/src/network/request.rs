//! What a guest may put on the ring for what it sends. Each slot is copied once and checked; a guest
//! that breaks the rules is disconnected, because what follows on its ring means nothing any more.

use core::num::NonZeroU16;

use abi::PAGE_SIZE;
use abi::net::{
    EXTRA_MORE, ExtraInfo, ExtraKind, MAX_SLOTS, SEGMENT_TCPV4, TxFlags, TxRequest, TxResponse,
    TxStatus,
};
use abi::ring::{BackRing, RingError, SharedMemory};
use thiserror::Error;

use super::frame::{Checksum, ETHERNET_HEADER, Piece, Pieces};

/// Slots with extra information for one frame: no kind may come twice, and there are five.
const MAX_EXTRA: usize = 5;

/// The backend's half of a ring.
pub(super) type Ring<M> = BackRing<M, TxRequest, TxResponse>;

/// How a guest breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("a frame of more than {MAX_SLOTS} slots")]
    TooManySlots,
    #[error("a frame that goes on in a slot that was not published")]
    Unfinished,
    #[error("a frame of {0} bytes")]
    TooShort(u16),
    #[error("slots that hold more than the {0} bytes of their frame")]
    TooLong(u16),
    #[error("{size} bytes from {offset} on leave their page")]
    BeyondPage { offset: u16, size: u16 },
    #[error("a slot without data")]
    EmptySlot,
    #[error("extra information of kind {0}, which was not agreed on")]
    ExtraKind(u8),
    #[error("extra information without end")]
    TooManyExtra,
    #[error("segments of {size} bytes and kind {kind}")]
    Segmentation { size: u16, kind: u8 },
}

/// A frame as the guest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) pieces: Pieces,
    pub(super) length: usize,
    pub(super) checksum: Checksum,
    pub(super) segment_size: Option<NonZeroU16>,
    /// Of its slots, in order.
    ids: heapless::Vec<u16, MAX_SLOTS>,
    /// Slots with extra information, after the first.
    extra: usize,
}

impl Packet {
    /// Takes a frame's slots off the ring, if there is one.
    pub(super) fn take<M: SharedMemory>(ring: &mut Ring<M>) -> Result<Option<Packet>, Malformed> {
        let Some(first) = ring.pop()? else { return Ok(None) };
        let flags = TxFlags::from_bits_truncate(first.flags);
        let mut packet = Packet {
            pieces: Pieces::new(),
            length: usize::from(first.size),
            checksum: checksum(flags),
            segment_size: None,
            ids: heapless::Vec::new(),
            extra: 0,
        };
        if packet.length < ETHERNET_HEADER {
            return Err(Malformed::TooShort(first.size));
        }
        if flags.contains(TxFlags::EXTRA_INFO) {
            packet.take_extra(ring)?;
        }
        packet.take_slots(first, ring)?;
        Ok(Some(packet))
    }

    fn take_extra<M: SharedMemory>(&mut self, ring: &mut Ring<M>) -> Result<(), Malformed> {
        loop {
            let info = ExtraInfo::from_tx(&ring.pop()?.ok_or(Malformed::Unfinished)?);
            self.extra += 1;
            match ExtraKind::from_raw(info.kind) {
                Some(ExtraKind::Segmentation) if self.segment_size.is_none() => {
                    self.segment_size = Some(segment_size(&info)?);
                }
                _ => return Err(Malformed::ExtraKind(info.kind)),
            }
            if info.flags & EXTRA_MORE == 0 {
                return Ok(());
            }
            if self.extra >= MAX_EXTRA {
                return Err(Malformed::TooManyExtra);
            }
        }
    }

    /// The first slot's size is the whole frame's: its own part is what the others leave.
    fn take_slots<M: SharedMemory>(
        &mut self,
        first: TxRequest,
        ring: &mut Ring<M>,
    ) -> Result<(), Malformed> {
        let (mut slot, mut left) = (first, first.size);
        loop {
            let (reference, offset) = (slot.reference, slot.offset);
            let piece = Piece { reference, offset, length: slot.size };
            let full = self.pieces.push(piece).is_err() || self.ids.push(slot.id).is_err();
            if full {
                return Err(Malformed::TooManySlots);
            }
            if self.pieces.len() > 1 {
                check(slot.offset, slot.size)?;
                left = left.checked_sub(slot.size).ok_or(Malformed::TooLong(first.size))?;
            }
            if !TxFlags::from_bits_truncate(slot.flags).contains(TxFlags::MORE_DATA) {
                break;
            }
            slot = ring.pop()?.ok_or(Malformed::Unfinished)?;
        }
        check(first.offset, left)?;
        if let Some(piece) = self.pieces.first_mut() {
            piece.length = left;
        }
        Ok(())
    }

    /// Answers all of its slots.
    pub(super) fn answer<M: SharedMemory>(
        &self,
        ring: &mut Ring<M>,
        status: TxStatus,
    ) -> Result<(), RingError> {
        let mut ids = self.ids.iter();
        let response = |id: u16, status: TxStatus| TxResponse { id, status: status.raw() };
        if let Some(&id) = ids.next() {
            ring.push(&response(id, status))?;
        }
        for _ in 0..self.extra {
            ring.push(&response(0, TxStatus::Null))?;
        }
        ids.try_for_each(|&id| ring.push(&response(id, status)))
    }
}

fn checksum(flags: TxFlags) -> Checksum {
    if flags.contains(TxFlags::CHECKSUM_BLANK) {
        Checksum::Blank
    } else if flags.contains(TxFlags::DATA_VALIDATED) {
        Checksum::Validated
    } else {
        Checksum::Unknown
    }
}

fn check(offset: u16, size: u16) -> Result<(), Malformed> {
    if size == 0 {
        return Err(Malformed::EmptySlot);
    }
    if usize::from(offset) + usize::from(size) > PAGE_SIZE {
        return Err(Malformed::BeyondPage { offset, size });
    }
    Ok(())
}

fn segment_size(info: &ExtraInfo) -> Result<NonZeroU16, Malformed> {
    let (size, kind) = (info.segment_size, info.segment_kind);
    NonZeroU16::new(size)
        .filter(|_| kind == SEGMENT_TCPV4)
        .ok_or(Malformed::Segmentation { size, kind })
}

#[cfg(test)]
mod tests;
