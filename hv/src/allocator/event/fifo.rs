//! The FIFO event ABI (public/event_channel.h): an array of event words, and for each vCPU a
//! control block with the heads of sixteen queues. All of it is the guest's memory; what the
//! monitor remembers is where it lies, and the tail of each queue.
//!
//! The guest takes ports from the head of a queue while the monitor appends to its tail. A word's
//! LINKED bit says who may go on: who clears it has taken the port out, and with it whatever link
//! it had; a link is written only while the bit is set. A guest that writes anything else into its
//! words loses events of its own and nothing more: no word is believed but for those bits, and
//! each step is tried a bounded number of times.

use core::mem::offset_of;
use core::sync::atomic::AtomicU32;

use abi::event::fifo::{
    BUSY, ControlBlock, DEFAULT_PRIORITY, LINK_MASK, LINKED, MASKED, MAX_PAGES, PENDING,
    PRIORITIES, WORDS_PER_PAGE,
};
use abi::{Errno, PAGE_SIZE, Port, VcpuId};
use heapless::Vec;

use super::NO_PORT;
use super::news::News;
use super::word::SharedWord;
use crate::allocator::frame::FramePool;
use crate::machine::memory::RamFrame;
use crate::types::MAX_VCPUS;

/// Where a domain's words and queues are. It holds their frames.
#[derive(Debug)]
pub(super) struct Fifo {
    pages: Vec<RamFrame, MAX_PAGES>,
    queues: [Option<Queues>; MAX_VCPUS],
}

/// Where a port's word is.
#[derive(Debug, Clone, Copy)]
pub(super) struct WordPlace {
    pub(super) page: RamFrame,
    pub(super) offset: u16,
}

/// A vCPU's queues.
#[derive(Debug)]
pub(super) struct Queues {
    /// Where the [`ControlBlock`] is: 8-aligned, and it ends in the same frame.
    frame: RamFrame,
    offset: usize,
    /// The port that was appended last to each.
    tails: [Port; PRIORITIES],
}

/// One of a domain's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct QueueId {
    vcpu: u8,
    priority: u8,
}

/// What this ABI knows of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortState {
    /// The next queue that it joins, of those of the vCPU that is notified.
    priority: u8,
    /// The queue that it was in last, or still is.
    queue: QueueId,
    /// An event came when the array had no word for the port yet.
    pub(super) unheard: bool,
}

impl Default for PortState {
    fn default() -> Self {
        let queue = QueueId::default();
        PortState { priority: DEFAULT_PRIORITY, queue, unheard: false }
    }
}

impl PortState {
    /// What is left of it when the port is closed: the queue may remember it as its last.
    pub(super) fn closed(self) -> PortState {
        PortState { queue: self.queue, ..PortState::default() }
    }

    /// Changes the priority, from the next time that the port joins a queue.
    pub(super) fn set_priority(&mut self, priority: u32) -> Result<(), Errno> {
        if priority as usize >= PRIORITIES {
            return Err(Errno::EINVAL);
        }
        self.priority = priority as u8;
        Ok(())
    }
}

impl Queues {
    /// Those in the control block at `offset`, which [`Queues::fit`] there, of a frame that is held.
    pub(super) fn new(frame: RamFrame, offset: u32) -> Queues {
        Queues { frame, offset: offset as usize, tails: [NO_PORT; PRIORITIES] }
    }

    /// Whether a control block may begin at this byte of a frame.
    pub(super) fn fit(offset: u32) -> bool {
        let offset = offset as usize;
        offset.is_multiple_of(8) && offset <= PAGE_SIZE - size_of::<ControlBlock>()
    }

    fn queue(&self, priority: u8) -> Queue<'_, AtomicU32> {
        let priority = priority % PRIORITIES as u8;
        let heads = self.offset + offset_of!(ControlBlock, head);
        Queue {
            head: self.frame.u32(heads + usize::from(priority) * size_of::<u32>()),
            ready: self.frame.u32(self.offset + offset_of!(ControlBlock, ready)),
            priority,
        }
    }
}

impl Fifo {
    /// No words and no queues yet.
    pub(super) const fn new() -> Fifo {
        Fifo { pages: Vec::new(), queues: [const { None }; MAX_VCPUS] }
    }

    /// Gives a vCPU its queues. `EINVAL` if it has them. Takes over the hold on their frame.
    pub(super) fn add_queues(&mut self, vcpu: VcpuId, queues: Queues) -> Result<(), Errno> {
        match self.queues.get_mut(vcpu.0 as usize) {
            Some(place @ None) => *place = Some(queues),
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Whether a vCPU has its queues.
    pub(super) fn has_queues(&self, vcpu: VcpuId) -> bool {
        self.queues.get(vcpu.0 as usize).is_some_and(Option::is_some)
    }

    /// Whether the array has all its pages.
    pub(super) fn is_full(&self) -> bool {
        self.pages.is_full()
    }

    /// Adds a page to the array, and takes over the hold on it. Returns the first port that has its
    /// word there. `ENOSPC` if the array is full.
    pub(super) fn add_page(&mut self, page: RamFrame) -> Result<Port, Errno> {
        let first = self.pages.len() as u32 * WORDS_PER_PAGE;
        self.pages.push(page).or(Err(Errno::ENOSPC))?;
        Ok(Port(first))
    }

    /// Drops the holds on all frames.
    pub(super) fn free(self, pool: &mut FramePool) {
        let blocks = self.queues.into_iter().flatten().map(|queues| queues.frame);
        self.pages.into_iter().chain(blocks).for_each(|frame| {
            pool.release(frame);
        });
    }

    /// Where a port's word is; nowhere if the guest has not given the page with it yet.
    pub(super) fn word_place(&self, port: Port) -> Option<WordPlace> {
        let page = *self.pages.get((port.0 / WORDS_PER_PAGE) as usize)?;
        Some(WordPlace { page, offset: offset_in_page(port) })
    }

    fn word(&self, port: Port) -> Option<&AtomicU32> {
        let page = self.pages.get((port.0 / WORDS_PER_PAGE) as usize)?;
        Some(word_at(page, offset_in_page(port)))
    }

    /// Whether a port is in a queue still. Then it must not be opened again: it would become
    /// pending in a queue that may not be its own.
    pub(super) fn is_linked(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| SharedWord::load(word) & LINKED != 0)
    }

    /// Unmasks a port. Returns whether it is pending: then it must join its queue.
    pub(super) fn unmask(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| {
            word.clear(MASKED);
            SharedWord::load(word) & PENDING != 0
        })
    }

