//! Checksums. Those of TCP and UDP are left to others where that is possible, and none is looked at
//! in a frame whose sender vouches for it: between two guests of one machine nobody needs them.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Packet, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket,
};

mod sum;

pub use sum::{add, sum};

/// What is done with the checksum of TCP or UDP in a frame that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// The sum of the pseudo-header, to which others add the rest.
    Pseudo,
    /// All of it.
    Whole,
}

/// What the TCP/IP stack itself has to do: the rest is done here.
pub(super) fn capabilities() -> ChecksumCapabilities {
    let mut left_to_us = ChecksumCapabilities::ignored();
    left_to_us.icmpv6 = smoltcp::phy::Checksum::Both;
    left_to_us
}

/// Fills in the checksums of IPv4, and of ICMP, TCP or UDP in it. Says whether there is one that was
/// filled as `how` says.
pub fn fill(frame: &mut [u8], how: Fill) -> bool {
    let Some(mut packet) = ipv4(frame) else { return false };
    fill_header(&mut packet);
    if is_fragment(&packet) {
        return false;
    }
    let protocol = packet.next_header();
    let has_pseudo = matches!(protocol, IpProtocol::Tcp | IpProtocol::Udp);
    let pseudo = if has_pseudo { pseudo(&packet) } else { 0 };
    fill_segment(protocol, pseudo, packet.payload_mut(), how).unwrap_or(false)
}

/// Fills in the checksum of the header of IPv4.
pub fn fill_header(packet: &mut Ipv4Packet<&mut [u8]>) {
    packet.set_checksum(0);
    let header = packet.as_ref().get(..packet.header_len().into()).unwrap_or_default();
    packet.set_checksum(!sum(header));
}

