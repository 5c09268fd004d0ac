//! The half that answers.

use super::{Index, Message, Page, RingError, SharedMemory};

/// The backend's half of a ring over the memory `M`.
#[derive(Debug)]
pub struct BackRing<M, Request, Response> {
    page: Page<M, Request, Response>,
    /// Requests taken.
    consumed: u32,
    /// Responses written.
    produced: u32,
    /// Responses that the peer was told of.
    published: u32,
}

impl<M: SharedMemory, Request: Message, Response: Message> BackRing<M, Request, Response> {
    /// Slots in a ring of one page: the most requests that can be unanswered at once.
    pub const SLOTS: u32 = Page::<M, Request, Response>::SLOTS;

    /// Takes up a ring that the frontend has laid out, where its last backend left it: what that
    /// one did not answer is seen again.
    pub fn attach(memory: M) -> Self {
        let page = Page::new(memory);
        let start = page.load(Index::ResponseProducer);
        BackRing { page, consumed: start, produced: start, published: start }
    }

    /// Requests that were taken and are not answered yet.
    pub fn unanswered(&self) -> u32 {
        self.consumed.wrapping_sub(self.produced)
    }

    /// Takes the next request, if there is one. This is the only time that its slot is read.
    pub fn pop(&mut self) -> Result<Option<Request>, RingError> {
        if self.available()? == 0 {
            return Ok(None);
        }
        let request = self.page.read_slot(self.consumed);
        self.consumed = self.consumed.wrapping_add(1);
        Ok(Some(request))
    }

    /// Writes a response into the next slot. The peer sees it after [`publish`](Self::publish).
    pub fn push(&mut self, response: &Response) -> Result<(), RingError> {
        if self.unanswered() == 0 {
            return Err(RingError::NothingToAnswer);
        }
        self.page.write_slot(self.produced, response);
        self.produced = self.produced.wrapping_add(1);
        Ok(())
    }

    /// Shows the peer what was pushed. Returns whether it asked to be notified.
    #[must_use = "a peer that is not notified may sleep for ever"]
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.published, self.produced);
        self.page.publish(Index::ResponseProducer, Index::ResponseEvent, old, self.produced)
    }

    /// To be called before sleeping: asks for a notification of the next request and returns
    /// whether one has come meanwhile, in which case one must not sleep.
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        if self.available()? > 0 {
            return Ok(true);
        }
        self.page.arm(Index::RequestEvent, self.consumed);
        Ok(self.available()? > 0)
    }

    /// A peer can have asked only as much as there are slots without an unanswered request.
    fn available(&self) -> Result<u32, RingError> {
        let free = self.page.slots().saturating_sub(self.unanswered());
        self.page.available(Index::RequestProducer, self.consumed, free)
    }
}
