//! Two guests at the bridge, and what they get for what they do.

use abi::PAGE_SIZE;
use abi::net::{ExtraInfo, RxFlags, RxRequest, RxResponse, TxFlags, TxRequest, TxResponse};
use abi::ring::{FrontRing, RingError};
use pv_guest_kernel::grant::Grant;

use super::super::receiver::Fault;
use super::super::segment::SegmentError;
use super::*;

const PAGES: usize = 20;

/// A guest: its own halves of the rings, and dom0's.
struct Guest {
    address: MacAddress,
    tx: FrontRing<SharedPage, TxRequest, TxResponse>,
    rx: FrontRing<SharedPage, RxRequest, RxResponse>,
    sent: Vec<Grant>,
    posted: Vec<Grant>,
    sender: Sender,
    receiver: Rc<Receiver>,
    _plug: Plug,
    _channel: Channel,
}

fn pages(access: Access) -> Vec<Grant> {
    let grant = || Grant::new(&SharedPage::allocate().unwrap(), DomId::DOM0, access).unwrap();
    (0..PAGES).map(|_| grant()).collect()
}

const ALL: Abilities =
    Abilities { scatter_gather: true, segmentation: true, blank_checksums: true };

impl Guest {
    fn new(number: u8, abilities: Abilities) -> Guest {
        let (tx_page, rx_page) = (SharedPage::allocate().unwrap(), SharedPage::allocate().unwrap());
        let (tx, rx) = (FrontRing::new(tx_page.clone()), FrontRing::new(rx_page.clone()));
        let (theirs, ours) = Channel::loopback().unwrap();
        let (domain, channel) = (DomId(number.into()), Rc::new(ours));
        let receiver = Rc::new(Receiver::new(domain, [(rx_page, channel.clone())], abilities));
        let address = MacAddress([2, 0, 0, 0, 0, number]);
        let plug = Plug::new(address, receiver.clone());
        let credit = Rc::new(RefCell::new(Credit::new(None, Duration::ZERO)));
        let (port, ring) = (plug.0, BackRing::attach(tx_page));
        Guest {
            address,
            tx,
            rx,
            sent: pages(Access::ReadOnly),
            posted: pages(Access::ReadWrite),
            sender: Sender {
                domain,
                ring,
                channel,
                port,
                credit,
                requests: Requests::default(),
                heads: Vec::new(),
                copies: CopyBatch::default(),
            },
            receiver,
            _plug: plug,
            _channel: theirs,
        }
    }

    /// Posts this many empty pages.
    fn post(&mut self, count: usize) {
        for id in 0..count {
            let reference = self.posted[id].reference();
            self.rx.push(&RxRequest { id: id as u16, padding: 0, reference }).unwrap();
        }
        let _ = self.rx.publish();
    }

    /// Puts a frame on the ring, of which each page but the last is full.
    fn send(&mut self, frame: &[u8], segment_size: Option<u16>) {
        let last = frame.len().div_ceil(PAGE_SIZE) - 1;
        for (index, part) in frame.chunks(PAGE_SIZE).enumerate() {
            let grant = &self.sent[index];
            grant.page().write_bytes(0, part);
            let mut flags = TxFlags::empty();
            flags.set(TxFlags::MORE_DATA, index < last);
            flags.set(TxFlags::EXTRA_INFO, index == 0 && segment_size.is_some());
            flags.set(TxFlags::DATA_VALIDATED, index == 0);
            let size = if index == 0 { frame.len() } else { part.len() } as u16;
            let (id, reference) = (index as u16, grant.reference());
            self.push(TxRequest { reference, offset: 0, flags: flags.bits(), id, size });
            if let Some(size) = segment_size.filter(|_| index == 0) {
                self.push(ExtraInfo::segmentation(size).into_tx());
            }
        }
    }

    fn push(&mut self, request: TxRequest) {
        self.tx.push(&request).unwrap();
        let _ = self.tx.publish();
    }

    fn forward(&mut self) -> Result<Next, Offence> {
        self.sender.forward_burst()
    }

    /// Takes a frame: its bytes, the flags of its first slot, and how many slots it took.
    fn receive(&mut self) -> Option<(Vec<u8>, RxFlags, usize)> {
        let (mut bytes, mut slots, mut first) = (Vec::new(), 0, None);
        loop {
            let response = match self.rx.pop().unwrap() {
                Some(response) => response,
                None if slots == 0 => return None,
                None => panic!("half a frame"),
            };
            let flags = RxFlags::from_bits_truncate(response.flags);
            assert!(usize::try_from(response.status).is_ok(), "status {}", response.status);
            let mut part = vec![0; response.status as usize];
            self.posted[usize::from(response.id)]
                .page()
                .read_bytes(response.offset.into(), &mut part);
            bytes.extend(part);
            slots += 1;
            if flags.contains(RxFlags::EXTRA_INFO) {
                self.rx.pop().unwrap().unwrap();
                slots += 1;
            }
            let first = *first.get_or_insert(flags);
            if !flags.contains(RxFlags::MORE_DATA) {
                return Some((bytes, first, slots));
            }
        }
    }
}