fn fill_segment(
    protocol: IpProtocol,
    pseudo: u16,
    bytes: &mut [u8],
    how: Fill,
) -> smoltcp::wire::Result<bool> {
    let whole = |bytes: &[u8]| !add(pseudo, sum(bytes));
    match protocol {
        IpProtocol::Tcp => {
            TcpPacket::new_checked(&mut *bytes)?.set_checksum(0);
            let checksum = if how == Fill::Pseudo { pseudo } else { whole(bytes) };
            TcpPacket::new_unchecked(bytes).set_checksum(checksum);
            Ok(true)
        }
        IpProtocol::Udp => {
            UdpPacket::new_checked(&mut *bytes)?.set_checksum(0);
            let checksum = match how {
                Fill::Pseudo => pseudo,
                // Zero means that there is none (RFC 768).
                Fill::Whole => {
                    core::num::NonZeroU16::new(whole(bytes)).map_or(u16::MAX, Into::into)
                }
            };
            UdpPacket::new_unchecked(bytes).set_checksum(checksum);
            Ok(true)
        }
        IpProtocol::Icmp => {
            // Nobody adds the rest to this one.
            Icmpv4Packet::new_checked(&mut *bytes)?.set_checksum(0);
            let checksum = !sum(bytes);
            Icmpv4Packet::new_unchecked(bytes).set_checksum(checksum);
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Whether the checksums are right, those that are there.
pub(super) fn is_right(frame: &mut [u8]) -> bool {
    let Some(packet) = ipv4(frame) else { return true };
    if !header_is_right(&packet) {
        return false;
    }
    if is_fragment(&packet) {
        return true;
    }
    let packet = Ipv4Packet::new_unchecked(&*packet.into_inner());
    let bytes = packet.payload();
    match packet.next_header() {
        IpProtocol::Udp if UdpPacket::new_checked(bytes).is_ok_and(|udp| udp.checksum() == 0) => {
            true
        }
        IpProtocol::Tcp | IpProtocol::Udp => add(pseudo(&packet), sum(bytes)) == u16::MAX,
        IpProtocol::Icmp => sum(bytes) == u16::MAX,
        _ => true,
    }
}

/// Whether the checksum of the header of IPv4 is right.
pub fn header_is_right<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> bool {
    let header = packet.as_ref().get(..packet.header_len().into());
    header.is_some_and(|header| sum(header) == u16::MAX)
}

/// The packet of IPv4 in a frame.
fn ipv4(frame: &mut [u8]) -> Option<Ipv4Packet<&mut [u8]>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let is_ipv4 = frame.ethertype() == EthernetProtocol::Ipv4;
    let bytes = frame.into_inner().get_mut(EthernetFrame::<&[u8]>::header_len()..)?;
    is_ipv4.then(|| Ipv4Packet::new_checked(bytes).ok()).flatten()
}

pub(super) fn is_fragment<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> bool {
    packet.more_frags() || packet.frag_offset() != 0
}

/// The sum of the pseudo-header (RFC 9293, section 3.1), not complemented.
fn pseudo<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> u16 {
    let words = [packet.src_addr().octets(), packet.dst_addr().octets()]
        .into_iter()
        .flat_map(|[a, b, c, d]| [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
    let length = packet.total_len().saturating_sub(packet.header_len().into());
    words.chain([u8::from(packet.next_header()).into(), length]).fold(0, add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{EthernetAddress, EthernetRepr, TcpControl, TcpSeqNumber};
    use smoltcp::wire::{Icmpv4Repr, Ipv4Address, Ipv4Repr, TcpRepr, UdpRepr};

    use super::*;

    fn frame(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let (src_addr, dst_addr) =
            (Ipv4Address::new(10, 0, 2, 15), Ipv4Address::new(172, 16, 9, 8));
        let tcp = TcpRepr {
            src_port: 80,
            dst_port: 40_000,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(77),
            ack_number: Some(TcpSeqNumber(5)),
            window_len: 1000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let udp = UdpRepr { src_port: 7, dst_port: 9 };
        let header = if protocol == IpProtocol::Tcp { tcp.header_len() } else { udp.header_len() };
        let payload_len = header + payload.len();
        let ip = Ipv4Repr { src_addr, dst_addr, next_header: protocol, payload_len, hop_limit: 64 };
        let mut bytes = vec![0; 34 + payload_len];
        let address = EthernetAddress([2; 6]);
        EthernetRepr { src_addr: address, dst_addr: address, ethertype: EthernetProtocol::Ipv4 }
            .emit(&mut EthernetFrame::new_unchecked(&mut bytes));
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[14..]), &capabilities());
        let (source, destination) = (src_addr.into(), dst_addr.into());
        match protocol {
            IpProtocol::Tcp => tcp.emit(
                &mut TcpPacket::new_unchecked(&mut bytes[34..]),
                &source,
                &destination,
                &capabilities(),
            ),
            _ => udp.emit(
                &mut UdpPacket::new_unchecked(&mut bytes[34..]),
                &source,
                &destination,
                payload.len(),
                |place| place.copy_from_slice(payload),
                &capabilities(),
            ),
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_card_makes_a_whole_sum_of_the_pseudo_one(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            tcp: bool,
        ) {
            let protocol = if tcp { IpProtocol::Tcp } else { IpProtocol::Udp };
            let mut blank = frame(protocol, &payload);
            let mut whole = blank.clone();
            prop_assert!(fill(&mut blank, Fill::Pseudo) && fill(&mut whole, Fill::Whole));
            prop_assert!(is_right(&mut whole));
            let field = if tcp { 34 + 16 } else { 34 + 6 };
            let summed = match !sum(&blank[34..]) { 0 if !tcp => 0xffff, sum => sum };
            blank[field..field + 2].copy_from_slice(&summed.to_be_bytes());
            prop_assert_eq!(&blank, &whole);
            whole[33 + blank.len() - 34] ^= 1;
            prop_assert!(!is_right(&mut whole));
        }
    }

    #[test]
    fn what_has_no_checksum_is_right() {
        assert!(is_right(&mut [0; 60]));
        assert!(!fill(&mut [0; 60], Fill::Whole));
        assert!(is_right(&mut []));
    }

    #[test]
    fn smoltcp_agrees_about_ping_and_about_headers() {
        let echo = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data: b"odd" };
        let mut bytes = frame(IpProtocol::Icmp, &[0; 3]);
        echo.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[34..]), &capabilities());
        assert!(!fill(&mut bytes, Fill::Pseudo), "it has no sum that could be left to others");
        let packet = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
        assert!(packet.verify_checksum());
        assert!(Icmpv4Packet::new_checked(packet.payload()).unwrap().verify_checksum());
        assert!(is_right(&mut bytes));
        for place in [22, 40, 44] {
            bytes[place] ^= 1;
            assert!(!is_right(&mut bytes), "byte {place}");
            bytes[place] ^= 1;
        }
    }
}
