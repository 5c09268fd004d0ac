//! `dd`: moves blocks between its first disk and memory, and says what that took.
//!
//! `op=read` and `op=write` move whatever there is. `op=stamp` writes blocks of which each sector
//! says which one it is and in which round it was written; `op=check` reads them again and looks.
//! `op=discard` has the disk forget them. Several are done one after the other: `op=write,read`.
//! `bs=64K count=100 skip=0 depth=1 rounds=1` say how much.
//!
//! With `disks=all` it works on each disk that it has or gets, all at once, until the disk is taken
//! away, and says only how that ended.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::str::FromStr;
use core::time::Duration;

use futures_util::stream::{self, StreamExt};
use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::block::SECTOR_SIZE;
use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::block::{BlockError, Buffer, Disk};
use pv_guest_kernel::device_tree::InvalidArgument;
use pv_guest_kernel::xenbus::{self, frontends};
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, executor, guest_main, power, println, time};
use thiserror::Error;

guest_main!(main);

/// Why it failed.
#[derive(Debug, Error)]
enum Error {
    #[error("no store: {0}")]
    Store(Errno),
    #[error("this domain has no disk")]
    NoDisk,
    #[error("{0}; write op=read bs=64K count=100 skip=0 depth=1 rounds=1")]
    Argument(#[from] InvalidArgument),
    #[error("{0}")]
    Device(#[from] xenbus::Error),
    #[error("no buffer: {0}")]
    Buffer(#[from] Errno),
    #[error("{0} sectors are not what was written")]
    Wrong(u64),
    #[error("the disk was removed")]
    Removed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    Stamp,
    Check,
    Discard,
}

impl FromStr for Operation {
    type Err = ();

    fn from_str(text: &str) -> Result<Operation, ()> {
        Ok(match text {
            "read" => Operation::Read,
            "write" => Operation::Write,
            "stamp" => Operation::Stamp,
            "check" => Operation::Check,
            "discard" => Operation::Discard,
            _ => return Err(()),
        })
    }
}

/// What is to be done.
#[derive(Debug)]
struct Plan {
    operations: Vec<Operation>,
    /// Bytes of a block.
    size: usize,
    count: u64,
    /// The first block.
    skip: u64,
    /// Blocks in flight at once.
    depth: usize,
    rounds: u64,
    /// Whether each round says what it took.
    verbose: bool,
}

async fn main(environment: &'static Environment) {
    if let Err(error) = run(environment).await {
        println!("dd: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn run(environment: &Environment) -> Result<(), Error> {
    let operations = environment.argument("op").unwrap_or("read").split(',').map(str::parse);
    let all = match environment.argument("disks") {
        None => false,
        Some("all") => true,
        Some(_) => return Err(InvalidArgument("disks").into()),
    };
    let plan = Plan {
        operations: operations.collect::<Result<_, _>>().map_err(|()| InvalidArgument("op"))?,
        size: size(environment.argument("bs").unwrap_or("64K")).ok_or(InvalidArgument("bs"))?,
        count: environment.parsed("count", 100)?,
        skip: environment.parsed("skip", 0)?,
        depth: environment.parsed("depth", 1)?,
        rounds: environment.parsed("rounds", 1)?,
        verbose: !all,
    };
    let store = Client::for_guest().map_err(Error::Store)?;
    if all {
        return every_disk(store, plan.into()).await;
    }
    let disks = frontends(&store, "vbd").await.map_err(Error::Store)?;
    let disk = Disk::connect(&store, disks.first().ok_or(Error::NoDisk)?).await?;
    println!("dd: {} {:?}", disk.name(), disk.info());
    work(&disk, &plan, &Cell::new(0)).await
}

/// Works on every disk that this domain has or gets. Does not return.
async fn every_disk(store: Client, plan: Rc<Plan>) -> Result<(), Error> {
    let watch = store.watch("device/vbd").await.map_err(Error::Store)?;
    let known = Rc::new(RefCell::new(BTreeSet::new()));
    loop {
        watch.next().await;
        for path in frontends(&store, "vbd").await.map_err(Error::Store)? {
            if known.borrow_mut().insert(path.clone()) {
                let (store, plan, known) = (store.clone(), plan.clone(), known.clone());
                executor::spawn(async move {
                    one_of_all(&store, &path, &plan).await;
                    known.borrow_mut().remove(&path);
                })
                .detach();
            }
        }
    }
}

/// Works on a disk until it is taken away. One that cannot be connected may be on its way out.
async fn one_of_all(store: &Client, path: &str, plan: &Plan) {
    let Ok(disk) = Disk::connect(store, path).await else { return };
    let done = Cell::new(0);
    let result = work(&disk, plan, &done).await;
    let end = result.err().unwrap_or(Error::Removed);
    println!("dd: {}: {end}, after {} rounds", disk.name(), done.get());
}

/// Does as planned; `done` counts the rounds.
async fn work(disk: &Disk, plan: &Plan, done: &Cell<u64>) -> Result<(), Error> {
    for round in 1..=plan.rounds {
        for &operation in &plan.operations {
            Round::new(disk, plan, operation, round)?.run().await?;
        }
        done.set(round);
    }
    if disk.info().flush && disk.flush().await.is_err() {
        println!("dd: the disk could not be flushed");
    }
    Ok(())
}

fn size(text: &str) -> Option<usize> {
    let (number, shift) = match text.as_bytes().last()? {
        b'K' => (text.get(..text.len() - 1)?, 10),
        b'M' => (text.get(..text.len() - 1)?, 20),
        _ => (text, 0),
    };
    let size = number.parse::<usize>().ok()? << shift;
    (size > 0 && size.is_multiple_of(SECTOR_SIZE)).then_some(size)
}

/// One time over all blocks.
struct Round<'a> {
    disk: &'a Disk,
    plan: &'a Plan,
    operation: Operation,
    number: u64,
    /// Those that no block uses now.
    buffers: RefCell<Vec<Buffer>>,
    times: RefCell<Vec<Duration>>,
    errors: Cell<u64>,
    wrong: Cell<u64>,
    removed: Cell<bool>,
}

impl<'a> Round<'a> {
    fn new(
        disk: &'a Disk,
        plan: &'a Plan,
        operation: Operation,
        number: u64,
    ) -> Result<Round<'a>, Error> {
        let buffers = (0..plan.depth).map(|_| disk.buffer(plan.size)).collect::<Result<_, _>>()?;
        let times = RefCell::new(Vec::with_capacity(plan.count as usize));
        let (errors, wrong) = (Cell::new(0), Cell::new(0));
        let (buffers, removed) = (RefCell::new(buffers), Cell::new(false));
        Ok(Round { disk, plan, operation, number, buffers, times, errors, wrong, removed })
    }

    async fn run(self) -> Result<(), Error> {
        let Plan { size, count, skip, depth, .. } = *self.plan;
        let start = time::now();
        if depth == 1 {
            for block in skip..skip + count {
                self.block(block).await;
            }
        } else {
            let blocks = stream::iter(skip..skip + count).map(|block| self.block(block));
            blocks.buffer_unordered(depth).for_each(|()| core::future::ready(())).await;
        }
        let elapsed = time::now().saturating_sub(start).as_micros();
        let mut times = self.times.take();
        times.sort_unstable();
        let median = times.get(times.len() / 2).map_or(0, Duration::as_nanos);
        let (operation, errors) = (self.operation, self.errors.get());
        if self.removed.get() {
            return Err(Error::Removed);
        }
        if self.plan.verbose {
            println!(
                "dd: {operation:?} {count} of {size} bytes in {elapsed} us, median {median} ns, \
                 {errors} errors"
            );
        }
        if self.wrong.get() > 0 {
            return Err(Error::Wrong(self.wrong.get()));
        }
        Ok(())
    }

    /// Those beyond the disk's end begin again at its start.
    async fn block(&self, block: u64) {
        let sectors = (self.plan.size / SECTOR_SIZE) as u64;
        let blocks = (self.disk.info().sectors / sectors).max(1);
        let sector = block % blocks * sectors;
        match self.perform(sector, sectors).await {
            Ok(()) => {}
            Err(BlockError::Removed) => self.removed.set(true),
            Err(error) => {
                if self.errors.replace(self.errors.get() + 1) == 0 {
                    println!("dd: sector {sector}: {error}");
                }
            }
        }
    }

    async fn perform(&self, sector: u64, sectors: u64) -> Result<(), BlockError> {
        // As many blocks are in flight as there are buffers, unless an error kept one.
        let pooled = self.buffers.borrow_mut().pop();
        let mut buffer = match pooled {
            Some(buffer) => buffer,
            None => self.disk.buffer(self.plan.size).map_err(|_| BlockError::Failed)?,
        };
        if self.operation == Operation::Stamp {
            buffer.copy_from(&self.stamps(sector));
        }
        let start = time::now();
        let buffer = match self.operation {
            Operation::Read | Operation::Check => self.disk.read(sector, buffer).await?,
            Operation::Write | Operation::Stamp => self.disk.write(sector, buffer).await?,
            Operation::Discard => self.disk.discard(sector, sectors).await.map(|()| buffer)?,
        };
        self.times.borrow_mut().push(time::now().saturating_sub(start));
        if self.operation == Operation::Check {
            let mut data = vec![0; self.plan.size];
            buffer.copy_to(&mut data);
            let expected = self.stamps(sector);
            let sectors = data.chunks(SECTOR_SIZE).zip(expected.chunks(SECTOR_SIZE));
            let wrong = sectors.filter(|(found, expected)| found != expected).count() as u64;
            self.wrong.set(self.wrong.get() + wrong);
        }
        self.buffers.borrow_mut().push(buffer);
        Ok(())
    }

    /// What a block from this sector on holds: each sector says in every word where and when it
    /// was written.
    fn stamps(&self, sector: u64) -> Vec<u8> {
        let round = self.number;
        let words = self.plan.size / size_of::<u64>();
        let per_sector = (SECTOR_SIZE / size_of::<u64>()) as u64;
        let word = |index: u64| {
            ((sector + index / per_sector) << 24) | (round << 8) | (index % per_sector)
        };
        (0..words as u64).flat_map(|index| word(index).to_le_bytes()).collect()
    }
}
