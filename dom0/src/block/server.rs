//! One ring of a guest's disk: takes its requests and answers them (public/io/blkif.h).
//!
//! Nothing is copied on the way to a real disk: the guest's granted pages are mapped, which gives
//! their machine addresses, and the device is told to read or write there. The mapping is owned by
//! the transfer, so it lasts until the device is done, whatever happens to the guest or to this
//! task; the guest hears of the end only after that.

use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;
use core::convert::Infallible;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;

use abi::block::{Request, Response, SECTOR_SIZE, SEGMENTS_PER_PAGE, Segment, Status};
use abi::ring::BackRing;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::xenbus::{Device, Error, RingPages};
use pv_guest_kernel::{executor, time};
use thiserror::Error as ErrorMessage;
use zerocopy::IntoBytes;

use super::disk::IoError;
use super::memory::{Grants, Memory, MemoryError};
use super::request::{self, Job, Limits, Refusal, Segments};
use super::volume::Volume;
use super::work::{Progress, Work};
use crate::credit::{Credit, Rate};

/// The ring.
pub(super) type Ring = BackRing<RingPages, Request, Response>;
type InFlight = FuturesUnordered<LocalBoxFuture<'static, Response>>;

/// Requests that are taken before other tasks get their turn.
const BURST: usize = 64;

/// Why a request failed.
#[derive(Debug, ErrorMessage)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Io(#[from] IoError),
}

/// How much the guest may still have done for it, by all rings of a disk.
pub(super) struct Credits {
    bytes: Credit,
    operations: Credit,
}

impl Credits {
    /// Without a rate there is no limit.
    pub(super) fn new(bytes: Option<Rate>, operations: Option<Rate>) -> Rc<RefCell<Credits>> {
        let (bytes, operations) =
            (Credit::new(bytes, time::now()), Credit::new(operations, time::now()));
        Rc::new(RefCell::new(Credits { bytes, operations }))
    }

    /// When the next request may be taken; `None`: now.
    fn wait_until(&mut self) -> Option<Duration> {
        let now = time::now();
        self.bytes.wait_until(now).max(self.operations.wait_until(now))
    }
}

/// Why a ring is left alone for now.
enum Next {
    /// It is empty.
    Request,
    /// Others have their turn.
    Turn,
    /// The guest has used up what it may.
    Credit(Duration),
}

/// One ring and what serves it.
pub(super) struct Server {
    /// The device's, for people.
    name: Rc<str>,
    volume: Rc<Volume>,
    limits: Limits,
    grants: Rc<Grants>,
    /// If it is limited.
    credits: Option<Rc<RefCell<Credits>>>,
    ring: RefCell<Ring>,
    channel: Channel,
    in_flight: RefCell<InFlight>,
}

impl Server {
    pub(super) fn new(
        device: &Device,
        volume: Rc<Volume>,
        limits: Limits,
        grants: Rc<Grants>,
        credits: Option<Rc<RefCell<Credits>>>,
        (ring, channel): (Ring, Channel),
    ) -> Server {
        let (ring, in_flight) = (RefCell::new(ring), RefCell::default());
        let name = device.path().into();
        Server { name, volume, limits, grants, credits, ring, channel, in_flight }
    }

    /// Answers requests until the frontend breaks the ring's rules.
    pub(super) async fn run(&self) -> Result<Infallible, Error> {
        loop {
            let next = self.take_requests()?;
            self.publish();
            match next {
                Next::Turn => executor::yield_now().await,
                Next::Request if self.ring.borrow_mut().final_check()? => {
                    executor::yield_now().await;
                }
                Next::Request => self.answer_until(pin!(self.channel.wait())).await?,
                Next::Credit(then) => self.answer_until(pin!(time::sleep_until(then))).await?,
            }
        }
    }

