//! The way of frames to a guest: into the pages that it has posted. A guest that has posted too few
//! loses frames, as behind any switch: nobody waits for it.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;

use abi::net::{ExtraInfo, RxFlags, RxRequest, RxResponse, TxStatus};
use abi::ring::{BackRing, RingError};
use abi::{DomId, PAGE_SIZE};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{CopyBatch, End};
use pv_guest_kernel::shared::SharedPage;
use thiserror::Error;

use super::frame::{Buffer, Checksum, Frame};
use pv_guest_kernel::condition::Condition;

/// What a guest can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Frames of several pages.
    pub(super) scatter_gather: bool,
    /// TCP that is still to be cut into segments.
    pub(super) segmentation: bool,
    /// Checksums that are still to be filled in.
    pub(super) blank_checksums: bool,
}

/// What a guest did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("a page was posted that cannot be written")]
    Grant,
}

/// The sender's grants cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderFault;

/// A guest's receiving side. Used by whoever has a frame for it.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) abilities: Abilities,
    domain: DomId,
    channel: Rc<Channel>,
    state: RefCell<State>,
    failed: Condition,
}

#[derive(Debug)]
struct State {
    ring: BackRing<SharedPage, RxRequest, RxResponse>,
    /// Pages taken off the ring and not filled yet.
    posted: VecDeque<RxRequest>,
    /// Frames that are being copied.
    placed: Vec<Placed>,
    fault: Option<Fault>,
    dropped: u64,
}

/// A frame that is being copied into posted pages.
#[derive(Debug)]
struct Placed {
    responses: Vec<RxResponse>,
    /// The copies that must have been made.
    copies: Range<usize>,
    /// Where the source of each is, to find who is to blame.
    frame: Frame,
}

impl Receiver {
    pub(super) fn new(
        domain: DomId,
        page: SharedPage,
        channel: Rc<Channel>,
        abilities: Abilities,
    ) -> Receiver {
        let state = State {
            ring: BackRing::attach(page),
            posted: VecDeque::new(),
            placed: Vec::new(),
            fault: None,
            dropped: 0,
        };
        Receiver {
            abilities,
            domain,
            channel,
            state: RefCell::new(state),
            failed: Condition::default(),
        }
    }

    /// Waits until the guest does something wrong.
    pub(super) async fn fault(&self) -> Fault {
        self.failed.until(|| self.state.borrow().fault).await
    }

    #[cfg(test)]
    pub(super) fn state_fault(&self) -> Option<Fault> {
        self.state.borrow().fault
    }

    /// Frames that it lost.
    pub(super) fn dropped(&self) -> u64 {
        self.state.borrow().dropped
    }

    /// Begins to deliver a frame that the guest can take.
    pub(super) fn place(&self, frame: &Frame, copies: &mut CopyBatch) {
        let mut state = self.state.borrow_mut();
        let slots = frame.length().div_ceil(PAGE_SIZE);
        let extra = usize::from(frame.segment_size.is_some());
        if slots > 1 && !self.abilities.scatter_gather {
            state.dropped += 1;
            return;
        }
        match state.take_posted(slots + extra) {
            Ok(Some(requests)) => {
                let placed = place(self.domain, frame, &requests, copies);
                state.placed.push(placed);
            }
            Ok(None) => state.dropped += 1,
            Err(error) => self.fail(&mut state, error.into()),
        }
    }

    /// Shows the guest what was placed, once the copies have been made.
    pub(super) fn finish(&self, copies: &CopyBatch) -> Result<(), SenderFault> {
        let mut state = self.state.borrow_mut();
        let mut result = Ok(());
        for mut placed in core::mem::take(&mut state.placed) {
            if !placed.copies.clone().all(|number| copies.is_done(number)) {
                for response in &mut placed.responses {
                    response.status = TxStatus::Error.raw();
                }
                match is_readable(&placed.frame) {
                    true => self.fail(&mut state, Fault::Grant),
                    false => result = Err(SenderFault),
                }
            }
            let answered = placed.responses.iter().try_for_each(|answer| state.ring.push(answer));
            if let Err(error) = answered {
                self.fail(&mut state, error.into());
            }
        }
        if state.ring.publish() {
            self.channel.notify();
        }
        result
    }

    fn fail(&self, state: &mut State, fault: Fault) {
        state.fault.get_or_insert(fault);
        self.failed.notify();
    }
}

impl State {
    /// So many of the pages that the guest has posted; `None` if there are fewer.
    fn take_posted(&mut self, count: usize) -> Result<Option<Vec<RxRequest>>, RingError> {
        while self.posted.len() < count {
            match self.ring.pop()? {
                Some(request) => self.posted.push_back(request),
                None => return Ok(None),
            }
        }
        Ok(Some(self.posted.drain(..count).collect()))
    }
}

/// Spreads a frame over pages. A slot for extra information, if there is to be one, is the second.
fn place(domain: DomId, frame: &Frame, requests: &[RxRequest], copies: &mut CopyBatch) -> Placed {
    let first_copy = copies.len();
    let length = frame.length();
    let mut responses = Vec::with_capacity(requests.len());
    let mut flags = match frame.checksum {
        Checksum::Unknown => RxFlags::empty(),
        Checksum::Validated => RxFlags::DATA_VALIDATED,
        Checksum::Blank => RxFlags::DATA_VALIDATED | RxFlags::CHECKSUM_BLANK,
    };
    let (mut reader, mut from) = (frame.reader(), 0);
    for request in requests {
        if from > 0
            && responses.len() == 1
            && let Some(size) = frame.segment_size
        {
            responses.push(ExtraInfo::segmentation(size.get()).into_rx());
            continue;
        }
        let to = length.min(from + PAGE_SIZE);
        reader.copy(to - from, (End::Granted(domain, request.reference), 0), copies);
        flags.set(RxFlags::MORE_DATA, to < length);
        flags.set(RxFlags::EXTRA_INFO, from == 0 && frame.segment_size.is_some());
        let status = (to - from) as i16;
        responses.push(RxResponse { id: request.id, offset: 0, flags: flags.bits(), status });
        from = to;
        // Of the frame as a whole, which its first slot has said.
        flags = RxFlags::empty();
    }
    Placed { responses, copies: first_copy..copies.len(), frame: frame.clone() }
}

/// Whether a frame's sender can be read; asked when a copy from there to a guest has failed.
#[cold]
fn is_readable(frame: &Frame) -> bool {
    let Ok(scratch) = Buffer::new() else { return false };
    let mut copies = CopyBatch::default();
    let (mut reader, mut left) = (frame.reader(), frame.length());
    while left > 0 {
        let count = left.min(PAGE_SIZE);
        reader.copy(count, (End::Own(scratch.page()), 0), &mut copies);
        left -= count;
    }
    copies.run().is_ok() && (0..copies.len()).all(|number| copies.is_done(number))
}
