//! Both halves against a model, against a hostile peer, and under every ordering that the memory
//! model allows.

extern crate std;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::block;

/// Pages of this program's own memory, for both halves.
#[derive(Clone)]
struct Heap(Arc<[AtomicU32]>);

impl Heap {
    fn new() -> Self {
        Self::of_pages(1)
    }

    fn of_pages(pages: usize) -> Self {
        Heap((0..pages * PAGE_SIZE / WORD_SIZE).map(|_| AtomicU32::new(0xdead_beef)).collect())
    }
}

impl SharedMemory for Heap {
    fn pages(&self) -> usize {
        self.0.len() * WORD_SIZE / PAGE_SIZE
    }
    fn load(&self, offset: usize) -> u32 {
        self.0[offset / WORD_SIZE].load(Ordering::Relaxed)
    }
    fn store(&self, offset: usize, value: u32) {
        self.0[offset / WORD_SIZE].store(value, Ordering::Relaxed);
    }
}

/// A page of which every read returns what the test chose, whatever was written.
struct Hostile(RefCell<std::vec::IntoIter<u32>>);

impl SharedMemory for Hostile {
    fn load(&self, offset: usize) -> u32 {
        assert!(offset < PAGE_SIZE && offset.is_multiple_of(WORD_SIZE));
        self.0.borrow_mut().next().unwrap_or(0)
    }
    fn store(&self, offset: usize, _: u32) {
        assert!(offset < PAGE_SIZE && offset.is_multiple_of(WORD_SIZE));
    }
}

type Front<M> = FrontRing<M, [u32; 2], u32>;
type Back<M> = BackRing<M, [u32; 2], u32>;

#[test]
fn geometry_is_xens() {
    type Block = Page<Heap, block::Request, block::Response>;
    assert_eq!((Block::STRIDE, Block::SLOTS), (112, 32));
    assert_eq!([2, 4, 8, 16].map(Block::slots_in), [64, 128, 256, 512]);
    type NetworkTransmit = Page<Heap, [u32; 3], u32>;
    assert_eq!((NetworkTransmit::STRIDE, NetworkTransmit::SLOTS), (12, 256));
    type NetworkReceive = Page<Heap, [u32; 2], [u32; 2]>;
    assert_eq!((NetworkReceive::STRIDE, NetworkReceive::SLOTS), (8, 256));
}

#[test]
fn layout_is_xens() {
    let heap = Heap::new();
    let mut front = FrontRing::<_, block::Request, block::Response>::new(heap.clone());
    let request = block::Request { id: 0x1122_3344_5566_7788, ..Default::default() };
    front.push(&request).unwrap();
    front.push(&request).unwrap();
    assert_eq!(heap.load(0), 0, "a request is not shown before it is published");
    assert!(front.publish());
    assert_eq!([0, 4, 8, 12].map(|offset| heap.load(offset)), [2, 1, 0, 1]);
    assert_eq!(heap.load(64 + 112 + 8), 0x5566_7788);
}

#[test]
fn a_ring_of_several_pages_is_one_ring() {
    let heap = Heap::of_pages(4);
    let mut front = FrontRing::<_, block::Request, block::Response>::new(heap.clone());
    let mut back = BackRing::<_, block::Request, block::Response>::attach(heap);
    for round in 0..3 {
        // Slots lie across the pages' ends.
        for id in 0..128 {
            let request = block::Request { id: id + round, sector: !id, ..Default::default() };
            front.push(&request).unwrap();
        }
        assert_eq!(front.push(&block::Request::default()), Err(RingError::Full));
        let _ = front.publish();
        for id in 0..128 {
            let request = back.pop().unwrap().unwrap();
            assert_eq!((request.id, request.sector), (id + round, !id));
            back.push(&block::Response { id: request.id, ..Default::default() }).unwrap();
        }
        assert_eq!(back.pop().unwrap().map(|request| request.id), None);
        let _ = back.publish();
        for id in 0..128 {
            assert_eq!(front.pop().unwrap().unwrap().id, id + round);
        }
    }
}

/// What a test does next.
#[derive(Debug, Clone)]
enum Step {
    Push(u32),
    PublishRequests,
    Take,
    Answer,
    PublishResponses,
    Collect,
    BackSleeps,
    FrontSleeps,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<u32>().prop_map(Step::Push),
        2 => Just(Step::PublishRequests),
        3 => Just(Step::Take),
        3 => Just(Step::Answer),
        2 => Just(Step::PublishResponses),
        3 => Just(Step::Collect),
        1 => Just(Step::BackSleeps),
        1 => Just(Step::FrontSleeps),
    ]
}

/// The ring as it should be: four queues, and who sleeps.
#[derive(Default)]
struct Model {
    pushed: VecDeque<u32>,
    shown: VecDeque<u32>,
    taken: VecDeque<u32>,
    answered: VecDeque<u32>,
    visible: VecDeque<u32>,
    back_sleeps: bool,
    front_sleeps: bool,
}

