//! The frontend's side of the rings against a backend that keeps the rules, and one that does not.

use core::num::NonZeroU16;

use abi::net::{
    ExtraInfo, RxFlags, RxRequest, RxResponse, TxFlags, TxRequest, TxResponse, TxStatus,
};
use abi::ring::BackRing;
use abi::{GrantRef, PAGE_SIZE};
use proptest::prelude::*;

use super::transmit::SLOTS_MAX;
use super::*;
use crate::grant::{Access, CopyBatch, End};
use crate::shared::SharedPage;

/// dom0's halves of the rings.
struct Backend {
    tx: BackRing<SharedPage, TxRequest, TxResponse>,
    rx: BackRing<SharedPage, RxRequest, RxResponse>,
}

fn pair() -> (Rings, Backend) {
    let rings = Rings::new(DomId::DOM0).unwrap();
    let [tx, rx] = [&rings.transmit.grant, &rings.receive.grant].map(|grant| grant.page().clone());
    let backend = Backend { tx: BackRing::attach(tx), rx: BackRing::attach(rx) };
    (rings, backend)
}

/// Copies between a granted page and bytes, as dom0 does.
fn read(reference: GrantRef, offset: u16, length: usize) -> Vec<u8> {
    let page = SharedPage::allocate().unwrap();
    let mut copies = CopyBatch::default();
    let source = (End::Granted(DomId(1), reference), usize::from(offset));
    copies.push(source, (End::Own(&page), 0), length);
    copies.run().unwrap();
    assert!(copies.is_done(0));
    let mut bytes = vec![0; length];
    page.read_bytes(0, &mut bytes);
    bytes
}

impl Backend {
    /// Takes a frame that was sent and answers it.
    fn take(&mut self) -> Option<(Vec<u8>, TxFlags, Option<u16>)> {
        let first = self.tx.pop().unwrap()?;
        let flags = TxFlags::from_bits_truncate(first.flags);
        let mut slots = vec![first];
        let segment_size = flags
            .contains(TxFlags::EXTRA_INFO)
            .then(|| ExtraInfo::from_tx(&self.tx.pop().unwrap().unwrap()).segment_size);
        while slots.last().unwrap().flags & TxFlags::MORE_DATA.bits() != 0 {
            slots.push(self.tx.pop().unwrap().unwrap());
        }
        let others: usize = slots[1..].iter().map(|slot| usize::from(slot.size)).sum();
        let own = usize::from(first.size) - others;
        let mut bytes = read(first.reference, first.offset, own);
        for slot in &slots[1..] {
            bytes.extend(read(slot.reference, slot.offset, slot.size.into()));
        }
        self.answer(first.id, TxStatus::Okay);
        if segment_size.is_some() {
            self.answer(0, TxStatus::Null);
        }
        slots[1..].iter().for_each(|slot| self.answer(slot.id, TxStatus::Okay));
        Some((bytes, flags, segment_size))
    }

    fn answer(&mut self, id: u16, status: TxStatus) {
        self.tx.push(&TxResponse { id, status: status.raw() }).unwrap();
        let _ = self.tx.publish();
    }

    /// Delivers a frame, so many bytes in each page, with or without extra information.
    fn deliver(&mut self, frame: &[u8], in_page: usize, extra: bool) {
        let page = SharedPage::allocate().unwrap();
        let parts = frame.chunks(in_page).count();
        for (index, part) in frame.chunks(in_page).enumerate() {
            let RxRequest { id, reference, .. } = self.rx.pop().unwrap().unwrap();
            page.write_bytes(0, part);
            let mut copies = CopyBatch::default();
            let to = (End::Granted(DomId(1), reference), PAGE_SIZE - in_page);
            copies.push((End::Own(&page), 0), to, part.len());
            copies.run().unwrap();
            let mut flags = RxFlags::empty();
            flags.set(RxFlags::MORE_DATA, index + 1 < parts);
            flags.set(RxFlags::EXTRA_INFO, index == 0 && extra);
            self.show(RxResponse {
                id,
                offset: (PAGE_SIZE - in_page) as u16,
                flags: flags.bits(),
                status: part.len() as i16,
            });
            if index == 0 && extra {
                self.rx.pop().unwrap().unwrap();
                self.show(ExtraInfo::segmentation(1448).into_rx());
            }
        }
    }

    fn show(&mut self, response: RxResponse) {
        self.rx.push(&response).unwrap();
        let _ = self.rx.publish();
    }
}

