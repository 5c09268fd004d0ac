//! dom0's own place at the bridge: an address that answers ARP (RFC 826) and ping (RFC 792), so that
//! a guest can see whether its interface works.
//!
//! An answer is its question turned round, so nothing is kept of either, and no connection to dom0
//! exists that a guest could use up.

use alloc::boxed::Box;

use abi::net::MacAddress;
use pv_guest_kernel::network::checksum;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Address, Ipv4Packet,
};

use super::frame::{Buffer, Frame, Head, WHOLE};

/// The hardware address. Linux' bridges see this one of Xen's backends.
pub(crate) const HARDWARE: MacAddress = MacAddress([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);
/// The address: in QEMU's user network nobody else has it.
pub(crate) const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 2, 1);
/// Hops that an answer may take.
const HOPS: u8 = 64;
/// Type and code of an echo request, as its checksum sees them.
const ECHO_REQUEST: u16 = 0x0800;
/// And of a reply.
const ECHO_REPLY: u16 = 0;

/// dom0 as a station of the network.
pub(super) struct Station {
    /// Where a question becomes its answer.
    bytes: Box<[u8; WHOLE]>,
}

impl Station {
    pub(super) fn new() -> Station {
        Station { bytes: Box::new([0; WHOLE]) }
    }

    /// The answer to a frame, if it is a question to dom0. Whoever vouched for the question's data does
    /// so for the answer's, which are the same.
    pub(super) fn answer(&mut self, frame: &Frame<'_>) -> Option<Frame<'static>> {
        if !frame.tail.is_empty() {
            return None;
        }
        let bytes = self.bytes.get_mut(..frame.head.length)?;
        frame.head.buffer.page().read_bytes(frame.head.offset, bytes);
        turn_round(bytes)?;
        let buffer = Buffer::new().ok()?;
        buffer.page().write_bytes(0, bytes);
        Frame::whole(Head { buffer, offset: 0, length: bytes.len() }, frame.checksum)
    }
}

/// Makes a question its answer. What is not one may be left half changed.
fn turn_round(bytes: &mut [u8]) -> Option<()> {
    let mut frame = EthernetFrame::new_checked(bytes).ok()?;
    let (sender, receiver) = (frame.src_addr(), frame.dst_addr());
    let ours = EthernetAddress(HARDWARE.0);
    if !sender.is_unicast() || (receiver != ours && !receiver.is_broadcast()) {
        return None;
    }
    match frame.ethertype() {
        EthernetProtocol::Arp => answer_arp(frame.payload_mut())?,
        EthernetProtocol::Ipv4 if receiver == ours => answer_ping(frame.payload_mut())?,
        _ => return None,
    }
    frame.set_src_addr(ours);
    frame.set_dst_addr(sender);
    Some(())
}

fn answer_arp(bytes: &mut [u8]) -> Option<()> {
    let mut packet = ArpPacket::new_checked(bytes).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr: ADDRESS,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(HARDWARE.0),
        source_protocol_addr: ADDRESS,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    reply.emit(&mut packet);
    Some(())
}

fn answer_ping(bytes: &mut [u8]) -> Option<()> {
    let mut packet = Ipv4Packet::new_checked(bytes).ok()?;
    let whole = !packet.more_frags() && packet.frag_offset() == 0;
    let sender = packet.src_addr();
    if packet.version() != 4 || !checksum::header_is_right(&packet) || packet.dst_addr() != ADDRESS
    {
        return None;
    }
    if packet.next_header() != IpProtocol::Icmp || !whole || sender.is_multicast() {
        return None;
    }
    let mut message = Icmpv4Packet::new_checked(packet.payload_mut()).ok()?;
    if message.msg_type() != Icmpv4Message::EchoRequest || message.msg_code() != 0 {
        return None;
    }
    message.set_msg_type(Icmpv4Message::EchoReply);
    // A question that was damaged stays so, and whoever asked sees it.
    message.set_checksum(updated(message.checksum(), ECHO_REQUEST, ECHO_REPLY));
    // Addresses that change places do not change their sum.
    packet.set_src_addr(ADDRESS);
    packet.set_dst_addr(sender);
    let with_protocol = |hops| u16::from_be_bytes([hops, IpProtocol::Icmp.into()]);
    let (before, after) = (with_protocol(packet.hop_limit()), with_protocol(HOPS));
    packet.set_hop_limit(HOPS);
    packet.set_checksum(updated(packet.checksum(), before, after));
    Some(())
}

/// A checksum after one word has changed (RFC 1624, equation 3).
fn updated(checksum: u16, before: u16, after: u16) -> u16 {
    !checksum::add(checksum::add(!checksum, !before), after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUEST: Ipv4Address = Ipv4Address::new(10, 0, 2, 32);
    const GUEST_HARDWARE: EthernetAddress = EthernetAddress([0, 0x16, 0x3e, 1, 2, 3]);
    const OURS: EthernetAddress = EthernetAddress(HARDWARE.0);

    fn ethernet(bytes: &mut [u8], to: EthernetAddress, protocol: EthernetProtocol) {
        let mut frame = EthernetFrame::new_unchecked(bytes);
        frame.set_src_addr(GUEST_HARDWARE);
        frame.set_dst_addr(to);
        frame.set_ethertype(protocol);
    }

    fn request(operation: ArpOperation, wanted: Ipv4Address) -> Vec<u8> {
        let mut bytes = vec![0; 60];
        ethernet(&mut bytes, EthernetAddress::BROADCAST, EthernetProtocol::Arp);
        let request = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: GUEST_HARDWARE,
            source_protocol_addr: GUEST,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: wanted,
        };
        request.emit(&mut ArpPacket::new_unchecked(&mut bytes[14..]));
        bytes
    }

    fn ping(to: Ipv4Address, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 14 + 20 + 8 + data.len()];
        ethernet(&mut bytes, OURS, EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len((28 + data.len()) as u16);
        packet.set_next_header(IpProtocol::Icmp);
        packet.set_hop_limit(1);
        packet.set_src_addr(GUEST);
        packet.set_dst_addr(to);
        packet.fill_checksum();
        let mut message = Icmpv4Packet::new_unchecked(packet.payload_mut());
        message.set_msg_type(Icmpv4Message::EchoRequest);
        message.set_echo_ident(7);
        message.set_echo_seq_no(9);
        message.data_mut().copy_from_slice(data);
        message.fill_checksum();
        bytes
    }

    #[test]
    fn whoever_asks_for_the_address_is_told() {
        let mut bytes = request(ArpOperation::Request, ADDRESS);
        turn_round(&mut bytes).unwrap();
        let frame = EthernetFrame::new_unchecked(&bytes[..]);
        assert_eq!((frame.src_addr(), frame.dst_addr()), (OURS, GUEST_HARDWARE));
        let reply = ArpRepr::parse(&ArpPacket::new_unchecked(frame.payload())).unwrap();
        let expected = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: OURS,
            source_protocol_addr: ADDRESS,
            target_hardware_addr: GUEST_HARDWARE,
            target_protocol_addr: GUEST,
        };
        assert_eq!(reply, expected);
    }

