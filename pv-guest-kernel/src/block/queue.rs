//! Requests on their way: waiting for room on the ring, or for the backend's answer.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};

use abi::block::{DiscardRequest, IndirectRequest, Operation, Request, Response, Status};
use futures_channel::oneshot;

use super::{BlockError, Buffer};
use crate::xenbus::Error;

/// What somebody wants done, from a sector on.
#[derive(Debug)]
pub(super) enum Work {
    Read(u64, Buffer),
    Write(u64, Buffer),
    Discard { sector: u64, sectors: u64 },
    Flush,
}

impl Work {
    /// The request that asks for it.
    fn request(&self, id: u64) -> Request {
        let operation = match self {
            Work::Read(sector, buffer) => return transfer(Operation::Read, id, *sector, buffer),
            Work::Write(sector, buffer) => return transfer(Operation::Write, id, *sector, buffer),
            Work::Discard { sector, sectors } => {
                let (operation, sector, sectors) = (Operation::Discard.raw(), *sector, *sectors);
                let request =
                    DiscardRequest { operation, id, sector, sectors, ..Default::default() };
                return request.into();
            }
            Work::Flush => Operation::Flush.raw(),
        };
        Request { operation, id, ..Default::default() }
    }

    fn buffer(self) -> Option<Buffer> {
        match self {
            Work::Read(_, buffer) | Work::Write(_, buffer) => Some(buffer),
            Work::Discard { .. } | Work::Flush => None,
        }
    }
}

fn transfer(operation: Operation, id: u64, sector: u64, buffer: &Buffer) -> Request {
    let count = buffer.segment_count();
    let Some(list) = buffer.list() else {
        // A buffer without a list has few pages.
        let (operation, segments, segment) = (operation.raw(), count as u8, buffer.segments());
        return Request { operation, segments, id, sector, segment, ..Default::default() };
    };
    let mut request = IndirectRequest {
        operation: Operation::Indirect.raw(),
        indirect_operation: operation.raw(),
        segments: count as u16,
        id,
        sector,
        ..Default::default()
    };
    request.pages[0] = list;
    request.into()
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
    /// By the request's number, with its rank in the order in which they were made.
    in_flight: Vec<Option<(u64, Pending)>>,
    /// Numbers that are not in flight.
    free: Vec<usize>,
    made: u64,
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
        }
        receiver
    }

    /// The next request for the ring, which must have room for it.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        let pending = self.waiting.pop_front()?;
        let number = self.free.pop().unwrap_or_else(|| {
            self.in_flight.push(None);
            self.in_flight.len() - 1
        });
        let request = pending.work.request(number as u64);
        self.made += 1;
        self.in_flight[number] = Some((self.made, pending));
        Some(request)
    }

    /// Takes the backend's answer, which must be to a request that is in flight.
    pub(super) fn complete(&mut self, response: &Response) -> Result<(), Error> {
        let number = usize::try_from(response.id).unwrap_or(usize::MAX);
        let Some((_, Pending { work, answer })) =
            self.in_flight.get_mut(number).and_then(Option::take)
        else {
            return Err(Error::Refused("the backend answers what was not asked".into()));
        };
        self.free.push(number);
        let result = match Status::from_raw(response.status) {
            Some(Status::Okay) => Ok(work.buffer()),
            Some(Status::NotSupported) => Err(BlockError::NotSupported),
            Some(Status::Error) | None => Err(BlockError::Failed),
        };
        // Nobody may be waiting any more; the buffer is free again either way.
        let _ = answer.send(result);
        Ok(())
    }

    /// After a new connection: what the last backend did not answer is sent again, in order.
    pub(super) fn send_again(&mut self) {
        self.free.clear();
        let mut unanswered: Vec<(u64, Pending)> = self.in_flight.drain(..).flatten().collect();
        unanswered.sort_unstable_by_key(|(rank, _)| *rank);
        for (_, pending) in unanswered.into_iter().rev() {
            self.waiting.push_front(pending);
        }
    }

    /// Ready when nobody will ask for more and all is done.
    pub(super) fn poll_finished(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.is_finished() {
            return Poll::Ready(());
        }
        self.driver = Some(context.waker().clone());
        Poll::Pending
    }

    /// Nobody will ask for more; what was asked is still done.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.driver.take().into_iter().for_each(Waker::wake);
    }

    /// The device is gone for good: cancels everything, now and in future.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.in_flight.clear();
    }

    fn is_finished(&self) -> bool {
        self.finished && self.waiting.is_empty() && self.in_flight.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use abi::DomId;

    use super::super::buffer::Pool;
    use super::*;

    fn work(sector: u64) -> Work {
        Work::Discard { sector, sectors: 1 }
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
        for other in [id + 1, u64::MAX] {
            assert!(queue.complete(&response(other, Status::Okay)).is_err());
        }
        queue.complete(&response(id, Status::Okay)).unwrap();
        assert!(queue.complete(&response(id, Status::Okay)).is_err());
    }

    #[test]
    fn a_new_backend_gets_unanswered_requests_first_and_in_order() {
        let mut queue = Queue::default();
        let _answers: Vec<_> = (1..6).map(|sector| queue.submit(work(sector))).collect();
        let ids: [u64; 3] = core::array::from_fn(|_| queue.next_request().unwrap().id);
        // A later request has an earlier one's number.
        queue.complete(&response(ids[0], Status::Okay)).unwrap();
        assert_eq!(queue.next_request().unwrap().id, ids[0]);
        queue.send_again();
        let sectors: [u64; 4] = core::array::from_fn(|_| queue.next_request().unwrap().sector);
        assert_eq!(sectors, [2, 3, 4, 5]);
        assert!(queue.complete(&response(4, Status::Okay)).is_err());
    }

    #[test]
    fn a_closed_queue_cancels() {
        let mut queue = Queue::default();
        let mut before = queue.submit(work(1));
        queue.close();
        let mut after = queue.submit(work(2));
        assert!(before.try_recv().is_err() && after.try_recv().is_err());
    }

    #[test]
    fn many_pages_make_an_indirect_request() {
        let pool = Pool::new(DomId::DOM0);
        let request =
            |pages: usize| Work::Write(8, pool.buffer(pages * abi::PAGE_SIZE).unwrap()).request(5);
        let direct = request(11);
        assert_eq!((direct.operation, direct.segments), (Operation::Write.raw(), 11));
        let indirect = request(12).as_indirect();
        assert_eq!(indirect.operation, Operation::Indirect.raw());
        assert_eq!(indirect.indirect_operation, Operation::Write.raw());
        assert_eq!((indirect.segments, indirect.id, indirect.sector), (12, 5, 8));
    }
}
