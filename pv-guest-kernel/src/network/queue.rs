//! Which of an interface's queues a frame takes, at both ends. Frames of one connection all take the
//! same, so that they stay in their order.

use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet};

use super::checksum::is_fragment;

/// Bytes at a frame's beginning that decide: the headers of Ethernet and IPv4, and the ports of TCP
/// or UDP.
pub const HEADERS: usize = 14 + IPV4_HEADER + 4;
/// Bytes of IPv4's header, if it has no options.
const IPV4_HEADER: usize = 20;
/// Spreads differences of few bits over the upper ones (Knuth, volume 3, section 6.4).
const SPREAD: u32 = 0x9e37_79b1;

/// The queue, of so many, of a frame that begins so. What is no packet of IPv4 takes the first.
pub fn of_frame(frame: &[u8], count: usize) -> usize {
    let hash = frame.first_chunk().map_or(0, hash);
    // The upper bits are the ones that all others have had a part in.
    ((u64::from(hash) * count as u64) >> u32::BITS) as usize
}

/// A number from the addresses, and from the ports where each of a connection's packets has them.
fn hash(headers: &[u8; HEADERS]) -> u32 {
    let frame = EthernetFrame::new_unchecked(headers.as_slice());
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return 0;
    }
    let packet = Ipv4Packet::new_unchecked(frame.payload());
    let hash = [packet.src_addr(), packet.dst_addr()]
        .into_iter()
        .fold(0, |hash, address| mix(hash, address.octets()));
    let has_ports = matches!(packet.next_header(), IpProtocol::Tcp | IpProtocol::Udp);
    let is_plain = usize::from(packet.header_len()) == IPV4_HEADER && !is_fragment(&packet);
    match headers.last_chunk() {
        Some(ports) if has_ports && is_plain => mix(hash, *ports),
        _ => hash,
    }
}

fn mix(hash: u32, word: [u8; 4]) -> u32 {
    (hash.rotate_left(5) ^ u32::from_be_bytes(word)).wrapping_mul(SPREAD)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: u8 = 6;
    const ICMP: u8 = 1;

    /// The beginning of a frame with a packet of IPv4, from 10.0.2.15.
    fn frame(protocol: u8, to: u8, ports: [u16; 2], rest: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 2, 15, 10, 0, 2, to]);
        frame.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        frame.extend(rest);
        frame
    }

    proptest! {
        #[test]
        fn a_connection_keeps_its_queue(
            to: u8,
            ports: [u16; 2],
            count in 1..=8_usize,
            identification: [u8; 2],
            life: u8,
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let first = of_frame(&frame(TCP, to, ports, &[]), count);
            prop_assert!(first < count);
            let mut later = frame(TCP, to, ports, &rest);
            later[18..20].copy_from_slice(&identification);
            later[22] = life;
            prop_assert_eq!(of_frame(&later, count), first);
        }

        #[test]
        fn where_no_ports_are_the_addresses_decide(
            to: u8,
            ports: [u16; 2],
            others: [u16; 2],
            count in 1..=8_usize,
        ) {
            let both = [ports, others];
            let pings = both.map(|ports| of_frame(&frame(ICMP, to, ports, &[]), count));
            prop_assert_eq!(pings[0], pings[1]);
            let fragments = both.map(|ports| {
                let mut fragment = frame(TCP, to, ports, &[]);
                fragment[20] = 0x20;
                of_frame(&fragment, count)
            });
            prop_assert_eq!(fragments[0], fragments[1]);
        }

        #[test]
        fn connections_that_differ_in_one_port_spread(
            to: u8,
            port: u16,
            first in 49_152..65_000_u16,
            own: bool,
            count in 2..=8_usize,
        ) {
            const CONNECTIONS: u16 = 256;
            let mut used = vec![0; count];
            for other in first..first + CONNECTIONS {
                let ports = if own { [other, port] } else { [port, other] };
                used[of_frame(&frame(TCP, to, ports, &[]), count)] += 1;
            }
            let fair = usize::from(CONNECTIONS) / count;
            prop_assert!(used.iter().all(|used| (fair / 2..=fair * 2).contains(used)), "{used:?}");
        }

        #[test]
        fn anything_else_has_a_queue_too(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            count in 1..=8_usize,
        ) {
            prop_assert!(of_frame(&bytes, count) < count);
        }
    }
}
