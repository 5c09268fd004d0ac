//! Overlays against a plain model, on devices that follow the specification.

use alloc::boxed::Box;
use alloc::vec;

use abi::block::Segment;
use abi::{DomId, GrantRef, PAGE_SIZE};
use futures_util::future::FutureExt;
use proptest::prelude::*;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::shared::SharedPage;

use super::*;
use crate::block::disk::{Disk, Info};
use crate::block::memory::{Grants, Reach};
use crate::block::queue::Queue;
use crate::block::queue::tests::FakeDevice;

const SECTORS: u64 = 40;
const SIZE: usize = SECTORS as usize * SECTOR_SIZE;

/// A disk with a device behind it, and the memory of one transfer.
struct Bench {
    disk: Rc<Disk>,
    device: FakeDevice,
    pages: Vec<SharedPage>,
    /// If they are not mapped.
    grants: Vec<Grant>,
}

impl Bench {
    fn new(content: u8) -> Bench {
        let queue = Queue::new().unwrap();
        let pages: Vec<_> = (0..8).map(|_| SharedPage::allocate().unwrap()).collect();
        let mut device = FakeDevice::new(&queue, &pages, SECTORS as usize);
        device.sectors.fill(content);
        let (name, bytes) = ("disk0".into(), SIZE as u64);
        let info = Info { name, bytes, read_only: false, flush: true, discard: None };
        let disk = Rc::new(Disk::new(info, queue, Box::new(|| {})));
        Bench { disk, device, pages, grants: Vec::new() }
    }

    /// Has the monitor copy from and to its pages.
    fn grant(&mut self) {
        let grant = |page| Grant::new(page, DomId::DOM0, Access::ReadWrite).unwrap();
        self.grants = self.pages.iter().map(grant).collect();
    }

    fn extent(&self) -> Extent {
        Extent { disk: self.disk.clone(), first: 0, sectors: SECTORS }
    }

    /// The memory of a transfer of so many sectors, which begins in the middle of a page.
    fn memory(&self, shift: usize, count: usize) -> Rc<Memory> {
        let (mut parts, mut segments) = (Vec::new(), Vec::new());
        let (mut place, mut left) = (shift, count);
        while left > 0 {
            let here = left.min(8 - place % 8);
            parts.push((
                self.pages[place / 8].clone(),
                place % 8 * SECTOR_SIZE,
                here * SECTOR_SIZE,
            ));
            if let Some(grant) = self.grants.get(place / 8) {
                let (first_sector, reference) = ((place % 8) as u8, grant.reference());
                let last_sector = first_sector + here as u8 - 1;
                segments.push(Segment { reference, first_sector, last_sector, padding: 0 });
            }
            (place, left) = (place + here, left - here);
        }
        if self.grants.is_empty() {
            return Rc::new(Memory::of(Grants::new(DomId(1), Reach::Mapped).unwrap(), parts));
        }
        granted(&segments)
    }

    /// What lies in that memory, or is put there.
    fn bytes(&self, shift: usize, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count * SECTOR_SIZE];
        for (index, sector) in bytes.chunks_mut(SECTOR_SIZE).enumerate() {
            let place = shift + index;
            self.pages[place / 8].read_bytes(place % 8 * SECTOR_SIZE, sector);
        }
        bytes
    }

    fn fill(&self, value: u8) {
        self.pages.iter().for_each(|page| page.write_bytes(0, &[value; PAGE_SIZE]));
    }
}

/// Memory that only the monitor reaches.
fn granted(segments: &[Segment]) -> Rc<Memory> {
    let grants = Grants::new(DomId(1), Reach::Copied).unwrap();
    Rc::new(grants.memory(segments, Direction::FromDisk).unwrap())
}

/// Finishes work; whatever devices have to do for that, they do.
fn finish(progress: Progress, benches: &mut [Bench]) -> Result<(), IoError> {
    let mut work = match progress {
        Progress::Done(result) => return result,
        Progress::Pending(work) => work,
    };
    for _ in 0..1000 {
        if let Some(result) = (&mut work).now_or_never() {
            return result;
        }
        for bench in &mut *benches {
            let _ = bench.disk.publish().now_or_never();
            if bench.device.look() > 0 {
                bench.device.finish(0);
            }
            bench.disk.collect();
        }
    }
    panic!("it does not come to an end");
}

#[derive(Debug, Clone)]
enum Step {
    Read,
    Write(u8),
    Discard,
}

fn step() -> impl Strategy<Value = (Step, u64, usize, usize)> {
    let what =
        prop_oneof![Just(Step::Read), any::<u8>().prop_map(Step::Write), Just(Step::Discard)];
    (what, 0..SECTORS, 0..8_usize, 1..40_usize)
}

