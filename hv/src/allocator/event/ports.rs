//! A domain's ports: a table that grows by a frame at a time, and the list of those that are free.
//!
//! Whatever is done with one port takes the same few steps however many there are. Ports that were
//! closed are opened again in the order in which they were closed, before any that never was open.

use core::ops::Range;

use abi::event::fifo;
use abi::{DomId, Errno, PAGE_SIZE, Port};

use super::{Binding, Channel, NO_PORT};
use crate::allocator::frame::FramePool;
use crate::allocator::frame_box::FrameBox;

/// Channels in a frame.
pub(super) const CHUNK: u32 = (PAGE_SIZE / size_of::<Channel>()) as u32;
/// Chunks that the domain's record names itself: those of the 2-level ABI's ports.
const NEAR: usize = (abi::shared_info::TWO_LEVEL_PORTS / CHUNK) as usize;
/// Chunks that one frame names.
const GROUP: usize = PAGE_SIZE / size_of::<FrameBox<Chunk>>();
/// Chunks in a full table.
const CHUNKS: usize = (fifo::PORTS / CHUNK) as usize;
const GROUPS: usize = (CHUNKS - NEAR).div_ceil(GROUP);

const _: () = assert!(size_of::<Chunk>() == PAGE_SIZE && size_of::<Group>() == PAGE_SIZE);

type Chunk = [Channel; CHUNK as usize];
type Group = [Option<FrameBox<Chunk>>; GROUP];

/// Free ports that are passed over because they are in a queue still, before the table rather
/// grows. A kernel closes few ports that it has not taken from their queue.
const BUSY_LIMIT: usize = 4;

/// A domain's ports.
#[derive(Debug)]
pub(super) struct Ports {
    near: [Option<FrameBox<Chunk>>; NEAR],
    far: [Option<FrameBox<Group>>; GROUPS],
    /// How many chunks there are.
    chunks: usize,
    /// The first port that never was open.
    untouched: u32,
    /// Ports that were closed. Each names the next in its channel.
    oldest_free: Port,
    newest_free: Port,
}

impl Ports {
    /// No ports, and no frames yet.
    pub(super) const fn new() -> Ports {
        Ports {
            near: [const { None }; NEAR],
            far: [const { None }; GROUPS],
            chunks: 0,
            untouched: 1,
            oldest_free: NO_PORT,
            newest_free: NO_PORT,
        }
    }

    /// A port, if the table has grown so far; it may be closed.
    #[inline(always)]
    pub(super) fn get(&self, port: Port) -> Option<&Channel> {
        let chunk = match self.near.get((port.0 / CHUNK) as usize) {
            Some(chunk) => chunk.as_deref()?,
            None => self.far_chunk(port)?,
        };
        chunk.get((port.0 % CHUNK) as usize)
    }

    #[inline(always)]
    fn far_chunk(&self, port: Port) -> Option<&Chunk> {
        let index = (port.0 / CHUNK) as usize - NEAR;
        self.far.get(index / GROUP)?.as_deref()?.get(index % GROUP)?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, port: Port) -> Option<&mut Channel> {
        let chunk = self.place((port.0 / CHUNK) as usize)?.as_deref_mut()?;
        chunk.get_mut((port.0 % CHUNK) as usize)
    }

    /// Where the table names a chunk; `None` beyond its end, or if no frame is there to name it.
    #[inline]
    fn place(&mut self, chunk: usize) -> Option<&mut Option<FrameBox<Chunk>>> {
        match chunk.checked_sub(NEAR) {
            None => self.near.get_mut(chunk),
            Some(far) => self.far.get_mut(far / GROUP)?.as_deref_mut()?.get_mut(far % GROUP),
        }
    }

    /// Those of the given ports that may have been opened since the table was empty.
    pub(super) fn touched(&self, ports: Range<u32>) -> impl Iterator<Item = Port> + Clone + use<> {
        (ports.start.max(1)..ports.end.min(self.untouched)).map(Port)
    }

    /// Opens a free port below `limit`, one that is not busy. `ENOSPC` if there is none, `ENOMEM`
    /// if the table cannot grow.
    pub(super) fn open(
        &mut self,
        pool: &mut FramePool,
        owner: DomId,
        limit: u32,
        is_busy: impl Fn(Port) -> bool,
    ) -> Result<Port, Errno> {
        for _ in 0..BUSY_LIMIT {
            match self.take_free() {
                Some(port) if is_busy(port) => self.put_free(port),
                Some(port) => return Ok(port),
                None => break,
            }
        }
        let port = Port(self.untouched);
        if port.0 >= limit {
            return Err(Errno::ENOSPC);
        }
        if port.0 / CHUNK >= self.chunks as u32 {
            self.grow(pool, owner)?;
        }
        self.untouched += 1;
        Ok(port)
    }

    /// Closes a port. What was bound to it is the caller's matter.
    pub(super) fn close(&mut self, port: Port) {
        if let Some(channel) = self.get_mut(port) {
            *channel = Channel { fifo: channel.fifo.closed(), ..Channel::default() };
            self.put_free(port);
        }
    }

    /// The last chunk's ports, while there is one.
    pub(super) fn last_chunk(&self) -> Option<impl Iterator<Item = Port> + use<>> {
        let last = self.chunks.checked_sub(1)? as u32;
        Some((last * CHUNK..(last + 1) * CHUNK).map(Port))
    }

    /// Gives the last chunk's frame back. All its ports must be closed. What other ports are free
    /// is forgotten, until they are given back too: so this must go on until there are none.
    pub(super) fn shrink(&mut self, pool: &mut FramePool) {
        let Some(last) = self.chunks.checked_sub(1) else { return };
        if let Some(chunk) = self.place(last).and_then(Option::take) {
            chunk.free(pool);
        }
        if let Some(far) = last.checked_sub(NEAR)
            && far.is_multiple_of(GROUP)
            && let Some(group) = self.far.get_mut(far / GROUP).and_then(Option::take)
        {
            group.free(pool);
        }
        self.chunks = last;
        self.untouched = (last as u32 * CHUNK).max(1);
        (self.oldest_free, self.newest_free) = (NO_PORT, NO_PORT);
    }

    fn grow(&mut self, pool: &mut FramePool, owner: DomId) -> Result<(), Errno> {
        if let Some(far) = self.chunks.checked_sub(NEAR) {
            let group = self.far.get_mut(far / GROUP).ok_or(Errno::ENOSPC)?;
            if group.is_none() {
                *group = Some(FrameBox::new(pool, owner, [const { None }; GROUP])?);
            }
        }
        let chunk = FrameBox::new(pool, owner, [Channel::default(); CHUNK as usize])?;
        // There is such a place: it was just made, if need be.
        *self.place(self.chunks).ok_or(Errno::ENOSPC)? = Some(chunk);
        self.chunks += 1;
        Ok(())
    }

    /// Takes the port that has been free longest.
    fn take_free(&mut self) -> Option<Port> {
        let port = self.oldest_free;
        if port == NO_PORT {
            return None;
        }
        let channel = self.get_mut(port)?;
        let binding = core::mem::take(&mut channel.binding);
        let Binding::Closed { next_free } = binding else { return None };
        self.oldest_free = next_free;
        if next_free == NO_PORT {
            self.newest_free = NO_PORT;
        }
        Some(port)
    }

    /// Adds a port to the free ones.
    fn put_free(&mut self, port: Port) {
        let before = core::mem::replace(&mut self.newest_free, port);
        match self.get_mut(before) {
            Some(channel) if before != NO_PORT => {
                channel.binding = Binding::Closed { next_free: port };
            }
            _ => self.oldest_free = port,
        }
    }
}
