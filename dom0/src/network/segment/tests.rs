//! Segments, as a receiver sees them.

use abi::{DomId, GrantRef};
use core::num::NonZeroU16;
use proptest::prelude::*;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::shared::SharedPage;
use smoltcp::wire::{IpAddress, Ipv4Address};

use super::super::frame::Piece;
use super::*;

const HEADERS: usize = 14 + 20 + 20;
const FIN: u16 = 0x01;
const PSH: u16 = 0x08;
const ACK: u16 = 0x10;
const CWR: u16 = 0x80;

/// A frame of so many bytes of payload, whose end lies in granted pages.
struct Whole {
    head: Head,
    tail: Vec<Piece>,
    bytes: Vec<u8>,
    _grants: Vec<Grant>,
}

impl Whole {
    fn frame(&self) -> Frame<'_> {
        Frame {
            head: self.head.clone(),
            tail: &self.tail,
            sender: DomId(1),
            checksum: Checksum::Blank,
            segment_size: NonZeroU16::new(1448),
        }
    }
}

fn whole(payload: usize, payload_of_head: usize) -> Whole {
    let mut bytes = vec![0; HEADERS + payload];
    for (index, byte) in bytes[HEADERS..].iter_mut().enumerate() {
        *byte = (index % 251) as u8;
    }
    EthernetFrame::new_unchecked(&mut bytes[..]).set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_next_header(IpProtocol::Tcp);
    packet.set_total_len((40 + payload) as u16);
    packet.set_ident(u16::MAX);
    packet.set_hop_limit(64);
    packet.set_src_addr(Ipv4Address::new(10, 0, 2, 15));
    packet.set_dst_addr(Ipv4Address::new(10, 0, 2, 2));
    bytes[46] = 5 << 4;
    bytes[47] = (FIN | PSH | ACK | CWR) as u8;
    bytes[38..42].copy_from_slice(&0xffff_ff00_u32.to_be_bytes());

    let split = HEADERS + payload_of_head.min(payload).min(WHOLE - HEADERS);
    let buffer = Buffer::new().unwrap();
    buffer.page().write_bytes(5, &bytes[..split]);
    let mut tail = Vec::new();
    let mut grants = Vec::new();
    for part in bytes[split..].chunks(PAGE_SIZE - 96) {
        let page = SharedPage::allocate().unwrap();
        page.write_bytes(96, part);
        grants.push(Grant::new(&page, DomId::DOM0, Access::ReadOnly).unwrap());
        let reference = grants.last().unwrap().reference();
        tail.push(Piece { reference, offset: 96, length: part.len() as u16 });
    }
    Whole { head: Head { buffer, offset: 5, length: split }, tail, bytes, _grants: grants }
}

proptest! {
    #[test]
    fn segments_are_the_frame_in_pieces(
        payload in 1..65_000_usize,
        in_head in 0..2000_usize,
        size in PAYLOAD_MIN..=WHOLE - HEADERS,
    ) {
        let whole = whole(payload, in_head);
        let segments = split(&whole.frame(), size).unwrap();
        prop_assert_eq!(segments.len(), payload.div_ceil(size));
        let mut data = Vec::new();
        for (number, segment) in segments.iter().enumerate() {
            let mut bytes = [0; PAGE_SIZE];
            let bytes = segment.read_head(&mut bytes);
            let packet = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
            prop_assert!(packet.verify_checksum());
            prop_assert_eq!(usize::from(packet.total_len()), bytes.len() - 14);
            prop_assert_eq!(packet.ident(), u16::MAX.wrapping_add(number as u16));
            let (source, destination): (IpAddress, IpAddress) =
                (packet.src_addr().into(), packet.dst_addr().into());
            let tcp = TcpPacket::new_checked(packet.payload()).unwrap();
            prop_assert!(tcp.verify_checksum(&source, &destination));
            prop_assert_eq!(tcp.seq_number(), TcpSeqNumber(-256) + data.len());
            let is_last = number + 1 == segments.len();
            prop_assert_eq!((tcp.fin(), tcp.psh(), tcp.ack()), (is_last, is_last, true));
            prop_assert_eq!(tcp.cwr(), number == 0);
            prop_assert_eq!(segment.checksum, Checksum::Validated);
            data.extend_from_slice(tcp.payload());
        }
        prop_assert_eq!(&data, &whole.bytes[HEADERS..]);
    }

    #[test]
    fn no_frame_makes_it_panic(
        changes in prop::collection::vec((0..60_usize, any::<u8>()), 1..6),
        size in 0..3000_usize,
        payload in 1..5000_usize,
    ) {
        let whole = whole(payload, 0);
        for (place, byte) in changes {
            whole.head.buffer.page().write_bytes(5 + place, &[byte]);
        }
        for segment in split(&whole.frame(), size).unwrap_or_default() {
            prop_assert!(segment.length() <= WHOLE);
        }
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let mut whole = whole(10_000, 100);
    for size in [0, PAYLOAD_MIN - 1, WHOLE - HEADERS + 1, usize::from(u16::MAX)] {
        assert_eq!(split(&whole.frame(), size).err(), Some(SegmentError::Size(size)));
    }
    whole.tail[1].reference = GrantRef(4000);
    assert_eq!(split(&whole.frame(), 1000).err(), Some(SegmentError::Grant));
    whole.head.buffer.page().write_bytes(5 + 23, &[17]);
    assert_eq!(split(&whole.frame(), 1000).err(), Some(SegmentError::NotTcp));
}
