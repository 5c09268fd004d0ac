//! Requests on their way: waiting for room on the ring, or for the backend's answer.

use alloc::collections::{BTreeMap, VecDeque};
use core::task::{Context, Poll, Waker};

use abi::block::{Operation, Request, Response, Status};
use futures_channel::oneshot;

use super::{BlockError, Buffer};
use crate::xenbus::Error;

/// What somebody wants done.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) operation: Operation,
    pub(super) sector: u64,
    pub(super) buffer: Option<Buffer>,
}

type Answer = Result<Option<Buffer>, BlockError>;

#[derive(Debug)]
struct Pending {
    work: Work,
    answer: oneshot::Sender<Answer>,
}

/// The requests of one disk.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Pending>,
    in_flight: BTreeMap<u64, Pending>,
    last_id: u64,
    driver: Option<Waker>,
    /// Nobody will ask for more.
    finished: bool,
    /// Nobody will answer any more.
    closed: bool,
}

impl Queue {
    /// Accepts work. The answer is cancelled if the device is gone for good.
    pub(super) fn submit(&mut self, work: Work) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        if !self.closed {
            self.waiting.push_back(Pending { work, answer });
            self.wake_driver();
        }
        receiver
    }

    /// The next request for the ring, which must have room for it.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        let pending = self.waiting.pop_front()?;
        self.last_id = self.last_id.wrapping_add(1);
        let buffer = pending.work.buffer.as_ref();
        let (segments, segment) = buffer.map(Buffer::segments).unwrap_or_default();
        let request = Request {
            operation: pending.work.operation.raw(),
            id: self.last_id,
            sector: pending.work.sector,
            segments,
            segment,
            ..Default::default()
        };
        self.in_flight.insert(self.last_id, pending);
        Some(request)
    }

    /// Takes the backend's answer, which must be to a request that is in flight.
    pub(super) fn complete(&mut self, response: &Response) -> Result<(), Error> {
        let Some(Pending { work, answer }) = self.in_flight.remove(&response.id) else {
            return Err(Error::Refused("the backend answers what was not asked".into()));
        };
        let result = match Status::from_raw(response.status) {
            Some(Status::Okay) => Ok(work.buffer),
            Some(Status::NotSupported) => Err(BlockError::NotSupported),
            Some(Status::Error) | None => Err(BlockError::Failed),
        };
        // Nobody may be waiting any more; the buffer is free again either way.
        let _ = answer.send(result);
        Ok(())
    }

    /// After a new connection: what the last backend did not answer is sent again, in order.
    pub(super) fn send_again(&mut self) {
        let unanswered = core::mem::take(&mut self.in_flight);
        for pending in unanswered.into_values().rev() {
            self.waiting.push_front(pending);
        }
    }

    /// Ready when the driver has something to do for the queue: a request and room for it, or
    /// nothing any more at all.
    pub(super) fn poll_waiting(&mut self, room: bool, context: &Context<'_>) -> Poll<()> {
        if (room && !self.waiting.is_empty()) || self.is_finished() {
            return Poll::Ready(());
        }
        self.driver = Some(context.waker().clone());
        Poll::Pending
    }

    /// Nobody will ask for more; what was asked is still done.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.wake_driver();
    }

    /// Whether all is done and nobody will ask for more.
    pub(super) fn is_finished(&self) -> bool {
        self.finished && self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// The device is gone for good: cancels everything, now and in future.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.in_flight.clear();
    }

    fn wake_driver(&mut self) {
        self.driver.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(sector: u64) -> Work {
        Work { operation: Operation::Flush, sector, buffer: None }
    }

    fn response(id: u64, status: Status) -> Response {
        Response { id, status: status.raw(), ..Default::default() }
    }

    #[test]
    fn answers_find_their_request_in_any_order() {
        let mut queue = Queue::default();
        let mut answers = [1, 2, 3].map(|sector| queue.submit(work(sector)));
        let ids: [u64; 3] = core::array::from_fn(|_| queue.next_request().unwrap().id);
        assert!(queue.next_request().is_none());
        queue.complete(&response(ids[2], Status::Okay)).unwrap();
        queue.complete(&response(ids[0], Status::Error)).unwrap();
        let now = answers.each_mut().map(|answer| answer.try_recv().unwrap().map(|r| r.map(drop)));
        assert_eq!(now, [Some(Err(BlockError::Failed)), None, Some(Ok(()))]);
    }

    #[test]
    fn an_answer_that_was_not_asked_for_is_an_error() {
        let mut queue = Queue::default();
        let _answer = queue.submit(work(0));
        let id = queue.next_request().unwrap().id;
        assert!(queue.complete(&response(id + 1, Status::Okay)).is_err());
        queue.complete(&response(id, Status::Okay)).unwrap();
        assert!(queue.complete(&response(id, Status::Okay)).is_err());
    }

    #[test]
    fn a_new_backend_gets_unanswered_requests_first_and_in_order() {
        let mut queue = Queue::default();
        let _answers = [1, 2, 3].map(|sector| queue.submit(work(sector)));
        let (first, _second) = (queue.next_request().unwrap(), queue.next_request().unwrap());
        queue.send_again();
        let sectors: [u64; 3] = core::array::from_fn(|_| queue.next_request().unwrap().sector);
        assert_eq!(sectors, [1, 2, 3]);
        assert!(queue.complete(&response(first.id, Status::Okay)).is_err());
    }

    #[test]
    fn a_closed_queue_cancels() {
        let mut queue = Queue::default();
        let mut before = queue.submit(work(1));
        queue.close();
        let mut after = queue.submit(work(2));
        assert!(before.try_recv().is_err() && after.try_recv().is_err());
    }
}
