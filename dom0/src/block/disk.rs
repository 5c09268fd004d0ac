//! A real disk: transfers between its sectors and memory that is named by bus addresses.
//!
//! A transfer owns what keeps its memory in place until the device is done with it, whether or
//! not anybody still waits: a device may write to memory only as long as that is mapped.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use abi::PAGE_SIZE;
use abi::block::SECTOR_SIZE;
use futures_channel::oneshot;
use pv_guest_kernel::shared::SharedPage;
use thiserror::Error;

use super::queue::{Operation, Queue, SIZE, Status};
use crate::virtio::{Span, bus_address};

#[cfg(test)]
mod tests;

/// Why a transfer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum IoError {
    #[error("the device reports an error")]
    Failed,
    #[error("the device does not support this")]
    Unsupported,
    #[error("the device is broken")]
    Broken,
    #[error("there is no room for what differs from the base")]
    Full,
    #[error("the guest's memory cannot be reached")]
    Memory,
}

/// What is known of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// `disk0`, ...
    pub name: String,
    /// Its size: a whole number of sectors.
    pub bytes: u64,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether it has a cache that can be flushed.
    pub flush: bool,
    /// Whether it can forget sectors, and how.
    pub discard: Option<Discard>,
}

/// How a disk forgets sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discard {
    /// In units of so many.
    pub unit: u32,
    /// So many at once.
    pub most: u32,
}

/// A disk. Shared by those that use it, within this thread.
pub(super) struct Disk {
    pub(super) info: Info,
    state: RefCell<State>,
    /// Tells the device to look at the queue.
    doorbell: Box<dyn Fn()>,
}

struct State {
    queue: Queue,
    in_flight: [Option<InFlight>; SIZE as usize],
    /// Transfers ever begun.
    begun: u64,
    /// Those that wait for a transfer to end.
    waiting: Vec<Waker>,
    /// The task that shows the device new requests, while there are none.
    publisher: Option<Waker>,
    broken: bool,
}

struct InFlight {
    /// Its place in the order in which transfers were begun.
    number: u64,
    /// Whoever waits, until it is told.
    done: Option<oneshot::Sender<Result<(), IoError>>>,
    /// Keeps the memory in place.
    memory: Box<dyn Any>,
}

impl Disk {
    pub(super) fn new(info: Info, queue: Queue, doorbell: Box<dyn Fn()>) -> Disk {
        let state = State {
            queue,
            in_flight: [const { None }; SIZE as usize],
            begun: 0,
            waiting: Vec::new(),
            publisher: None,
            broken: false,
        };
        Disk { info, state: RefCell::new(state), doorbell }
    }

    /// Moves data between the disk, from `sector` on, and `spans`, which lie in `memory`. What is
    /// to be moved must have been checked: at most [`MAX_SPANS`](super::queue::MAX_SPANS) spans of
    /// whole sectors, all on the disk.
    pub(super) async fn transfer(
        &self,
        operation: Operation,
        sector: u64,
        spans: &[Span],
        memory: impl Any,
    ) -> Result<(), IoError> {
        let mut memory: Option<Box<dyn Any>> = Some(Box::new(memory));
        let start = poll_fn(|context| {
            self.state.borrow_mut().poll_start(context, operation, sector, spans, &mut memory)
        });
        start.await?.await.unwrap_or(Err(IoError::Broken))
    }

    /// Waits until the device is done with all that was begun before, whether or not anybody still
    /// waits for it.
    pub(super) async fn settled(&self) {
        let last = self.state.borrow().begun;
        poll_fn(|context| self.state.borrow_mut().poll_settled(context, last)).await
    }

