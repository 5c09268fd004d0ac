//! Cuts long TCP frames into segments, as a network card would, for receivers that want them so.

use alloc::vec::Vec;

use abi::PAGE_SIZE;
use pv_guest_kernel::grant::{CopyBatch, End};
use pv_guest_kernel::network::checksum::{self, Fill};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber,
};
use thiserror::Error;

use super::frame::{Buffer, Checksum, ETHERNET_HEADER, Frame, Head, WHOLE};

/// Bytes of payload in a segment at least (as in Linux, `TCP_MIN_MSS`): bounds their number.
const PAYLOAD_MIN: usize = 88;

/// Why a frame cannot be cut. The sender is to blame for all but lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum SegmentError {
    #[error("a frame to be cut into segments that is not TCP over IPv4")]
    NotTcp,
    #[error("segments of {0} bytes")]
    Size(usize),
    #[error("a grant that cannot be read")]
    Grant,
    #[error("out of memory")]
    Memory,
}

/// The headers of a frame, and what changes from segment to segment.
struct Headers {
    bytes: Vec<u8>,
    identification: u16,
    sequence: TcpSeqNumber,
}

/// Cuts `frame` into whole frames of `payload` bytes each, with checksums.
pub(super) fn split(
    frame: &Frame<'_>,
    payload: usize,
) -> Result<Vec<Frame<'static>>, SegmentError> {
    let headers = Headers::of(frame)?;
    let start = headers.bytes.len();
    if payload < PAYLOAD_MIN || start + payload > WHOLE {
        return Err(SegmentError::Size(payload));
    }
    let mut copies = CopyBatch::default();
    let mut heads = Vec::new();
    let mut reader = frame.reader();
    reader.skip(start);
    for from in (start..frame.length()).step_by(payload) {
        let buffer = Buffer::new().map_err(|_| SegmentError::Memory)?;
        let length = start + payload.min(frame.length() - from);
        reader.copy(length - start, (End::Own(buffer.page()), start), &mut copies);
        heads.push(Head { buffer, offset: 0, length });
    }
    copies.run().map_err(|_| SegmentError::Grant)?;
    if !(0..copies.len()).all(|number| copies.is_done(number)) {
        return Err(SegmentError::Grant);
    }
    let last = heads.len().saturating_sub(1);
    let segment = |(number, head): (usize, Head)| {
        headers.finish(&head, number, number * payload, number == last)?;
        Frame::whole(head, Checksum::Validated).ok_or(SegmentError::NotTcp)
    };
    heads.into_iter().enumerate().map(segment).collect()
}

impl Headers {
    fn of(frame: &Frame<'_>) -> Result<Headers, SegmentError> {
        let mut bytes = [0; PAGE_SIZE];
        let head = frame.read_head(&mut bytes);
        Headers::read(head, frame.length()).ok_or(SegmentError::NotTcp)
    }

    /// Lengths in the headers are those of the whole frame, of which `head` is only the beginning.
    fn read(head: &[u8], length: usize) -> Option<Headers> {
        let ethernet = EthernetFrame::new_checked(head).ok()?;
        let packet = Ipv4Packet::new_unchecked(ethernet.payload());
        let fits = packet.as_ref().len() >= 20 && ethernet.ethertype() == EthernetProtocol::Ipv4;
        if !fits || packet.version() != 4 || packet.next_header() != IpProtocol::Tcp {
            return None;
        }
        let ip_header = usize::from(packet.header_len());
        let whole = ip_header >= 20 && !packet.more_frags() && packet.frag_offset() == 0;
        let segment = head.get(ETHERNET_HEADER + ip_header..).filter(|_| whole)?;
        let segment = TcpPacket::new_unchecked(segment.get(..20).map(|_| segment)?);
        let tcp_header = usize::from(segment.header_len());
        let end = ETHERNET_HEADER + ip_header + tcp_header;
        let bytes = head.get(..end).filter(|_| tcp_header >= 20 && end < length)?.to_vec();
        let (identification, sequence) = (packet.ident(), segment.seq_number());
        Some(Headers { bytes, identification, sequence })
    }

    /// Writes a segment's headers before its payload, and its sums into them.
    fn finish(
        &self,
        head: &Head,
        number: usize,
        sent: usize,
        is_last: bool,
    ) -> Result<(), SegmentError> {
        let mut bytes = [0; PAGE_SIZE];
        let bytes = bytes.get_mut(..head.length).ok_or(SegmentError::NotTcp)?;
        head.buffer.page().read_bytes(head.offset, bytes);
        if let Some(place) = bytes.get_mut(..self.bytes.len()) {
            place.copy_from_slice(&self.bytes);
        }
        self.adapt(bytes, number, sent, is_last).ok_or(SegmentError::NotTcp)?;
        if !checksum::fill(bytes, Fill::Whole) {
            return Err(SegmentError::NotTcp);
        }
        let headers = bytes.get(..self.bytes.len()).unwrap_or_default();
        head.buffer.page().write_bytes(head.offset, headers);
        Ok(())
    }

    fn adapt(&self, bytes: &mut [u8], number: usize, sent: usize, is_last: bool) -> Option<()> {
        let length = bytes.len();
        let mut packet = Ipv4Packet::new_unchecked(bytes.get_mut(ETHERNET_HEADER..)?);
        packet.set_total_len(u16::try_from(length - ETHERNET_HEADER).ok()?);
        packet.set_ident(self.identification.wrapping_add(number as u16));
        let mut segment = TcpPacket::new_checked(packet.payload_mut()).ok()?;
        segment.set_seq_number(self.sequence + sent);
        if !is_last {
            // What ends the data comes with its end.
            segment.set_fin(false);
            segment.set_psh(false);
        }
        if number > 0 {
            // The window was reduced once.
            segment.set_cwr(false);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
