//! What guests put on the ring, right and wrong.

use abi::GrantRef;
use abi::ring::FrontRing;
use proptest::prelude::*;
use pv_guest_kernel::shared::SharedPage;

use super::*;

const MORE: u16 = TxFlags::MORE_DATA.bits();
const EXTRA: u16 = TxFlags::EXTRA_INFO.bits();

fn slot(offset: u16, size: u16, flags: u16) -> TxRequest {
    TxRequest { reference: GrantRef(u32::from(offset) + 8), offset, flags, id: size, size }
}

fn segmentation(size: u16, flags: u8) -> TxRequest {
    ExtraInfo { flags, ..ExtraInfo::segmentation(size) }.into_tx()
}

/// Both halves of a ring with these slots.
fn rings(slots: &[TxRequest]) -> (FrontRing<SharedPage, TxRequest, TxResponse>, Ring<SharedPage>) {
    let page = SharedPage::allocate().unwrap();
    let mut front = FrontRing::new(page.clone());
    slots.iter().for_each(|slot| front.push(slot).unwrap());
    let _ = front.publish();
    (front, BackRing::attach(page))
}

/// What the first frame is taken for.
fn take(slots: &[TxRequest]) -> Result<Option<(Packet, Vec<Piece>)>, Malformed> {
    let mut requests = Requests::default();
    requests.take(&mut rings(slots).1)?;
    Ok(requests.packets.pop().map(|packet| (packet, requests.pieces)))
}

fn lengths(pieces: &[Piece]) -> Vec<usize> {
    pieces.iter().map(|piece| piece.length.into()).collect()
}

#[test]
fn a_frame_of_one_slot() {
    let flags = TxFlags::CHECKSUM_BLANK | TxFlags::DATA_VALIDATED;
    let (packet, pieces) = take(&[slot(100, 60, flags.bits())]).unwrap().unwrap();
    assert_eq!((packet.length, packet.checksum), (60, Checksum::Blank));
    let piece = Piece { reference: GrantRef(108), offset: 100, length: 60 };
    assert_eq!((packet.pieces, pieces), (0..1, vec![piece]));
    assert_eq!(take(&[]), Ok(None));
}

#[test]
fn the_first_slot_has_what_the_others_leave() {
    let slots = [
        slot(0, 9000, MORE | EXTRA),
        segmentation(1448, 0),
        slot(0, 4096, MORE),
        slot(10, 1000, 0),
    ];
    let (packet, pieces) = take(&slots).unwrap().unwrap();
    assert_eq!(lengths(&pieces), [3904, 4096, 1000]);
    assert_eq!(packet.segment_size.map(NonZeroU16::get), Some(1448));
}

#[test]
fn every_slot_is_answered_in_its_place() {
    let slots = [slot(0, 5000, MORE | EXTRA), segmentation(1448, 0), slot(0, 4000, 0)];
    let (mut front, mut back) = rings(&slots);
    let mut requests = Requests::default();
    assert_eq!(requests.take(&mut back), Ok(Some(5000)));
    requests.answer_all(&mut back).unwrap();
    let _ = back.publish();
    let answers: Vec<_> = core::iter::from_fn(|| front.pop().unwrap()).collect();
    let answers: Vec<_> = answers.iter().map(|answer| (answer.id, answer.status)).collect();
    assert_eq!(answers, [(5000, 0), (0, TxStatus::Null.raw()), (4000, 0)]);
    assert_eq!(back.unanswered(), 0);
}

#[test]
fn a_frame_that_no_wire_takes_is_answered_with_an_error_and_the_next_one_is_taken() {
    let slots = [slot(0, 5000, MORE), slot(0, 4000, 0), slot(0, 1514, 0)];
    let (mut front, mut back) = rings(&slots);
    let mut requests = Requests::default();
    assert_eq!(requests.take(&mut back), Ok(Some(5000)));
    assert!(requests.packets.is_empty() && !requests.is_empty());
    assert_eq!(requests.take(&mut back), Ok(Some(1514)));
    assert_eq!(requests.packets.len(), 1);
    requests.answer_all(&mut back).unwrap();
    let _ = back.publish();
    let answers: Vec<_> = core::iter::from_fn(|| front.pop().unwrap()).collect();
    let answers: Vec<_> = answers.iter().map(|answer| (answer.id, answer.status)).collect();
    assert_eq!(answers, [(5000, -1), (4000, -1), (1514, 0)]);
}

