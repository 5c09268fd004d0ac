//! One client's ring: bytes in, whole requests to the store, answers and events out.

use alloc::vec::Vec;
use core::{
    fmt,
    mem::{offset_of, size_of},
    sync::atomic::Ordering,
};

use abi::{
    DomId,
    xenstore::{Header, PAYLOAD_MAX, RING_SIZE, Ring},
};
use pv_guest_kernel::shared::SharedPage;
use zerocopy::FromBytes;

use super::dispatch::Store;
use crate::byte_ring::{BadIndex, Layout, Receiver, Sender};

const REQUESTS: Layout = Layout {
    data: offset_of!(Ring, requests),
    size: RING_SIZE,
    producer: offset_of!(Ring, request_producer),
    consumer: offset_of!(Ring, request_consumer),
};
const RESPONSES: Layout = Layout {
    data: offset_of!(Ring, responses),
    size: RING_SIZE,
    producer: offset_of!(Ring, response_producer),
    consumer: offset_of!(Ring, response_consumer),
};

/// Told in the ring: the store says in it why it gave up (`XENSTORE_SERVER_FEATURE_ERROR`).
const FEATURE_ERROR: u32 = 2;

const HEADER_SIZE: usize = size_of::<Header>();

/// Why the store gives up on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// An index that cannot be.
    Index,
    /// A message that announces more bytes than a message may have.
    Length,
}

impl Violation {
    /// The number in the ring's error field (public/io/xs_wire.h).
    const fn code(self) -> u32 {
        match self {
            Violation::Index => 2,
            Violation::Length => 3,
        }
    }
}

impl From<BadIndex> for Violation {
    fn from(_: BadIndex) -> Violation {
        Violation::Index
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::Index => "impossible ring index",
            Violation::Length => "message too long",
        })
    }
}

/// What became of a look at the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes moved: the guest should hear of it, and there may be more to do.
    Moved,
    /// Nothing to do until the guest sends something or an event comes up.
    Idle,
    /// Nothing to do until the guest makes room.
    Blocked,
}

/// The ring of one client, and what is under way in it.
#[derive(Debug)]
pub struct Connection {
    domid: DomId,
    page: SharedPage,
    requests: Receiver,
    responses: Sender,
    /// The part of a message that has arrived.
    input: Vec<u8>,
    /// The messages that have not gone out completely. The next request is served when they have,
    /// so it never holds more than one answer and one event.
    output: Vec<u8>,
}

impl Connection {
    /// Takes up service on a ring page.
    pub fn new(domid: DomId, page: SharedPage) -> Connection {
        page.store_u32(offset_of!(Ring, server_features), FEATURE_ERROR, Ordering::Relaxed);
        page.store_u32(offset_of!(Ring, error), 0, Ordering::Relaxed);
        page.store_u32(offset_of!(Ring, connection), 0, Ordering::Release);
        Connection {
            domid,
            requests: Receiver::new(page.clone(), REQUESTS),
            responses: Sender::new(page.clone(), RESPONSES),
            page,
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Does a bounded amount of work: sends what waits; when that is gone, serves at most one
    /// request and takes at most one event.
    pub fn advance(&mut self, store: &mut Store) -> Result<Progress, Violation> {
        let mut moved = self.flush()?;
        if !self.output.is_empty() {
            return Ok(if moved == 0 { Progress::Blocked } else { Progress::Moved });
        }
        moved = moved.saturating_add(self.receive()?);
        if let Some((header, payload)) = self.request()? {
            self.output = store.serve(self.domid, &header, payload);
            self.input.clear();
        }
        self.output.extend(store.take_event(self.domid).unwrap_or_default());
        moved = moved.saturating_add(self.flush()?);
        let idle = moved == 0 && self.output.is_empty();
        Ok(if idle { Progress::Idle } else { Progress::Moved })
    }

    fn flush(&mut self) -> Result<usize, Violation> {
        if self.output.is_empty() {
            return Ok(0);
        }
        let sent = self.responses.send(&self.output)?;
        self.output.drain(..sent);
        Ok(sent)
    }

    /// Leaves the reason in the ring for the guest to find.
    pub fn give_up(&self, violation: Violation) {
        self.page.store_u32(offset_of!(Ring, error), violation.code(), Ordering::Release);
    }

    /// Takes what has arrived of the message that is under way, and nothing of the next.
    fn receive(&mut self) -> Result<usize, Violation> {
        let mut bytes = [0; RING_SIZE];
        let mut sum: usize = 0;
        loop {
            let length = self.header()?.map_or(HEADER_SIZE, |(_, length)| length);
            let missing = length.saturating_sub(self.input.len()).min(RING_SIZE);
            let room = bytes.get_mut(..missing).unwrap_or_default();
            let received = self.requests.receive(room)?;
            if received == 0 {
                return Ok(sum);
            }
            self.input.extend(bytes.iter().take(received));
            sum = sum.saturating_add(received);
        }
    }

    /// The header, if it is here, and the bytes of the message including it.
    fn header(&self) -> Result<Option<(Header, usize)>, Violation> {
        let Ok((header, _)) = Header::read_from_prefix(&self.input) else { return Ok(None) };
        let length = usize::try_from(header.length).map_err(|_| Violation::Length)?;
        if length > PAYLOAD_MAX {
            return Err(Violation::Length);
        }
        Ok(Some((header, HEADER_SIZE.saturating_add(length))))
    }

    /// The request that is complete, if one is.
    fn request(&self) -> Result<Option<(Header, &[u8])>, Violation> {
        let Some((header, length)) = self.header()? else { return Ok(None) };
        let payload = self.input.get(HEADER_SIZE..length);
        Ok(payload.map(|payload| (header, payload)))
    }
}