proptest! {
    #[test]
    fn it_is_a_disk(
        steps in prop::collection::vec(step(), 1..40),
        (with_base, on_disk, copied) in prop_oneof![
            Just((false, false, false)),
            Just((false, false, true)),
            Just((true, false, false)),
            Just((true, true, false)),
        ],
    ) {
        // The first has the base and the memory of transfers, the second the scratch space.
        let mut benches = [Bench::new(0xbb), Bench::new(0x55)];
        benches[1].pages = benches[0].pages.clone();
        benches[1].device.reach(&benches[0].pages);
        if copied {
            benches[0].grant();
        }
        let base = with_base.then(|| benches[0].extent());
        let overlay = match base {
            Some(base) if on_disk => Overlay::on_disk(base, benches[1].extent()),
            base => Overlay::in_ram(SECTORS, base, SIZE as u64),
        };
        let overlay = Rc::new(overlay.unwrap());
        let untouched = if with_base { 0xbb } else { 0 };
        let mut model = vec![untouched; SIZE];
        for (what, sector, shift, count) in steps {
            let count = count.min((SECTORS - sector) as usize);
            let place = sector as usize * SECTOR_SIZE..(sector as usize + count) * SECTOR_SIZE;
            match what {
                Step::Read => {
                    benches[0].fill(0xee);
                    let memory = benches[0].memory(shift, count);
                    let direction = Direction::FromDisk;
                    let progress = overlay.start(Work::Transfer { direction, sector, memory });
                    prop_assert_eq!(finish(progress, &mut benches), Ok(()));
                    prop_assert_eq!(benches[0].bytes(shift, count), &model[place]);
                }
                Step::Write(value) => {
                    benches[0].fill(value);
                    let memory = benches[0].memory(shift, count);
                    let direction = Direction::ToDisk;
                    let progress = overlay.start(Work::Transfer { direction, sector, memory });
                    prop_assert_eq!(finish(progress, &mut benches), Ok(()));
                    model[place].fill(value);
                }
                Step::Discard => {
                    let count = count as u64;
                    let progress = overlay.start(Work::Discard { sector, count });
                    prop_assert_eq!(finish(progress, &mut benches), Ok(()));
                    let whole = sector.div_ceil(BLOCK) * BLOCK..(sector + count) / BLOCK * BLOCK;
                    if whole.start < whole.end {
                        let bytes = whole.start as usize * SECTOR_SIZE..whole.end as usize * SECTOR_SIZE;
                        model[bytes].fill(untouched);
                    }
                }
            }
            prop_assert!(benches[0].device.sectors.iter().all(|&byte| byte == 0xbb), "the base");
        }
    }
}

#[test]
fn a_full_overlay_refuses_what_is_new_and_takes_what_is_not() {
    let mut benches = [Bench::new(0xbb)];
    let base = benches[0].extent();
    let overlay = Rc::new(Overlay::in_ram(SECTORS, Some(base), PAGE_SIZE as u64).unwrap());
    let mut write = |sector| {
        let memory = benches[0].memory(0, 8);
        let work = Work::Transfer { direction: Direction::ToDisk, sector, memory };
        finish(overlay.start(work), &mut benches)
    };
    assert_eq!(write(8), Ok(()));
    assert_eq!(write(16), Err(IoError::Full));
    assert_eq!(write(8), Ok(()));
    assert_eq!(finish(overlay.start(Work::Discard { sector: 8, count: 8 }), &mut []), Ok(()));
    assert_eq!(write(16), Ok(()));
}

#[test]
fn memory_that_cannot_be_reached_is_an_error() {
    let mut benches = [Bench::new(0xbb)];
    let ram = Rc::new(Overlay::in_ram(SECTORS, None, SIZE as u64).unwrap());
    let mut transfer = |overlay: &Rc<Overlay>, direction, memory| {
        finish(overlay.start(Work::Transfer { direction, sector: 0, memory }), &mut benches)
    };
    // Nobody granted it.
    let nowhere = granted(&[Segment { reference: GrantRef(9999), ..Default::default() }]);
    for direction in [Direction::ToDisk, Direction::FromDisk] {
        assert_eq!(transfer(&ram, direction, nowhere.clone()), Err(IoError::Memory));
    }
    // A device cannot have the monitor copy.
    let base = Bench::new(0xbb).extent();
    let over_disk = Rc::new(Overlay::in_ram(SECTORS, Some(base), SIZE as u64).unwrap());
    assert_eq!(transfer(&over_disk, Direction::FromDisk, nowhere), Err(IoError::Memory));
}