impl Model {
    fn outstanding(&self) -> usize {
        [&self.pushed, &self.shown, &self.taken, &self.answered, &self.visible]
            .iter()
            .map(|queue| queue.len())
            .sum()
    }

    fn apply(&mut self, step: Step, front: &mut Front<Heap>, back: &mut Back<Heap>) {
        match step {
            Step::Push(value) => {
                let fits = self.outstanding() < Front::<Heap>::SLOTS as usize;
                assert_eq!(front.push(&[value, !value]).is_ok(), fits);
                self.pushed.extend(fits.then_some(value));
            }
            Step::PublishRequests => {
                let notify = front.publish();
                if self.back_sleeps && !self.pushed.is_empty() {
                    assert!(notify, "the back sleeps on");
                    self.back_sleeps = false;
                }
                assert!(!(notify && self.pushed.is_empty()), "nothing to notify of");
                self.shown.append(&mut self.pushed);
            }
            Step::Take => {
                let value = self.shown.pop_front();
                assert_eq!(back.pop(), Ok(value.map(|value| [value, !value])));
                self.taken.extend(value);
            }
            Step::Answer => {
                let value = self.taken.pop_front();
                let answer = back.push(&value.unwrap_or(0));
                assert_eq!(answer.is_ok(), value.is_some());
                self.answered.extend(value);
            }
            Step::PublishResponses => {
                let notify = back.publish();
                if self.front_sleeps && !self.answered.is_empty() {
                    assert!(notify, "the front sleeps on");
                    self.front_sleeps = false;
                }
                self.visible.append(&mut self.answered);
            }
            Step::Collect => assert_eq!(front.pop(), Ok(self.visible.pop_front())),
            Step::BackSleeps => {
                self.back_sleeps = !back.final_check().unwrap();
                assert_eq!(self.back_sleeps, self.shown.is_empty());
            }
            Step::FrontSleeps => {
                self.front_sleeps = !front.final_check().unwrap();
                assert_eq!(self.front_sleeps, self.visible.is_empty());
            }
        }
        assert_eq!(front.outstanding() as usize, self.outstanding());
        assert_eq!(back.unanswered() as usize, self.taken.len());
    }
}

/// A page and both halves, with indices that begin anywhere, so that tests cross the wrap.
fn ring(start: u32) -> (Heap, Front<Heap>, Back<Heap>) {
    let heap = Heap::new();
    let front = Front::starting_at(heap.clone(), start);
    (heap.clone(), front, Back::attach(heap))
}

proptest! {
    #[test]
    fn both_halves_follow_the_model(
        start in prop_oneof![Just(0), Just(u32::MAX - 20)],
        steps in prop::collection::vec(step(), 0..600),
    ) {
        let (_, mut front, mut back) = ring(start);
        let mut model = Model::default();
        for step in steps {
            model.apply(step, &mut front, &mut back);
        }
    }

    #[test]
    fn a_hostile_front_costs_the_back_at_most_a_full_ring(
        words in prop::collection::vec(prop_oneof![0..300_u32, any::<u32>()], 0..1000),
    ) {
        let words = RefCell::new(words.into_iter());
        let mut back = Back::attach(Hostile(words));
        let mut taken: u32 = 0;
        for _ in 0..600 {
            taken += u32::from(matches!(back.pop(), Ok(Some(_))));
            let _ = back.final_check();
            prop_assert!(back.unanswered() <= Back::<Hostile>::SLOTS);
            prop_assert_eq!(back.unanswered(), taken);
        }
        for _ in 0..taken {
            prop_assert_eq!(back.push(&0), Ok(()));
        }
        prop_assert_eq!(back.push(&0), Err(RingError::NothingToAnswer));
        let _ = back.publish();
    }

    #[test]
    fn a_hostile_back_answers_no_more_than_was_asked(
        asked in 0..=512_u32,
        words in prop::collection::vec(prop_oneof![0..600_u32, any::<u32>()], 0..1000),
    ) {
        let mut front = Front::new(Hostile(RefCell::new(words.into_iter())));
        for value in 0..asked {
            prop_assert_eq!(front.push(&[value, 0]).is_ok(), value < Front::<Hostile>::SLOTS);
        }
        let asked = front.outstanding();
        prop_assert_eq!(front.pop().ok().flatten(), None, "an answer before the question");
        let _ = front.publish();
        let answers = (0..600).filter(|_| matches!(front.pop(), Ok(Some(_)))).count();
        prop_assert_eq!(u32::try_from(answers).unwrap() + front.outstanding(), asked);
    }
}

#[test]
fn an_impossible_index_is_an_error() {
    let (heap, _, mut back) = ring(0);
    heap.store(Index::RequestProducer as usize, Front::<Heap>::SLOTS + 1);
    let impossible = RingError::PeerIndex { produced: Front::<Heap>::SLOTS + 1, consumed: 0 };
    assert_eq!(back.pop(), Err(impossible));
    assert_eq!(back.final_check(), Err(impossible));
}

