//! A frame on its way through dom0.
//!
//! What decides about a frame (addresses, protocols) is copied once, into a buffer that nobody else
//! writes, and what is delivered is that copy. The rest of a long frame stays where the sender has
//! it and goes from there to the receiver directly.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::num::NonZeroU16;

use abi::net::MacAddress;
use abi::{DomId, GrantRef, PAGE_SIZE};
use pv_guest_kernel::grant::{CopyBatch, End};
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::network::queue;
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::vcpu_local;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_HEADER: usize = 14;
/// Bytes of the longest frame that can leave the machine, 1500 of data with a VLAN's tag. Frames up to
/// it are copied into dom0 as a whole.
pub(super) const WHOLE: usize = 1518;
/// Bytes that are copied of longer ones: room for all headers, and what follows stays aligned.
pub(super) const HEAD: usize = 256;
/// Free buffers that are kept.
const KEPT: usize = 512;

vcpu_local! {
    static FREE: RefCell<Vec<Rc<SharedPage>>> = RefCell::new(Vec::new());
}

/// A page for a frame, or its beginning. Clones are the same one; after the last, it is there for
/// other frames.
#[derive(Debug, Clone)]
pub(super) struct Buffer(Rc<SharedPage>);

impl Buffer {
    pub(super) fn new() -> Result<Buffer, OutOfMemory> {
        if let Some(page) = FREE.with(|free| free.borrow_mut().pop()) {
            return Ok(Buffer(page));
        }
        SharedPage::allocate().map(Rc::new).map(Buffer)
    }

    pub(super) fn page(&self) -> &SharedPage {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) > 1 {
            return;
        }
        FREE.with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(self.0.clone());
            }
        });
    }
}

/// Part of a frame in a page that its sender has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) reference: GrantRef,
    /// Where it begins in the page.
    pub(super) offset: u16,
    /// In bytes; it ends in the same page.
    pub(super) length: u16,
}

/// What is known of the checksum of TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// It is there, and nobody has looked at it.
    Unknown,
    /// The sender vouches for the data.
    Validated,
    /// So it does, and has left the field to be filled in by whoever needs it.
    Blank,
}

/// Where a frame's beginning is.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) buffer: Buffer,
    /// Where it begins in the page.
    pub(super) offset: usize,
    /// In bytes; it ends in the same page.
    pub(super) length: usize,
}

/// A frame.
#[derive(Debug, Clone)]
pub(super) struct Frame<'p> {
    /// Its beginning: at least an Ethernet header.
    pub(super) head: Head,
    /// The rest, in order.
    pub(super) tail: &'p [Piece],
    /// Whose the rest is.
    pub(super) sender: DomId,
    pub(super) checksum: Checksum,
    /// Bytes of payload in each segment into which it is to be cut.
    pub(super) segment_size: Option<NonZeroU16>,
}

impl Frame<'static> {
    /// A frame that is in one buffer. `None` if it is no frame at all.
    pub(super) fn whole(head: Head, checksum: Checksum) -> Option<Frame<'static>> {
        let fits = head.offset.checked_add(head.length).is_some_and(|end| end <= PAGE_SIZE);
        (fits && head.length >= ETHERNET_HEADER).then_some(Frame {
            head,
            tail: &[],
            sender: DomId::SELF,
            checksum,
            segment_size: None,
        })
    }
}

impl Frame<'_> {
    /// In bytes.
    pub(super) fn length(&self) -> usize {
        self.tail
            .iter()
            .fold(self.head.length, |sum, piece| sum.saturating_add(piece.length.into()))
    }

    /// The receiver's address, and the sender's.
    pub(super) fn addresses(&self) -> (MacAddress, MacAddress) {
        let mut bytes = [0; 12];
        self.head.buffer.page().read_bytes(self.head.offset, &mut bytes);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        (MacAddress([a, b, c, d, e, f]), MacAddress([g, h, i, j, k, l]))
    }

    /// Which of so many queues it takes: all frames of a connection take the same.
    pub(super) fn queue(&self, count: usize) -> usize {
        let mut headers = [0; queue::HEADERS];
        let (headers, _) = headers.split_at_mut(self.head.length.min(queue::HEADERS));
        self.head.buffer.page().read_bytes(self.head.offset, headers);
        queue::of_frame(headers, count)
    }

    /// A copy of its beginning, in `bytes`, which has room for [`PAGE_SIZE`].
    pub(super) fn read_head<'b>(&self, bytes: &'b mut [u8; PAGE_SIZE]) -> &'b mut [u8] {
        let (head, _) = bytes.split_at_mut(self.head.length.min(PAGE_SIZE));
        self.head.buffer.page().read_bytes(self.head.offset, head);
        head
    }
}

/// Goes through a frame's parts from its beginning on.
#[derive(Debug)]
pub(super) struct Reader<'f> {
    frame: &'f Frame<'f>,
    /// The part: 0 is the head.
    part: usize,
    /// Bytes of it that were passed.
    passed: usize,
}

impl Frame<'_> {
    /// At the frame's beginning.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { frame: self, part: 0, passed: 0 }
    }
}

impl<'f> Reader<'f> {
    /// The next bytes that lie together, up to so many, and how many they are.
    fn take(&mut self, most: usize) -> Option<((End<'f>, usize), usize)> {
        let Frame { head, tail, sender, .. } = self.frame;
        let (end, offset, length) = match self.part.checked_sub(1) {
            None => (End::Own(head.buffer.page()), head.offset, head.length),
            Some(index) => {
                let piece = tail.get(index)?;
                let end = End::Granted(*sender, piece.reference);
                (end, piece.offset.into(), piece.length.into())
            }
        };
        let begin = offset + self.passed;
        let count = most.min(length - self.passed);
        self.passed += count;
        if self.passed == length {
            (self.part, self.passed) = (self.part + 1, 0);
        }
        Some(((end, begin), count))
    }

    /// Passes over so many bytes.
    pub(super) fn skip(&mut self, mut count: usize) {
        while count > 0
            && let Some((_, passed)) = self.take(count)
        {
            count -= passed;
        }
    }

    /// Has the next bytes copied to a page that has room for them.
    pub(super) fn copy(
        &mut self,
        mut count: usize,
        (page, mut offset): (End<'_>, usize),
        copies: &mut CopyBatch,
    ) {
        while count > 0
            && let Some((source, length)) = self.take(count)
        {
            copies.push(source, (page, offset), length);
            (count, offset) = (count - length, offset + length);
        }
    }
}