    /// Waits until the disk is done with what it has begun. Nobody is told any more.
    pub(super) async fn drain(&self) {
        poll_fn(|context| {
            let mut in_flight = self.in_flight.borrow_mut();
            while let Poll::Ready(Some(_)) = in_flight.poll_next_unpin(context) {}
            if in_flight.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Begins what is on the ring, but not more than a burst, nor than the credit reaches.
    fn take_requests(&self) -> Result<Next, Error> {
        for _ in 0..BURST {
            let credits = self.credits.as_ref();
            if let Some(then) = credits.and_then(|credits| credits.borrow_mut().wait_until()) {
                return Ok(Next::Credit(then));
            }
            let Some(request) = self.ring.borrow_mut().pop()? else { return Ok(Next::Request) };
            let operation = request::operation_done(&request);
            let answer = Answer { device: self.name.clone(), id: request.id, operation };
            match self.start(&request) {
                Ok(Progress::Pending(work)) => {
                    let answer =
                        work.map(move |result| answer.response(result.map_err(Failure::from)));
                    self.in_flight.borrow_mut().push(answer.boxed_local());
                }
                Ok(Progress::Done(result)) => {
                    self.push(&answer.response(result.map_err(Failure::from)))?
                }
                Err(failure) => self.push(&answer.response(Err(failure)))?,
            }
        }
        Ok(Next::Turn)
    }

    fn push(&self, response: &Response) -> Result<(), Error> {
        Ok(self.ring.borrow_mut().push(response)?)
    }

    fn publish(&self) {
        if self.ring.borrow_mut().publish() {
            self.channel.notify();
        }
    }

    /// Waits, and answers the requests with which the disk is done meanwhile.
    async fn answer_until(
        &self,
        mut wait: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        poll_fn(|context| {
            let mut done = false;
            let mut in_flight = self.in_flight.borrow_mut();
            while let Poll::Ready(Some(response)) = in_flight.poll_next_unpin(context) {
                self.push(&response)?;
                done = true;
            }
            if done || wait.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }

    fn start(&self, request: &Request) -> Result<Progress, Failure> {
        self.spend(0, 1);
        let work = match request::check(request, &self.limits)? {
            Job::Flush => Work::Flush,
            Job::Discard { sector, count } => Work::Discard { sector, count },
            Job::Transfer { direction, sector, segments } => {
                let memory = self.memory(&segments, direction)?;
                self.limits.check_range(sector, (memory.bytes() / SECTOR_SIZE) as u64)?;
                self.spend(memory.bytes(), 0);
                Work::Transfer { direction, sector, memory: Rc::new(memory) }
            }
        };
        Ok(self.volume.start(work))
    }

    fn spend(&self, bytes: usize, operations: usize) {
        if let Some(credits) = &self.credits {
            let mut credits = credits.borrow_mut();
            credits.bytes.spend(bytes);
            credits.operations.spend(operations);
        }
    }

    fn memory(
        &self,
        segments: &Segments,
        direction: request::Direction,
    ) -> Result<Memory, MemoryError> {
        match segments {
            Segments::Direct { count, segments } => {
                self.grants.memory(segments.get(..*count).unwrap_or_default(), direction)
            }
            Segments::Indirect { count, pages } => {
                let mut segments = vec![Segment::default(); *count];
                for (part, &page) in segments.chunks_mut(SEGMENTS_PER_PAGE).zip(pages) {
                    self.grants.copy_out(page, part.as_mut_bytes())?;
                }
                self.grants.memory(&segments, direction)
            }
        }
    }
}

/// What an answer says besides how it went.
struct Answer {
    device: Rc<str>,
    id: u64,
    operation: u8,
}

impl Answer {
    fn response(&self, result: Result<(), Failure>) -> Response {
        let status = match result {
            Ok(()) => Status::Okay,
            Err(failure) => {
                log::debug!("{}: request {:#x}: {failure}", self.device, self.id);
                failure.status()
            }
        };
        let (id, operation) = (self.id, self.operation);
        Response { id, operation, status: status.raw(), ..Default::default() }
    }
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            Failure::Refused(Refusal::NotSupported(_)) | Failure::Io(IoError::Unsupported) => {
                Status::NotSupported
            }
            _ => Status::Error,
        }
    }
}
