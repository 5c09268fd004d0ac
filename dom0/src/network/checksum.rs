//! Fills in what a guest has left blank, for a receiver that wants it.

use abi::PAGE_SIZE;
use pv_guest_kernel::network::checksum::{self, Fill};

use super::frame::{Buffer, Checksum, Frame, Head};

/// The frame with its checksum, in a buffer of its own: the original may be on its way to others.
/// `None` if it has none that could be left blank, or is not whole, or there is no memory.
pub(super) fn complete(frame: &Frame<'_>) -> Option<Frame<'static>> {
    if !frame.tail.is_empty() {
        return None;
    }
    let mut bytes = [0; PAGE_SIZE];
    let bytes = frame.read_head(&mut bytes);
    if !checksum::fill(bytes, Fill::Whole) {
        return None;
    }
    let buffer = Buffer::new().ok()?;
    buffer.page().write_bytes(0, bytes);
    let head = Head { buffer, offset: 0, length: bytes.len() };
    Frame::whole(head, Checksum::Validated)
}