    #[test]
    fn what_is_no_question_to_dom0_is_not_answered() {
        assert!(turn_round(&mut request(ArpOperation::Request, GUEST)).is_none());
        assert!(turn_round(&mut request(ArpOperation::Reply, ADDRESS)).is_none());
        assert!(turn_round(&mut ping(GUEST, b"data")).is_none());
        let answered = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = ping(ADDRESS, b"data");
            change(&mut bytes);
            turn_round(&mut bytes).is_some()
        };
        assert!(answered(&|_| {}));
        let fragment = |bytes: &mut [u8]| {
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
            packet.set_more_frags(true);
            packet.fill_checksum();
        };
        assert!(!answered(&fragment), "a fragment");
        assert!(!answered(&|bytes| bytes[22] ^= 1), "a damaged header");
        assert!(!answered(&|bytes| bytes[34] = 0), "a reply");
        assert!(!answered(&|bytes| bytes[6] |= 1), "from a group");
        assert!(!answered(&|bytes| bytes[..6].fill(0xff)), "to all");
    }

    proptest! {
        #[test]
        fn a_ping_comes_back_as_it_was(data in prop::collection::vec(any::<u8>(), 0..1476)) {
            let mut bytes = ping(ADDRESS, &data);
            turn_round(&mut bytes).unwrap();
            let frame = EthernetFrame::new_unchecked(&bytes[..]);
            prop_assert_eq!((frame.src_addr(), frame.dst_addr()), (OURS, GUEST_HARDWARE));
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            prop_assert!(packet.verify_checksum());
            prop_assert_eq!((packet.src_addr(), packet.dst_addr()), (ADDRESS, GUEST));
            let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
            prop_assert_eq!(message.msg_type(), Icmpv4Message::EchoReply);
            prop_assert!(message.verify_checksum());
            prop_assert_eq!((message.echo_ident(), message.echo_seq_no()), (7, 9));
            prop_assert_eq!(message.data(), &data[..]);
        }

        #[test]
        fn no_bytes_do_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(place) = bytes.get_mut(..6) {
                place.copy_from_slice(&HARDWARE.0);
            }
            let _ = turn_round(&mut bytes);
        }
    }
}