    /// Has a port that is pending join its queue, unless it is masked or in a queue. Returns
    /// whether its vCPU must be told, because that queue was empty. A vCPU without queues is told
    /// nothing: its ports must stay masked until it has them.
    #[inline(never)]
    pub(super) fn enqueue(&mut self, port: Port, vcpu: VcpuId, state: &mut PortState) -> bool {
        if !self.has_queues(vcpu) || !self.word(port).is_some_and(try_claim) {
            return false;
        }
        // If it was the last of its queue, that is empty: a successor must not be linked to a word
        // that is in another queue now.
        if let Some(tail) = self.tail(state.queue)
            && *tail == port
        {
            *tail = NO_PORT;
        }
        // Below MAX_VCPUS: it has queues.
        state.queue = QueueId { vcpu: vcpu.0 as u8, priority: state.priority };
        let Some(tail) = self.tail(state.queue) else { return false };
        let last = core::mem::replace(tail, port);
        let last_word = if last == NO_PORT { None } else { self.word(last) };
        let Some(Some(queues)) = self.queues.get(vcpu.0 as usize) else { return false };
        queues.queue(state.priority).append(last_word, port)
    }

    fn tail(&mut self, queue: QueueId) -> Option<&mut Port> {
        let queues = self.queues.get_mut(usize::from(queue.vcpu))?.as_mut()?;
        queues.tails.get_mut(usize::from(queue.priority))
    }
}

/// The word at an offset of a page of the array, in a form of which the compiler sees that it does
/// not leave the page.
#[inline(always)]
pub(super) fn word_at(page: &RamFrame, offset: u16) -> &AtomicU32 {
    page.u32(usize::from(offset) % PAGE_SIZE / size_of::<u32>() * size_of::<u32>())
}

/// Where in its page the word of a port is.
fn offset_in_page(port: Port) -> u16 {
    (port.0 % WORDS_PER_PAGE) as u16 * size_of::<u32>() as u16
}

/// Makes a port pending. No news if it was so; but if it is neither masked nor in a queue, it is to
/// join one, as in Xen: the guest has taken it out, or unmasked it without saying so, and may not
/// look again.
#[inline(always)]
pub(super) fn mark(word: &impl SharedWord<Value = u32>) -> Option<News> {
    let before = word.set(PENDING);
    if before & PENDING != 0 && before & (MASKED | LINKED) != 0 {
        return None;
    }
    Some(News::pending(before & MASKED != 0))
}

/// Takes a port for a queue. Not if it is masked or in one already.
pub(super) fn try_claim(word: &impl SharedWord<Value = u32>) -> bool {
    word.load() & MASKED == 0 && word.set(LINKED) & LINKED == 0
}

/// The words of one queue in a control block.
pub(super) struct Queue<'a, W> {
    pub(super) head: &'a W,
    pub(super) ready: &'a W,
    pub(super) priority: u8,
}

impl<W: SharedWord<Value = u32>> Queue<'_, W> {
    /// Puts a port at the end, behind the one with the word `last`. Returns whether the guest is to
    /// be told: the queue was empty, and it has looked since it was told so before.
    pub(super) fn append(&self, last: Option<&W>, port: Port) -> bool {
        if last.is_some_and(|last| link(last, port)) {
            return false;
        }
        self.head.store(port.0);
        let bit = 1 << self.priority;
        self.ready.set(bit) & bit == 0
    }
}

/// Makes `port` the successor of the port with this word, unless that has left its queue. Returns
/// whether it did.
///
/// A guest may clear PENDING, set and clear MASKED, and clear LINKED. BUSY keeps it from unmasking,
/// so that whoever plays by the rules is in the way three times more at most. Whoever does not has
/// lost the event.
fn link(word: &impl SharedWord<Value = u32>, port: Port) -> bool {
    const ATTEMPTS: usize = 5;
    let mut seen = word.load();
    for _ in 0..ATTEMPTS {
        if seen & LINKED == 0 {
            if seen & BUSY != 0 {
                word.clear(BUSY);
            }
            return false;
        }
        if word.replace(seen, seen & !(BUSY | LINK_MASK) | port.0 & LINK_MASK) {
            return true;
        }
        seen = word.set(BUSY) | BUSY;
    }
    word.clear(BUSY);
    true
}
