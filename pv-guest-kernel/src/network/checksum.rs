//! Checksums of TCP, UDP and ICMP. Those of TCP and UDP are left to others where that is possible, and
//! none is looked at in a frame whose sender vouches for it: between two guests of one machine nobody
//! needs them.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Packet, IpAddress, IpProtocol, Ipv4Address, Ipv4Packet,
    TcpPacket, UdpPacket,
};

/// What is done with the checksum of TCP or UDP in a frame that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// The sum of the pseudo-header, to which others add the rest.
    Pseudo,
    /// All of it.
    Whole,
}

/// What the TCP/IP stack itself has to do: the rest is done here.
pub(super) fn capabilities() -> ChecksumCapabilities {
    let mut left_to_us = ChecksumCapabilities::default();
    left_to_us.tcp = smoltcp::phy::Checksum::None;
    left_to_us.udp = smoltcp::phy::Checksum::None;
    left_to_us.icmpv4 = smoltcp::phy::Checksum::None;
    left_to_us
}

/// Fills in the checksum; says whether there is one that was filled as `how` says.
pub(super) fn fill(frame: &mut [u8], how: Fill) -> bool {
    segment(frame, |protocol, source, destination, bytes| match protocol {
        IpProtocol::Tcp => {
            let length = bytes.len();
            let Ok(mut packet) = TcpPacket::new_checked(bytes) else { return false };
            match how {
                Fill::Whole => packet.fill_checksum(&source.into(), &destination.into()),
                Fill::Pseudo => packet.set_checksum(pseudo(6, source, destination, length)),
            }
            true
        }
        IpProtocol::Udp => {
            let length = bytes.len();
            let Ok(mut packet) = UdpPacket::new_checked(bytes) else { return false };
            match how {
                Fill::Whole => packet.fill_checksum(&source.into(), &destination.into()),
                Fill::Pseudo => packet.set_checksum(pseudo(17, source, destination, length)),
            }
            true
        }
        IpProtocol::Icmp => {
            // Nobody adds the rest to this one.
            let _ = Icmpv4Packet::new_checked(bytes).map(|mut packet| packet.fill_checksum());
            false
        }
        _ => false,
    })
    .unwrap_or(false)
}

/// Whether the checksum is right; also if there is none.
pub(super) fn is_right(frame: &mut [u8]) -> bool {
    let looked = segment(frame, |protocol, source, destination, bytes| {
        let (source, destination): (IpAddress, IpAddress) = (source.into(), destination.into());
        match protocol {
            IpProtocol::Tcp => TcpPacket::new_checked(bytes)
                .is_ok_and(|packet| packet.verify_checksum(&source, &destination)),
            IpProtocol::Udp => UdpPacket::new_checked(bytes)
                .is_ok_and(|packet| packet.verify_checksum(&source, &destination)),
            IpProtocol::Icmp => {
                Icmpv4Packet::new_checked(bytes).is_ok_and(|packet| packet.verify_checksum())
            }
            _ => true,
        }
    });
    looked.unwrap_or(true)
}

/// Calls `work` with the payload of an IPv4 packet that is no fragment.
fn segment<R>(
    frame: &mut [u8],
    work: impl FnOnce(IpProtocol, Ipv4Address, Ipv4Address, &mut [u8]) -> R,
) -> Option<R> {
    let mut frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let mut packet = Ipv4Packet::new_checked(frame.payload_mut()).ok()?;
    if packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let (protocol, source, destination) =
        (packet.next_header(), packet.src_addr(), packet.dst_addr());
    Some(work(protocol, source, destination, packet.payload_mut()))
}

/// The sum of a pseudo-header (RFC 9293, section 3.1), not complemented.
fn pseudo(protocol: u16, source: Ipv4Address, destination: Ipv4Address, length: usize) -> u16 {
    let words = [source.octets(), destination.octets()]
        .into_iter()
        .flat_map(|[a, b, c, d]| [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
    let sum: u32 = words.chain([protocol, length as u16]).map(u32::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{EthernetAddress, EthernetRepr, TcpControl, TcpSeqNumber};
    use smoltcp::wire::{Ipv4Repr, TcpRepr, UdpRepr};

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

    /// The ones' complement sum of a segment, as a network card adds it to what is there.
    fn sum(bytes: &[u8]) -> u16 {
        let words =
            bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
        let mut sum: u32 = words.map(u32::from).sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
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
}