#[test]
fn each_offence_is_named() {
    use Malformed::*;
    let many = |count: usize, size: u16| -> Vec<TxRequest> {
        let mut slots = vec![slot(0, size, MORE)];
        slots.extend((2..count).map(|_| slot(0, 1, MORE)));
        slots.push(slot(0, 1, 0));
        slots
    };
    assert!(take(&many(MAX_SLOTS, 100)).is_ok());
    let cases: [(&[TxRequest], Malformed); 12] = [
        (&many(MAX_SLOTS + 1, 100), TooManySlots),
        (&[slot(0, 100, MORE)], Unfinished),
        (&[slot(0, 100, EXTRA)], Unfinished),
        (&[slot(0, 13, 0)], TooShort(13)),
        (&[slot(0, 100, MORE), slot(0, 101, 0)], TooLong(100)),
        (&[slot(0, 4097, 0)], BeyondPage { offset: 0, size: 4097 }),
        (&[slot(u16::MAX, 100, 0)], BeyondPage { offset: u16::MAX, size: 100 }),
        (&[slot(0, 100, MORE), slot(4090, 7, 0)], BeyondPage { offset: 4090, size: 7 }),
        (&[slot(0, 100, MORE), slot(0, 0, 0)], EmptySlot),
        (&[slot(0, 100, MORE), slot(0, 100, 0)], EmptySlot),
        (&[slot(0, 100, EXTRA), segmentation(0, 0)], Segmentation { size: 0, kind: 1 }),
        (&[slot(0, 100, EXTRA), segmentation(9, 1), segmentation(9, 0)], ExtraKind(1)),
    ];
    for (slots, offence) in cases {
        assert_eq!(take(slots), Err(offence), "{slots:x?}");
    }
    for kind in [0, 2, 3, 4, 5, 6, 255] {
        let extra = abi::net::ExtraInfo { kind, ..Default::default() };
        assert_eq!(take(&[slot(0, 100, EXTRA), extra.into_tx()]), Err(Malformed::ExtraKind(kind)));
    }
    let other = abi::net::ExtraInfo { segment_kind: 2, ..ExtraInfo::segmentation(9) };
    let refused = take(&[slot(0, 100, EXTRA), other.into_tx()]);
    assert_eq!(refused, Err(Segmentation { size: 9, kind: 2 }));
}

fn any_slot() -> impl Strategy<Value = TxRequest> {
    let number = || prop_oneof![0..5000_u16, any::<u16>(), Just(0), Just(1)];
    (number(), number(), prop_oneof![0..16_u16, any::<u16>()])
        .prop_map(|(offset, size, flags)| slot(offset, size, flags))
}

proptest! {
    #[test]
    fn what_passes_stays_in_its_pages(slots in prop::collection::vec(any_slot(), 0..60)) {
        let (_, mut ring) = rings(&slots);
        let mut requests = Requests::default();
        while let Ok(Some(length)) = requests.take(&mut ring) {
            prop_assert!(length >= ETHERNET_HEADER);
            let pieces = match requests.packets.last() {
                Some(packet) => &requests.pieces[packet.pieces.clone()],
                None => &requests.pieces,
            };
            prop_assert!((1..=MAX_SLOTS).contains(&pieces.len()));
            prop_assert_eq!(lengths(pieces).iter().sum::<usize>(), length);
            for piece in pieces {
                prop_assert!(piece.length > 0 && usize::from(piece.offset + piece.length) <= PAGE_SIZE);
            }
            requests.answer_all(&mut ring).unwrap();
            prop_assert_eq!(ring.unanswered(), 0);
            requests.clear();
        }
    }
}
