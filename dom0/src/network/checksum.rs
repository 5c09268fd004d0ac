//! Fills in what a guest has left blank, for a receiver that wants it.

use abi::PAGE_SIZE;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket,
};

use super::frame::{Buffer, Checksum, Frame, Head};

/// The frame with its checksum, in a buffer of its own: the original may be on its way to others.
/// `None` if it has none that could be left blank, or is not whole, or there is no memory.
pub(super) fn complete(frame: &Frame<'_>) -> Option<Frame<'static>> {
    if !frame.tail.is_empty() {
        return None;
    }
    let mut bytes = [0; PAGE_SIZE];
    let bytes = frame.read_head(&mut bytes);
    fill(bytes)?;
    let buffer = Buffer::new().ok()?;
    buffer.page().write_bytes(0, bytes);
    let head = Head { buffer, offset: 0, length: bytes.len() };
    Frame::whole(head, Checksum::Validated)
}

/// Sums up TCP or UDP over IPv4.
pub(super) fn fill(frame: &mut [u8]) -> Option<()> {
    let mut frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let mut packet = Ipv4Packet::new_checked(frame.payload_mut()).ok()?;
    let (source, destination): (IpAddress, IpAddress) =
        (packet.src_addr().into(), packet.dst_addr().into());
    match packet.next_header() {
        IpProtocol::Tcp => {
            TcpPacket::new_checked(packet.payload_mut()).ok()?.fill_checksum(&source, &destination)
        }
        IpProtocol::Udp => {
            UdpPacket::new_checked(packet.payload_mut()).ok()?.fill_checksum(&source, &destination)
        }
        _ => return None,
    }
    Some(())
}
