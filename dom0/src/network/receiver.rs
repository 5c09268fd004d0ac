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
use pv_guest_kernel::condition::Condition;
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{CopyBatch, End};
use pv_guest_kernel::shared::SharedPage;
use thiserror::Error;

use super::frame::{Buffer, Checksum, Frame};
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
    queues: Vec<RefCell<Queue>>,
    failed: Condition,
}

/// One of a guest's rings for what it receives. The frames of a connection all come through the same
/// one, in their order.
#[derive(Debug)]
struct Queue {
    channel: Rc<Channel>,
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
    /// With a ring and a channel for each queue, of which there is at least one.
    pub(super) fn new(
        domain: DomId,
        queues: impl IntoIterator<Item = (SharedPage, Rc<Channel>)>,
        abilities: Abilities,
    ) -> Receiver {
        let queue = |(page, channel)| RefCell::new(Queue::new(page, channel));
        let queues = queues.into_iter().map(queue).collect();
        Receiver { abilities, domain, queues, failed: Condition::default() }
    }

    /// Waits until the guest does something wrong.
    pub(super) async fn fault(&self) -> Fault {
        self.failed.until(|| self.found_fault()).await
    }

    pub(super) fn found_fault(&self) -> Option<Fault> {
        self.queues.iter().find_map(|queue| queue.borrow().fault)
    }

    /// Frames that it lost.
    pub(super) fn dropped(&self) -> u64 {
        self.queues.iter().map(|queue| queue.borrow().dropped).sum()
    }

    /// Where a frame belongs.
    fn queue(&self, frame: &Frame) -> Option<&RefCell<Queue>> {
        match self.queues.as_slice() {
            [only] => Some(only),
            queues => queues.get(frame.flow() as usize % queues.len().max(1)),
        }
    }

    /// Begins to deliver a frame that the guest can take.
    pub(super) fn place(&self, frame: &Frame, copies: &mut CopyBatch) {
        let Some(mut queue) = self.queue(frame).map(RefCell::borrow_mut) else { return };
        let slots = frame.length().div_ceil(PAGE_SIZE);
        let extra = usize::from(frame.segment_size.is_some());
        if slots > 1 && !self.abilities.scatter_gather {
            queue.dropped += 1;
            return;
        }
        match queue.has_posted(slots + extra) {
            Ok(true) => {
                let requests = queue.posted.drain(..slots + extra);
                let placed = place(self.domain, frame, requests, copies);
                queue.placed.push(placed);
            }
            Ok(false) => queue.dropped += 1,
            Err(error) => self.fail(&mut queue, error.into()),
        }
    }

    /// Shows the guest what was placed, once the copies have been made.
    pub(super) fn finish(&self, copies: &CopyBatch) -> Result<(), SenderFault> {
        let mut result = Ok(());
        for queue in &self.queues {
            let mut queue = queue.borrow_mut();
            for placed in core::mem::take(&mut queue.placed) {
                result = self.answer(&mut queue, placed, copies).and(result);
            }
            if queue.ring.publish() {
                queue.channel.notify();
            }
        }
        result
    }

    fn answer(
        &self,
        queue: &mut Queue,
        mut placed: Placed,
        copies: &CopyBatch,
    ) -> Result<(), SenderFault> {
        let mut result = Ok(());
        if !placed.copies.clone().all(|number| copies.is_done(number)) {
            for response in &mut placed.responses {
                response.status = TxStatus::Error.raw();
            }
            match is_readable(&placed.frame) {
                true => self.fail(queue, Fault::Grant),
                false => result = Err(SenderFault),
            }
        }
        let answered = placed.responses.iter().try_for_each(|answer| queue.ring.push(answer));
        if let Err(error) = answered {
            self.fail(queue, error.into());
        }
        result
    }

    fn fail(&self, queue: &mut Queue, fault: Fault) {
        queue.fault.get_or_insert(fault);
        self.failed.notify();
    }
}

impl Queue {
    fn new(page: SharedPage, channel: Rc<Channel>) -> Queue {
        Queue {
            channel,
            ring: BackRing::attach(page),
            posted: VecDeque::new(),
            placed: Vec::new(),
            fault: None,
            dropped: 0,
        }
    }

    /// Whether the guest has posted so many pages.
    fn has_posted(&mut self, count: usize) -> Result<bool, RingError> {
        while self.posted.len() < count {
            match self.ring.pop()? {
                Some(request) => self.posted.push_back(request),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Spreads a frame over pages. A slot for extra information, if there is to be one, is the second.
fn place(
    domain: DomId,
    frame: &Frame,
    requests: impl ExactSizeIterator<Item = RxRequest>,
    copies: &mut CopyBatch,
) -> Placed {
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