fn frame(to: MacAddress, from: MacAddress, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|index| (index % 249) as u8).collect();
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes
}

fn pair() -> (Guest, Guest) {
    (Guest::new(1, ALL), Guest::new(2, ALL))
}

#[test]
fn frames_of_all_lengths_arrive_as_they_were_sent() {
    let (mut one, mut two) = pair();
    for length in [14, 60, 1500, WHOLE, WHOLE + 1, 4096, 4097, 9000, 65_535] {
        two.post(length.div_ceil(PAGE_SIZE) + usize::from(length > WHOLE));
        let sent = frame(two.address, one.address, length);
        one.send(&sent, (length > WHOLE).then_some(1448));
        assert_eq!(one.forward(), Ok(Next::Event));
        let (received, flags, _) = two.receive().unwrap();
        assert!(received == sent, "{length} bytes");
        assert!(flags.contains(RxFlags::DATA_VALIDATED));
        assert!(two.receive().is_none() && one.receive().is_none());
        while let Some(answer) = one.tx.pop().unwrap() {
            assert!(answer.status >= 0, "status {}", answer.status);
        }
        assert_eq!(one.tx.outstanding(), 0);
    }
}

#[test]
fn what_is_to_be_cut_is_passed_on_to_whoever_can() {
    let (mut one, mut two) = pair();
    two.post(PAGES);
    let sent = frame(two.address, one.address, 20_000);
    one.send(&sent, Some(1448));
    assert_eq!(one.forward(), Ok(Next::Event));
    let (received, flags, slots) = two.receive().unwrap();
    assert!(received == sent && flags.contains(RxFlags::EXTRA_INFO));
    assert_eq!(slots, 6, "five pages and one slot of extra information");
}

#[test]
fn a_broadcast_reaches_all_others() {
    let (mut one, mut two) = pair();
    let mut three = Guest::new(3, ALL);
    for guest in [&mut one, &mut two, &mut three] {
        guest.post(2);
    }
    let sent = frame(MacAddress([0xff; 6]), one.address, 100);
    one.send(&sent, None);
    assert_eq!(one.forward(), Ok(Next::Event));
    assert!(one.receive().is_none());
    assert_eq!(two.receive().unwrap().0, sent);
    assert_eq!(three.receive().unwrap().0, sent);
}

#[test]
fn a_guest_without_pages_loses_frames_and_nobody_waits() {
    let (mut one, mut two) = pair();
    two.post(1);
    for length in [5000, 100, 100] {
        one.send(&frame(two.address, one.address, length), (length > WHOLE).then_some(1448));
        assert_eq!(one.forward(), Ok(Next::Event));
    }
    assert_eq!(two.receive().unwrap().0.len(), 100);
    assert_eq!(two.receiver.dropped(), 2);
    let plain = Abilities { scatter_gather: false, ..ALL };
    let mut three = Guest::new(3, plain);
    three.post(3);
    one.send(&frame(three.address, one.address, 5000), Some(1448));
    assert_eq!(one.forward(), Ok(Next::Event));
    assert!(three.receive().is_none());
}

#[test]
fn a_grant_that_cannot_be_read_is_its_senders_fault() {
    for wrong in 0..3 {
        let (mut one, mut two) = pair();
        two.post(PAGES);
        one.send(&frame(two.address, one.address, 9000), Some(1448));
        one.sent.remove(wrong);
        assert_eq!(one.forward(), Err(Offence::Misdeed(Misdeed::Grant)), "slot {wrong}");
        assert_eq!(two.receiver.found_fault(), None);
    }
}

#[test]
fn a_page_that_cannot_be_written_is_its_receivers_fault() {
    let (mut one, mut two) = pair();
    two.posted[2] = pages(Access::ReadOnly).remove(0);
    two.post(PAGES);
    one.send(&frame(two.address, one.address, 9000), Some(1448));
    assert_eq!(one.forward(), Ok(Next::Event));
    assert_eq!(two.receiver.found_fault(), Some(Fault::Grant));
    let statuses: Vec<i16> =
        core::iter::from_fn(|| two.rx.pop().unwrap()).map(|answer| answer.status).collect();
    assert_eq!(statuses, [-1; 4], "its slots are given back");
}