fn send(rings: &mut Rings, frame: &[u8], flags: TxFlags, segment_size: Option<NonZeroU16>) {
    rings.transmit.frame(frame.len()).unwrap().copy_from_slice(frame);
    rings.transmit.send(frame.len(), flags, segment_size).unwrap();
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 247) as u8).collect()
}

proptest! {
    #[test]
    fn what_is_sent_arrives(
        frames in prop::collection::vec((14..=abi::net::MAX_FRAME, any::<bool>()), 1..40),
    ) {
        let (mut rings, mut backend) = pair();
        for (length, segmented) in frames {
            prop_assert!(rings.transmit.has_room().unwrap());
            let segment_size = NonZeroU16::new(1448).filter(|_| segmented);
            let sent = frame(length);
            send(&mut rings, &sent, TxFlags::CHECKSUM_BLANK, segment_size);
            prop_assert!(backend.take().is_none(), "it is seen before it is flushed");
            rings.flush().unwrap();
            let (bytes, flags, size) = backend.take().unwrap();
            prop_assert!(bytes == sent);
            prop_assert!(flags.contains(TxFlags::CHECKSUM_BLANK));
            prop_assert_eq!(size, segment_size.map(NonZeroU16::get));
        }
        rings.transmit.reap().unwrap();
        prop_assert_eq!(rings.transmit.outstanding(), 0);
    }

    #[test]
    fn what_comes_is_received(
        frames in prop::collection::vec((1..60_000_usize, 3500..=PAGE_SIZE, any::<bool>()), 1..40),
    ) {
        let (mut rings, mut backend) = pair();
        for (length, in_page, extra) in frames {
            let sent = frame(length);
            backend.deliver(&sent, in_page, extra);
            let (received, _) = rings.receive.next().unwrap().unwrap();
            prop_assert!(received == sent);
            prop_assert!(rings.receive.next().unwrap().is_none());
            rings.flush().unwrap();
            prop_assert_eq!(rings.receive.posted(), 256);
        }
    }
}

#[test]
fn a_full_ring_has_no_room_until_it_is_answered() {
    let (mut rings, mut backend) = pair();
    let mut sent = 0;
    while rings.transmit.has_room().unwrap() {
        send(&mut rings, &frame(4096), TxFlags::empty(), None);
        sent += 1;
    }
    rings.flush().unwrap();
    assert_eq!(sent, 256 - SLOTS_MAX + 1);
    assert!(!rings.final_check().unwrap());
    assert!(backend.take().is_some());
    assert!(rings.final_check().unwrap(), "it waits for room");
    assert!(!rings.final_check().unwrap(), "and has it now");
    assert!(rings.transmit.has_room().unwrap());
}

#[test]
fn frames_that_could_not_be_delivered_are_left_out() {
    let (mut rings, mut backend) = pair();
    let cases = [(0, -1), (0, i16::MIN), (4000, 97), (u16::MAX, 1)];
    for (offset, status) in cases {
        let id = backend.rx.pop().unwrap().unwrap().id;
        backend.show(RxResponse { id, offset, flags: 0, status });
    }
    backend.deliver(&frame(100), 4096, false);
    let (received, _) = rings.receive.next().unwrap().unwrap();
    assert_eq!(received, frame(100));
}

#[test]
fn a_backend_that_answers_what_was_not_asked_is_left() {
    let (mut rings, mut backend) = pair();
    backend.rx.pop().unwrap().unwrap();
    backend.show(RxResponse { id: 77, status: 60, ..Default::default() });
    assert!(rings.receive.next().is_err());

    let (mut rings, mut backend) = pair();
    let id = backend.rx.pop().unwrap().unwrap().id;
    let flags = RxFlags::MORE_DATA.bits();
    backend.show(RxResponse { id, status: 60, flags, offset: 0 });
    assert!(rings.receive.next().is_err(), "half a frame");

    for wrong in [1, 255, 256, u16::MAX] {
        let (mut rings, mut backend) = pair();
        send(&mut rings, &frame(60), TxFlags::empty(), None);
        rings.flush().unwrap();
        backend.tx.pop().unwrap().unwrap();
        backend.answer(wrong, TxStatus::Okay);
        assert!(rings.transmit.reap().is_err(), "{wrong}");
    }
}

#[test]
fn a_page_that_the_backend_still_uses_is_not_read() {
    let (mut rings, mut backend) = pair();
    let request = backend.rx.pop().unwrap().unwrap();
    let _mapping = crate::grant::Mapping::new(DomId(1), &[request.reference], Access::ReadWrite);
    backend.show(RxResponse { id: request.id, status: 60, ..Default::default() });
    assert!(rings.receive.next().is_err());
}
