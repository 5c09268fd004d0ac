//! The half that asks.

use super::{Index, Message, Page, RingError, SharedMemory};

/// The frontend's half of a ring over the memory `M`.
#[derive(Debug)]
pub struct FrontRing<M, Request, Response> {
    page: Page<M, Request, Response>,
    /// Requests written.
    produced: u32,
    /// Requests that the peer was told of.
    published: u32,
    /// Responses taken.
    consumed: u32,
}

impl<M: SharedMemory, Request: Message, Response: Message> FrontRing<M, Request, Response> {
    /// Slots in a ring of one page: the most requests that can be unanswered at once.
    pub const SLOTS: u32 = Page::<M, Request, Response>::SLOTS;

    /// Lays out an empty ring in the page, before the peer learns of it.
    pub fn new(memory: M) -> Self {
        Self::starting_at(memory, 0)
    }

    pub(super) fn starting_at(memory: M, start: u32) -> Self {
        let page = Page::new(memory);
        page.store(Index::RequestProducer, start);
        page.store(Index::ResponseProducer, start);
        // Each side wants to hear of the very first message.
        page.store(Index::RequestEvent, start.wrapping_add(1));
        page.store(Index::ResponseEvent, start.wrapping_add(1));
        FrontRing { page, produced: start, published: start, consumed: start }
    }

    /// Requests that have no response yet, published or not.
    pub fn outstanding(&self) -> u32 {
        self.produced.wrapping_sub(self.consumed)
    }

    /// Requests that can be pushed before a response must be taken.
    pub fn free(&self) -> u32 {
        self.page.slots().saturating_sub(self.outstanding())
    }

    /// Requests that were ever pushed, modulo 2^32.
    pub fn produced(&self) -> u32 {
        self.produced
    }

    /// Responses that were ever taken, modulo 2^32.
    pub fn consumed(&self) -> u32 {
        self.consumed
    }

    /// Requests that the peer was not shown yet.
    pub fn unpublished(&self) -> u32 {
        self.produced.wrapping_sub(self.published)
    }

    /// Writes a request into the next slot. The peer sees it after [`publish`](Self::publish).
    pub fn push(&mut self, request: &Request) -> Result<(), RingError> {
        if self.free() == 0 {
            return Err(RingError::Full);
        }
        self.page.write_slot(self.produced, request);
        self.produced = self.produced.wrapping_add(1);
        Ok(())
    }

    /// Shows the peer what was pushed. Returns whether it asked to be notified.
    #[must_use = "a peer that is not notified may sleep for ever"]
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.published, self.produced);
        self.page.publish(Index::RequestProducer, Index::RequestEvent, old, self.produced)
    }

    /// Whether there is a response, or something impossible, which [`pop`](Self::pop) refuses.
    pub fn has_response(&self) -> bool {
        self.available() != Ok(0)
    }

    /// Takes the next response, if there is one.
    pub fn pop(&mut self) -> Result<Option<Response>, RingError> {
        if self.available()? == 0 {
            return Ok(None);
        }
        let response = self.page.read_slot(self.consumed);
        self.consumed = self.consumed.wrapping_add(1);
        Ok(Some(response))
    }

    /// To be called before sleeping: asks for a notification of the next response and returns
    /// whether one has come meanwhile, in which case one must not sleep.
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        if self.available()? > 0 {
            return Ok(true);
        }
        self.page.arm(Index::ResponseEvent, self.consumed);
        Ok(self.available()? > 0)
    }

    /// A peer can answer only what it was shown.
    fn available(&self) -> Result<u32, RingError> {
        let shown = self.published.wrapping_sub(self.consumed);
        self.page.available(Index::ResponseProducer, self.consumed, shown)
    }
}
