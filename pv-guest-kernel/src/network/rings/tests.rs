//! The frontend's side of the rings against a backend that keeps the rules, and one that does not.

use core::future::poll_fn;
use core::num::NonZeroU16;
use std::collections::BTreeMap;

use abi::net::{
    ExtraInfo, RxFlags, RxRequest, RxResponse, TxFlags, TxRequest, TxResponse, TxStatus,
};
use abi::ring::BackRing;
use abi::{GrantRef, PAGE_SIZE};
use proptest::prelude::*;

use super::transmit::SLOTS_MAX;
use super::*;
use crate::executor;
use crate::grant::{Access, CopyBatch, End};
use crate::shared::SharedPage;

mod negotiation;

/// dom0's halves of a queue's rings.
struct Backend {
    tx: BackRing<SharedPage, TxRequest, TxResponse>,
    rx: BackRing<SharedPage, RxRequest, RxResponse>,
}

fn pair() -> (Rings, Backend) {
    let (rings, mut backends) = with_queues(1);
    (rings, backends.pop().unwrap())
}

/// As many as there are grants for in these tests.
const QUEUES: usize = 5;

fn with_queues(count: usize) -> (Rings, Vec<Backend>) {
    let rings = Rings::new(DomId::DOM0, NonZeroUsize::new(count).unwrap()).unwrap();
    let pages = rings.transmit.grants.iter().zip(&rings.queues);
    let backend = |(tx, queue): (&Grant, &Queue)| Backend {
        tx: BackRing::attach(tx.page().clone()),
        rx: BackRing::attach(queue.receive.grant.page().clone()),
    };
    let backends = pages.map(backend).collect();
    (rings, backends)
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

/// A packet of TCP between two ports, with a number behind its header.
fn segment(port: u16, number: usize) -> Vec<u8> {
    let mut frame = frame(100);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 86, 0, 0, 0x40, 0, 64, 6]);
    frame[34..38].copy_from_slice(&[0, 80, (port >> 8) as u8, port as u8]);
    frame[54] = number as u8;
    frame
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
            let (received, ..) = rings.next().unwrap().unwrap();
            prop_assert!(received == sent);
            prop_assert!(rings.next().unwrap().is_none());
            rings.flush().unwrap();
            prop_assert_eq!(rings.queues[0].receive.posted(), 256);
        }
    }
}

proptest! {
    #[test]
    fn a_connection_keeps_its_queue_and_its_order(
        count in 1..=QUEUES,
        ports in prop::collection::vec(50_000..50_008_u16, 1..200),
    ) {
        let (mut rings, mut backends) = with_queues(count);
        let mut sent = BTreeMap::<u16, Vec<usize>>::new();
        let mut arrived = BTreeMap::<u16, (usize, Vec<usize>)>::new();
        for (number, &port) in ports.iter().enumerate() {
            prop_assert!(rings.transmit.has_room().unwrap());
            send(&mut rings, &segment(port, number), TxFlags::empty(), None);
            sent.entry(port).or_default().push(number);
        }
        rings.flush().unwrap();
        for (index, backend) in backends.iter_mut().enumerate() {
            while let Some((bytes, ..)) = backend.take() {
                let port = u16::from_be_bytes([bytes[36], bytes[37]]);
                let (queue, numbers) = arrived.entry(port).or_insert((index, Vec::new()));
                prop_assert_eq!(*queue, index);
                numbers.push(bytes[54].into());
            }
        }
        let arrived: BTreeMap<u16, Vec<usize>> =
            arrived.into_iter().map(|(port, (_, numbers))| (port, numbers)).collect();
        prop_assert_eq!(arrived, sent);
        rings.transmit.reap().unwrap();
        prop_assert_eq!(rings.transmit.outstanding(), 0);
        let slots: u32 = rings.traffic().iter().map(|traffic| traffic.sent).sum();
        prop_assert_eq!(slots as usize, ports.len());
    }

    #[test]
    fn all_queues_are_received_from_and_each_in_its_order(
        count in 1..=QUEUES,
        queues in prop::collection::vec(0..8_usize, 1..200),
    ) {
        let (mut rings, mut backends) = with_queues(count);
        let mut sent = vec![Vec::new(); count];
        for (number, queue) in queues.iter().enumerate() {
            let queue = queue % count;
            backends[queue].deliver(&[queue as u8, number as u8], 4096, false);
            sent[queue].push(number);
        }
        let mut received = vec![Vec::new(); count];
        while let Some((bytes, ..)) = rings.next().unwrap() {
            received[usize::from(bytes[0])].push(usize::from(bytes[1]));
        }
        let slots: Vec<usize> =
            rings.traffic().iter().map(|traffic| traffic.received as usize).collect();
        prop_assert_eq!(slots, sent.iter().map(Vec::len).collect::<Vec<_>>());
        prop_assert_eq!(received, sent);
    }
}

#[test]
fn a_queue_that_never_runs_dry_does_not_keep_others_waiting() {
    let (mut rings, mut backends) = with_queues(2);
    for _ in 0..100 {
        backends[0].deliver(&[0; 60], 4096, false);
    }
    backends[1].deliver(&[1; 60], 4096, false);
    let mut first_two = [(); 2].map(|()| rings.next().unwrap().unwrap().0[0]);
    first_two.sort_unstable();
    assert_eq!(first_two, [0, 1]);
}

#[test]
fn whoever_waits_hears_of_each_queue() {
    executor::run(async {
        let (rings, _) = with_queues(3);
        for queue in &rings.queues {
            let port = queue.channel.port();
            Channel::bind_interdomain(DomId::SELF, port).unwrap().notify();
            poll_fn(|context| rings.poll_event(context)).await;
        }
        let silent = poll_fn(|context| Poll::Ready(rings.poll_event(context))).await;
        assert!(silent.is_pending());
    });
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
    let (received, ..) = rings.next().unwrap().unwrap();
    assert_eq!(received, frame(100));
}

#[test]
fn a_backend_that_answers_what_was_not_asked_is_left() {
    let (mut rings, mut backend) = pair();
    backend.rx.pop().unwrap().unwrap();
    backend.show(RxResponse { id: 77, status: 60, ..Default::default() });
    assert!(rings.next().is_err());

    let (mut rings, mut backend) = pair();
    let id = backend.rx.pop().unwrap().unwrap().id;
    let flags = RxFlags::MORE_DATA.bits();
    backend.show(RxResponse { id, status: 60, flags, offset: 0 });
    assert!(rings.next().is_err(), "half a frame");

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
    assert!(rings.next().is_err());
}
