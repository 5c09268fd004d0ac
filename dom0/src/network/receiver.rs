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
    /// Frames that are being copied, and what is said of them.
    placed: Vec<Placed>,
    responses: Vec<RxResponse>,
    fault: Option<Fault>,
    dropped: u64,
}

/// A frame that is being copied into posted pages.
#[derive(Debug)]
struct Placed {
    /// Of [`Queue::responses`].
    responses: Range<usize>,
    /// The copies that must have been made.
    copies: Range<usize>,
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
    fn queue(&self, frame: &Frame<'_>) -> Option<&RefCell<Queue>> {
        match self.queues.as_slice() {
            [only] => Some(only),
            queues => queues.get(frame.queue(queues.len())),
        }
    }

    /// Begins to deliver a frame that the guest can take.
    pub(super) fn place(&self, frame: &Frame<'_>, copies: &mut CopyBatch) {
        let Some(mut queue) = self.queue(frame).map(RefCell::borrow_mut) else { return };
        let slots = frame.length().div_ceil(PAGE_SIZE);
        let extra = usize::from(frame.segment_size.is_some());
        if slots > 1 && !self.abilities.scatter_gather {
            queue.dropped += 1;
            return;
        }
        match queue.has_posted(slots + extra) {
            Ok(true) => queue.place(self.domain, frame, slots + extra, copies),
            Ok(false) => queue.dropped += 1,
            Err(error) => self.fail(&mut queue, error.into()),
        }
    }

    /// Shows the guest what was placed, once the copies have been made.
    pub(super) fn finish(&self, copies: &CopyBatch) -> Result<(), SenderFault> {
        let mut result = Ok(());
        for queue in &self.queues {
            let queue = &mut *queue.borrow_mut();
            if !queue.placed.iter().all(|placed| placed.is_done(copies)) {
                result = self.blame(queue, copies).and(result);
            }
            if let Err(error) = queue.answer() {
                self.fail(queue, error.into());
            }
        }
        result
    }

    /// Finds out why some copies were not made: their slots are given back empty.
    #[cold]
    fn blame(&self, queue: &mut Queue, copies: &CopyBatch) -> Result<(), SenderFault> {
        let mut result = Ok(());
        let mut fault = None;
        for placed in queue.placed.iter().filter(|placed| !placed.is_done(copies)) {
            let responses = queue.responses.get_mut(placed.responses.clone()).unwrap_or_default();
            responses.iter_mut().for_each(|response| response.status = TxStatus::Error.raw());
            match placed.is_readable(copies) {
                true => fault = Some(Fault::Grant),
                false => result = Err(SenderFault),
            }
        }
        if let Some(fault) = fault {
            self.fail(queue, fault);
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
            responses: Vec::new(),
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

    /// Spreads a frame over posted pages. A slot for extra information, if there is to be one, is the
    /// second.
    fn place(&mut self, domain: DomId, frame: &Frame<'_>, slots: usize, copies: &mut CopyBatch) {
        let (first_response, first_copy) = (self.responses.len(), copies.len());
        let length = frame.length();
        let mut flags = first_flags(frame);
        let (mut reader, mut from) = (frame.reader(), 0);
        for (index, request) in self.posted.drain(..slots).enumerate() {
            if index == 1
                && let Some(size) = frame.segment_size
            {
                self.responses.push(ExtraInfo::segmentation(size.get()).into_rx());
                continue;
            }
            let to = length.min(from + PAGE_SIZE);
            reader.copy(to - from, (End::Granted(domain, request.reference), 0), copies);
            flags.set(RxFlags::MORE_DATA, to < length);
            let (id, status) = (request.id, (to - from) as i16);
            self.responses.push(RxResponse { id, offset: 0, flags: flags.bits(), status });
            from = to;
            // Of the frame as a whole, which its first slot has said.
            flags = RxFlags::empty();
        }
        let responses = first_response..self.responses.len();
        self.placed.push(Placed { responses, copies: first_copy..copies.len() });
    }

    /// Answers what was placed, and tells the guest if it wants to know.
    fn answer(&mut self) -> Result<(), RingError> {
        self.placed.clear();
        self.responses.drain(..).try_for_each(|response| self.ring.push(&response))?;
        if self.ring.publish() {
            self.channel.notify();
        }
        Ok(())
    }
}

/// What a frame's first slot says of all of it.
fn first_flags(frame: &Frame<'_>) -> RxFlags {
    let mut flags = match frame.checksum {
        Checksum::Unknown => RxFlags::empty(),
        Checksum::Validated => RxFlags::DATA_VALIDATED,
        Checksum::Blank => RxFlags::DATA_VALIDATED | RxFlags::CHECKSUM_BLANK,
    };
    flags.set(RxFlags::EXTRA_INFO, frame.segment_size.is_some());
    flags
}

impl Placed {
    fn is_done(&self, copies: &CopyBatch) -> bool {
        self.copies.clone().all(|number| copies.is_done(number))
    }

    /// Whether its sender can be read, asked when a copy from there to a guest has failed.
    #[cold]
    fn is_readable(&self, copies: &CopyBatch) -> bool {
        let Ok(scratch) = Buffer::new() else { return false };
        self.copies.clone().all(|number| copies.can_read(number, scratch.page()))
    }
}