    /// Reads so many sectors, for dom0 itself.
    pub(super) async fn read(&self, sector: u64, count: usize) -> Result<Vec<u8>, IoError> {
        let bytes = count * SECTOR_SIZE;
        let pages = SharedPage::allocate_run(bytes.div_ceil(PAGE_SIZE).max(1));
        let pages = pages.map_err(|_| IoError::Failed)?;
        let address = pages.first().map_or(0, bus_address);
        let span = Span { address, length: u32::try_from(bytes).map_err(|_| IoError::Failed)? };
        self.transfer(Operation::Read, sector, &[span], pages.clone()).await?;
        let mut data = vec![0; bytes];
        let parts = data.chunks_mut(PAGE_SIZE).zip(&pages);
        parts.for_each(|(bytes, page)| page.read_bytes(0, bytes));
        Ok(data)
    }

    /// Shows the device new requests, all that were made in one go at once. Never returns.
    pub(super) async fn publish(&self) {
        loop {
            let ring = poll_fn(|context| self.state.borrow_mut().poll_publish(context)).await;
            if ring {
                (self.doorbell)();
            }
        }
    }

    /// Completes what the device is done with; to be called when it interrupts.
    pub(super) fn collect(&self) {
        loop {
            // The memory is released, and the waiter woken, without the state being borrowed.
            let (finished, result) = match self.state.borrow_mut().take_finished() {
                Some(finished) => finished,
                None => return,
            };
            let InFlight { done, memory, .. } = finished;
            drop(memory);
            tell(done, result);
        }
    }
}

impl State {
    fn poll_start(
        &mut self,
        context: &Context<'_>,
        operation: Operation,
        sector: u64,
        spans: &[Span],
        memory: &mut Option<Box<dyn Any>>,
    ) -> Poll<Result<oneshot::Receiver<Result<(), IoError>>, IoError>> {
        if self.broken {
            return Poll::Ready(Err(IoError::Broken));
        }
        let Some(slot) = self.queue.push(operation, sector, spans) else {
            self.waiting.push(context.waker().clone());
            return Poll::Pending;
        };
        let (done, receiver) = oneshot::channel();
        let memory = memory.take().unwrap_or_else(|| Box::new(()));
        self.begun += 1;
        if let Some(place) = self.in_flight.get_mut(usize::from(slot)) {
            *place = Some(InFlight { number: self.begun, done: Some(done), memory });
        }
        self.publisher.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(receiver))
    }

    /// Nobody waits for a broken disk: it will not say any more what it is done with.
    fn poll_settled(&mut self, context: &Context<'_>, last: u64) -> Poll<()> {
        let mut in_flight = self.in_flight.iter().flatten();
        if self.broken || in_flight.all(|transfer| transfer.number > last) {
            return Poll::Ready(());
        }
        self.waiting.push(context.waker().clone());
        Poll::Pending
    }

    /// Ready when there was something to publish; says whether the device wants to know.
    fn poll_publish(&mut self, context: &Context<'_>) -> Poll<bool> {
        if self.queue.is_published() {
            self.publisher = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(self.queue.publish())
    }

    /// Fails everything, now and in future. Memory that is in flight stays where it is for ever:
    /// a device that is broken may still write it.
    fn give_up(&mut self) {
        self.broken = true;
        for in_flight in self.in_flight.iter_mut().flatten() {
            tell(in_flight.done.take(), Err(IoError::Broken));
        }
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn take_finished(&mut self) -> Option<(InFlight, Result<(), IoError>)> {
        if self.broken {
            return None;
        }
        let (slot, status) = match self.queue.pop() {
            Ok(finished) => finished?,
            Err(error) => {
                log::error!("{error}");
                self.give_up();
                return None;
            }
        };
        core::mem::take(&mut self.waiting).into_iter().for_each(Waker::wake);
        let finished = self.in_flight.get_mut(usize::from(slot))?.take()?;
        let result = match status {
            Status::Okay => Ok(()),
            Status::Failed => Err(IoError::Failed),
            Status::Unsupported => Err(IoError::Unsupported),
        };
        Some((finished, result))
    }
}

/// Wakes whoever waits for a transfer; nobody may be any more.
fn tell(done: Option<oneshot::Sender<Result<(), IoError>>>, result: Result<(), IoError>) {
    if let Some(done) = done {
        let _ = done.send(result);
    }
}
