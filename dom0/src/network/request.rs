//! What a guest may put on the ring for what it sends. Each slot is copied once and checked; a guest
//! that breaks the rules is disconnected, because what follows on its ring means nothing any more.

use alloc::vec::Vec;
use core::num::NonZeroU16;
use core::ops::Range;

use abi::PAGE_SIZE;
use abi::net::{
    EXTRA_MORE, ExtraInfo, ExtraKind, MAX_SLOTS, SEGMENT_TCPV4, TxFlags, TxRequest, TxResponse,
    TxStatus,
};
use abi::ring::{BackRing, RingError, SharedMemory};
use thiserror::Error;

use super::frame::{Checksum, ETHERNET_HEADER, Piece, WHOLE};

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
    /// Of [`Requests::pieces`].
    pub(super) pieces: Range<usize>,
    /// In bytes.
    pub(super) length: usize,
    pub(super) checksum: Checksum,
    pub(super) segment_size: Option<NonZeroU16>,
}

/// The frames of a burst, as the guest describes them. Kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) packets: Vec<Packet>,
    /// Where the frames are, in order.
    pub(super) pieces: Vec<Piece>,
    /// What their slots are answered with.
    answers: Vec<TxResponse>,
}

impl Requests {
    /// Whether no slots were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.packets.clear();
        self.pieces.clear();
        self.answers.clear();
    }

    /// Takes a frame's slots off the ring, if there is one. Returns its length. One that is longer than
    /// any on a wire, and not to be cut, is answered with an error and goes nowhere, as a bridge of
    /// Linux's sends it nowhere.
    pub(super) fn take<M: SharedMemory>(
        &mut self,
        ring: &mut Ring<M>,
    ) -> Result<Option<usize>, Malformed> {
        let Some(first) = ring.pop()? else { return Ok(None) };
        if usize::from(first.size) < ETHERNET_HEADER {
            return Err(Malformed::TooShort(first.size));
        }
        let flags = TxFlags::from_bits_truncate(first.flags);
        let first_answer = self.answers.len();
        self.answer(first.id, TxStatus::Okay);
        let segment_size = match flags.contains(TxFlags::EXTRA_INFO) {
            true => self.take_extra(ring)?,
            false => None,
        };
        let pieces = self.take_slots(first, ring)?;
        let length = first.size.into();
        if length > WHOLE && segment_size.is_none() {
            self.refuse(first_answer);
        } else {
            self.packets.push(Packet { pieces, length, checksum: checksum(flags), segment_size });
        }
        Ok(Some(length))
    }

    #[cold]
    fn refuse(&mut self, first_answer: usize) {
        for answer in self.answers.get_mut(first_answer..).unwrap_or_default() {
            answer.status = TxStatus::Error.raw();
        }
    }

    fn take_extra<M: SharedMemory>(
        &mut self,
        ring: &mut Ring<M>,
    ) -> Result<Option<NonZeroU16>, Malformed> {
        let mut size = None;
        for _ in 0..MAX_EXTRA {
            let info = ExtraInfo::from_tx(&ring.pop()?.ok_or(Malformed::Unfinished)?);
            self.answer(0, TxStatus::Null);
            match ExtraKind::from_raw(info.kind) {
                Some(ExtraKind::Segmentation) if size.is_none() => {
                    size = Some(segment_size(&info)?);
                }
                _ => return Err(Malformed::ExtraKind(info.kind)),
            }
            if info.flags & EXTRA_MORE == 0 {
                return Ok(size);
            }
        }
        Err(Malformed::TooManyExtra)
    }

    /// The first slot's size is the whole frame's: its own part is what the others leave.
    fn take_slots<M: SharedMemory>(
        &mut self,
        first: TxRequest,
        ring: &mut Ring<M>,
    ) -> Result<Range<usize>, Malformed> {
        let start = self.pieces.len();
        let (mut slot, mut left) = (first, first.size);
        self.pieces.push(Piece::of(&first));
        while TxFlags::from_bits_truncate(slot.flags).contains(TxFlags::MORE_DATA) {
            slot = ring.pop()?.ok_or(Malformed::Unfinished)?;
            if self.pieces.len() - start == MAX_SLOTS {
                return Err(Malformed::TooManySlots);
            }
            check(slot.offset, slot.size)?;
            left = left.checked_sub(slot.size).ok_or(Malformed::TooLong(first.size))?;
            self.pieces.push(Piece::of(&slot));
            self.answer(slot.id, TxStatus::Okay);
        }
        check(first.offset, left)?;
        if let Some(piece) = self.pieces.get_mut(start) {
            piece.length = left;
        }
        Ok(start..self.pieces.len())
    }

    fn answer(&mut self, id: u16, status: TxStatus) {
        self.answers.push(TxResponse { id, status: status.raw() });
    }

    /// Answers all slots that were taken.
    pub(super) fn answer_all<M: SharedMemory>(&self, ring: &mut Ring<M>) -> Result<(), RingError> {
        self.answers.iter().try_for_each(|answer| ring.push(answer))
    }
}

impl Piece {
    fn of(slot: &TxRequest) -> Piece {
        Piece { reference: slot.reference, offset: slot.offset, length: slot.size }
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