#[test]
fn indices_that_cannot_be_are_offences() {
    let (mut one, mut two) = pair();
    // The request producer of either ring is its page's first word.
    let broken = |page: &SharedPage| page.store_u32(0, 1000, core::sync::atomic::Ordering::Relaxed);
    let (tx_page, rx_page) = (SharedPage::allocate().unwrap(), SharedPage::allocate().unwrap());
    one.sender.ring = BackRing::attach(tx_page.clone());
    broken(&tx_page);
    let ring = RingError::PeerIndex { produced: 1000, consumed: 0 };
    assert_eq!(one.forward(), Err(Offence::Malformed(Malformed::Ring(ring))));
    broken(&rx_page);
    let channel = two.sender.channel.clone();
    let receiver = Rc::new(Receiver::new(DomId(3), [(rx_page, channel)], ALL));
    let address = MacAddress([2, 0, 0, 0, 0, 3]);
    let _plug = Plug::new(address, receiver.clone());
    two.send(&frame(address, two.address, 100), None);
    assert_eq!(two.forward(), Ok(Next::Event));
    assert_eq!(receiver.found_fault(), Some(Fault::Ring(ring)));
}

#[test]
fn what_is_to_be_cut_and_is_no_tcp_is_an_offence_towards_whoever_needs_it_cut() {
    let (mut one, _two) = pair();
    let plain = Abilities { segmentation: false, ..ALL };
    let mut three = Guest::new(3, plain);
    three.post(PAGES);
    one.send(&frame(three.address, one.address, 9000), Some(1448));
    let misdeed = Misdeed::Segment(SegmentError::NotTcp);
    assert_eq!(one.forward(), Err(Offence::Misdeed(misdeed)));
}

#[test]
fn a_guest_beyond_its_rate_waits() {
    let (mut one, mut two) = pair();
    two.post(PAGES);
    let interval = Duration::from_secs(1000);
    let credit = Credit::new(Some(Rate { amount: 150, interval }), Duration::ZERO);
    one.sender.credit.replace(credit);
    for _ in 0..3 {
        one.send(&frame(two.address, one.address, 100), None);
    }
    let next = one.forward().unwrap();
    assert_eq!(next, Next::Credit(interval));
    let received = core::iter::from_fn(|| two.receive()).count();
    assert_eq!(received, 2, "the third is for the next interval");
}

#[test]
fn a_guest_that_leaves_is_forgotten() {
    let (mut one, two) = pair();
    let address = two.address;
    drop(two);
    one.send(&frame(address, one.address, 100), None);
    assert_eq!(one.forward(), Ok(Next::Event));
    let mut again = Guest::new(2, ALL);
    again.post(1);
    one.send(&frame(address, one.address, 100), None);
    assert_eq!(one.forward(), Ok(Next::Event));
    assert!(again.receive().is_some());
}

#[test]
fn connections_are_spread_over_queues_and_each_keeps_its_order() {
    const CONNECTIONS: u8 = 16;
    let mut one = Guest::new(1, ALL);
    let address = MacAddress([2, 0, 0, 0, 0, 3]);
    let granted = pages(Access::ReadWrite);
    let (mut queues, mut rings) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let page = SharedPage::allocate().unwrap();
        let mut ring: FrontRing<SharedPage, RxRequest, RxResponse> = FrontRing::new(page.clone());
        for (id, grant) in (0..).zip(&granted) {
            ring.push(&RxRequest { id, padding: 0, reference: grant.reference() }).unwrap();
        }
        let _ = ring.publish();
        rings.push(ring);
        queues.push((page, one.sender.channel.clone()));
    }
    let receiver = Rc::new(Receiver::new(DomId(3), queues, ALL));
    let _plug = Plug::new(address, receiver.clone());
    let mut found = [None; CONNECTIONS as usize];
    for turn in 0..2 {
        for connection in 0..CONNECTIONS {
            let mut bytes = frame(address, one.address, 100);
            // A packet of TCP, whose ports differ in one byte.
            bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
            bytes[20..24].copy_from_slice(&[0, 0, 64, 6]);
            bytes[35] = connection;
            one.send(&bytes, None);
            assert_eq!(one.forward(), Ok(Next::Event));
            let queue = rings.iter_mut().position(|ring| ring.pop().unwrap().is_some());
            let place = &mut found[usize::from(connection)];
            assert!(queue.is_some() && (turn == 0 || *place == queue), "{connection}: {queue:?}");
            *place = queue;
        }
    }
    assert!(found.contains(&Some(0)) && found.contains(&Some(1)), "{found:?}");
    assert_eq!(receiver.dropped(), 0);
}

#[test]
fn a_frame_that_is_rewritten_on_its_way_arrives_as_it_was_looked_at() {
    let (mut one, mut two) = pair();
    two.post(1);
    let sent = frame(two.address, one.address, 1000);
    one.send(&sent, None);
    assert_eq!(one.sender.take_burst(), Ok(Next::Event));
    one.sender.read().unwrap();
    one.sent[0].page().write_bytes(0, &[0xff; 1000]);
    assert_eq!(one.sender.forward(), Ok(false));
    assert_eq!(two.receive().unwrap().0, sent);
}