#[test]
fn a_new_back_sees_again_what_its_predecessor_did_not_answer() {
    let (heap, mut front, mut back) = ring(0);
    for value in 0..3 {
        front.push(&[value, 0]).unwrap();
    }
    let _ = front.publish();
    back.pop().unwrap();
    back.push(&0).unwrap();
    let _ = back.publish();
    back.pop().unwrap();
    let mut next = Back::attach(heap);
    assert_eq!(next.pop(), Ok(Some([1, 0])));
    assert_eq!(next.pop(), Ok(Some([2, 0])));
    assert_eq!(next.pop(), Ok(None));
}

#[test]
fn two_threads_lose_nothing() {
    const COUNT: u32 = 50_000;
    let (_, mut front, mut back) = ring(u32::MAX - 100);
    let echo = std::thread::spawn(move || {
        let mut answered = 0;
        while answered < COUNT {
            while let Some([value, _]) = back.pop().unwrap() {
                back.push(&value).unwrap();
                answered += 1;
            }
            let _ = back.publish();
        }
    });
    let mut answers = Vec::new();
    let mut asked = 0;
    while answers.len() < COUNT as usize {
        while asked < COUNT && front.push(&[asked, 0]).is_ok() {
            asked += 1;
        }
        let _ = front.publish();
        while let Some(answer) = front.pop().unwrap() {
            answers.push(answer);
        }
    }
    echo.join().unwrap();
    assert!(answers.into_iter().eq(0..COUNT));
}

/// The few words that a model-checked test uses, in memory whose reorderings loom explores.
#[derive(Clone)]
struct Explored(Arc<[loom::sync::atomic::AtomicU32; 32]>);

impl SharedMemory for Explored {
    fn load(&self, offset: usize) -> u32 {
        self.0[offset / WORD_SIZE].load(Ordering::Relaxed)
    }
    fn store(&self, offset: usize, value: u32) {
        self.0[offset / WORD_SIZE].store(value, Ordering::Relaxed);
    }
    fn fence(&self, order: Ordering) {
        loom::sync::atomic::fence(order);
    }
}

/// A ring in such memory, with one request that was published.
fn explored() -> (FrontRing<Explored, u32, u32>, BackRing<Explored, u32, u32>) {
    let memory = core::array::from_fn(|_| loom::sync::atomic::AtomicU32::new(0));
    let memory = Explored(Arc::new(memory));
    let mut front = FrontRing::new(memory.clone());
    let back = BackRing::attach(memory);
    front.push(&0xaaaa).unwrap();
    let _ = front.publish();
    (front, back)
}

#[test]
fn no_ordering_loses_a_wakeup_or_tears_a_request() {
    loom::model(|| {
        let (mut front, mut back) = explored();
        let asking = loom::thread::spawn(move || {
            front.push(&0xbbbb).unwrap();
            front.publish()
        });
        let first = back.pop().unwrap();
        let second = back.pop().unwrap();
        let awake = back.final_check().unwrap();
        let notified = asking.join().unwrap();

        assert_eq!(first, Some(0xaaaa));
        assert!(matches!(second, None | Some(0xbbbb)), "torn: {second:x?}");
        // Whoever goes to sleep with a request unseen must be notified.
        assert!(second.is_some() || awake || notified, "asleep, and nobody rings");
    });
}

#[test]
fn no_ordering_loses_a_wakeup_or_tears_a_response() {
    loom::model(|| {
        let (mut front, mut back) = explored();
        let answering = loom::thread::spawn(move || {
            let request = back.pop().unwrap().unwrap();
            back.push(&!request).unwrap();
            back.publish()
        });
        let answer = front.pop().unwrap();
        let awake = front.final_check().unwrap();
        let notified = answering.join().unwrap();

        assert!(matches!(answer, None | Some(0xffff_5555)), "torn: {answer:x?}");
        assert!(answer.is_some() || awake || notified, "asleep, and nobody rings");
    });
}

/// A response takes its request's slot while the front writes the next request elsewhere.
#[test]
fn no_ordering_mixes_requests_and_responses() {
    loom::model(|| {
        let (mut front, mut back) = explored();
        let serving = loom::thread::spawn(move || {
            let mut taken = 0;
            while let Some(request) = back.pop().unwrap() {
                taken += 1;
                back.push(&!request).unwrap();
                let _ = back.publish();
            }
            (taken, back.final_check().unwrap())
        });
        front.push(&0xbbbb).unwrap();
        let notified = front.publish();
        let answers: Vec<u32> = (0..2).filter_map(|_| front.pop().unwrap()).collect();
        let (taken, awake) = serving.join().unwrap();

        assert!([!0xaaaa, !0xbbbb].starts_with(&answers), "mixed up: {answers:x?}");
        assert!(taken == 2 || awake || notified, "a request waits, and nobody rings");
    });
}
