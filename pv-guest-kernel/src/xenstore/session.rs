//! Who waits for which answer and which watch: everything of the connection but the ring.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use abi::Errno;
use abi::xenstore::MessageType;

use super::wire::{self, Decoder, Message, TransactionId};

/// Paths that may wait in a watch before they are merged into one: the watched path itself, which
/// tells the reader to look at all of it. Else a domain could fill another's memory with events.
const EVENTS_MAX: usize = 64;

/// The connection's state, shared by the client's clones and the task that moves bytes.
pub(super) type Shared = Rc<RefCell<Session>>;

/// Names a watch to the store.
pub(super) type Token = u32;

/// State of one connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Bytes that wait for room in the ring.
    outgoing: VecDeque<u8>,
    incoming: Decoder,
    /// Requests that wait for their answer, and answers that wait to be taken.
    exchanges: BTreeMap<u32, Exchange>,
    watches: BTreeMap<Token, Events>,
    last_request: u32,
    last_token: Token,
    /// The task that moves bytes, when it has nothing to send.
    mover: Option<Waker>,
    /// Why the connection is of no use any more.
    failure: Option<Errno>,
    /// It has been said that the domain has used up a quota of the store's.
    has_named_quota: bool,
}

#[derive(Debug)]
enum Exchange {
    Waiting(Option<Waker>),
    Answered(Result<Vec<u8>, Errno>),
}

#[derive(Debug)]
struct Events {
    watched: String,
    /// Each path once.
    paths: VecDeque<String>,
    waker: Option<Waker>,
}

impl Session {
    /// Queues a request and returns its number.
    pub(super) fn request(
        &mut self,
        kind: MessageType,
        transaction: TransactionId,
        parts: &[&[u8]],
    ) -> Result<u32, Errno> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let id = self.last_request.wrapping_add(1);
        self.outgoing.extend(wire::encode(kind, id, transaction, parts)?);
        self.last_request = id;
        self.mover.take().into_iter().for_each(Waker::wake);
        Ok(id)
    }

    /// Queues a request whose answer nobody wants.
    pub(super) fn tell(&mut self, kind: MessageType, transaction: TransactionId, parts: &[&[u8]]) {
        if let Err(error) = self.request(kind, transaction, parts) {
            log::debug!("xenstore: a farewell was not sent: {error}");
        }
    }

    fn poll_answer(&mut self, id: u32, context: &Context<'_>) -> Poll<Result<Vec<u8>, Errno>> {
        let answered = matches!(self.exchanges.get(&id), Some(Exchange::Answered(_)));
        if answered && let Some(Exchange::Answered(answer)) = self.exchanges.remove(&id) {
            return Poll::Ready(answer);
        }
        if let Some(failure) = self.failure {
            return Poll::Ready(Err(failure));
        }
        self.exchanges.insert(id, Exchange::Waiting(Some(context.waker().clone())));
        Poll::Pending
    }

    /// Makes room for a watch's events before the store can send any.
    pub(super) fn add_watch(&mut self, watched: String) -> Token {
        self.last_token = self.last_token.wrapping_add(1);
        let events = Events { watched, paths: VecDeque::new(), waker: None };
        self.watches.insert(self.last_token, events);
        self.last_token
    }

    /// Drops a watch's events and returns the path that it watched.
    pub(super) fn remove_watch(&mut self, token: Token) -> Option<String> {
        self.watches.remove(&token).map(|events| events.watched)
    }

    /// The next path that changed below what the watch watches.
    pub(super) fn poll_event(&mut self, token: Token, context: &Context<'_>) -> Poll<String> {
        let Some(events) = self.watches.get_mut(&token) else { return Poll::Pending };
        match events.paths.pop_front() {
            Some(path) => Poll::Ready(path),
            None => {
                events.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// What waits for room in the ring, in order; [`Session::sent`] takes it away.
    pub(super) fn outgoing(&self) -> &[u8] {
        // The rest follows when this part is sent.
        self.outgoing.as_slices().0
    }

    /// Forgets bytes that are in the ring.
    pub(super) fn sent(&mut self, count: usize) {
        self.outgoing.drain(..count.min(self.outgoing.len()));
    }

    /// Ready when there is something to send.
    pub(super) fn poll_outgoing(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.outgoing.is_empty() {
            self.mover = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Takes bytes from the ring. `EIO` if they are no messages.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.incoming.feed(bytes);
        while let Some(message) = self.incoming.next()? {
            match MessageType::from_raw(message.header.kind) {
                Some(MessageType::WatchEvent) => self.event(&message),
                kind => self.answer(kind, message),
            }
        }
        Ok(())
    }

    fn event(&mut self, message: &Message) {
        let Ok([path, token]) = wire::strings(&message.payload)
            .and_then(|strings| <[String; 2]>::try_from(strings).map_err(|_| Errno::EINVAL))
        else {
            log::warn!("xenstore: an event that names no path and token");
            return;
        };
        // The watch may have been dropped while the event was on its way.
        if let Some(events) =
            token.parse().ok().and_then(|token: Token| self.watches.get_mut(&token))
        {
            events.push(path);
        }
    }

    fn answer(&mut self, kind: Option<MessageType>, message: Message) {
        let answer = match kind {
            Some(MessageType::Error) => Err(named_error(&message.payload)),
            Some(_) => Ok(message.payload),
            None => Err(Errno::EIO),
        };
        // Without an entry nobody waits: the request was one to `tell`, or was given up.
        if let Some(exchange) = self.exchanges.get_mut(&message.header.request)
            && let Exchange::Waiting(waker) =
                core::mem::replace(exchange, Exchange::Answered(answer))
        {
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether nobody waits for an answer.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// Ends the connection: all that wait for an answer get this error.
    pub(super) fn fail(&mut self, error: Errno) {
        self.failure = Some(error);
        for exchange in self.exchanges.values_mut() {
            if let Exchange::Waiting(waker) = exchange {
                waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }
}

impl Events {
    fn push(&mut self, path: String) {
        if self.paths.contains(&path) {
            return;
        }
        if self.paths.len() >= EVENTS_MAX {
            self.paths.clear();
            self.paths.push_back(self.watched.clone());
        } else {
            self.paths.push_back(path);
        }
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// The error that the store names; one that this side does not know is `EIO`.
fn named_error(payload: &[u8]) -> Errno {
    wire::text(payload).ok().and_then(|name| Errno::from_name(&name)).unwrap_or(Errno::EIO)
}

/// Sends a request and waits for its answer.
pub(super) async fn exchange(
    session: &Shared,
    kind: MessageType,
    transaction: TransactionId,
    parts: &[&[u8]],
) -> Result<Vec<u8>, Errno> {
    let id = session.borrow_mut().request(kind, transaction, parts)?;
    let _forget = Forget { session, id };
    let answer = poll_fn(|context| session.borrow_mut().poll_answer(id, context)).await;
    if let Err(errno) = answer
        && is_quota(kind, errno)
        && !core::mem::replace(&mut session.borrow_mut().has_named_quota, true)
    {
        log::error!("xenstore: {errno}: this domain has used up a quota; dom0's log says which");
    }
    answer
}

/// Whether it means that the store keeps as much for this domain as it may.
fn is_quota(kind: MessageType, errno: Errno) -> bool {
    errno == Errno::ENOSPC || (errno == Errno::E2BIG && kind == MessageType::Watch)
}

/// Takes away what is kept for a request when its future is gone, answered or not.
struct Forget<'a> {
    session: &'a Shared,
    id: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.session.borrow_mut().exchanges.remove(&self.id);
    }
}
