//! The balloon: memory that this domain has given back to the monitor, and takes again when the
//! toolstack lets it; and memory beyond what it started with, behind the end of its RAM.
//!
//! What is given back are runs of pages of the heap. They stay allocated, so that nobody uses them
//! while there is no memory behind them. Runs, because single pages would each waste another: what
//! the allocator keeps beside them ends their neighbour's alignment.

use alloc::vec::Vec;

use abi::{DomId, Gfn, PAGE_SIZE};

use super::Pages;
use crate::{executor, hypercall};

/// Pages of a run, which goes in one hypercall; between any two the other tasks have their turn.
const RUN: usize = 64;
/// Bytes of the heap that the kernel keeps for itself, whatever it is asked for.
const RESERVE: usize = 512 << 10;

/// Runs without memory.
#[derive(Debug, Default)]
pub(crate) struct Balloon(Vec<Pages>);

impl Balloon {
    /// Has the domain have so many pages, or as near to it as can be.
    pub(crate) async fn follow(&mut self, pages: usize) {
        let all = super::ram().pages();
        self.resize(all.saturating_sub(pages).div_ceil(RUN)).await;
        if self.0.is_empty() && pages > all {
            grow(pages - all).await;
        }
    }

    /// Has the balloon hold so many runs, or as many as can be.
    async fn resize(&mut self, runs: usize) {
        if runs != self.0.len() {
            log::info!("the toolstack wants {} KiB in all", runs * RUN * PAGE_SIZE / 1024);
        }
        while self.0.len() != runs {
            let done = if self.0.len() < runs { self.inflate() } else { self.deflate() };
            if !done {
                let kibibytes = self.0.len() * RUN * PAGE_SIZE / 1024;
                return log::warn!("the balloon stays at {kibibytes} KiB");
            }
            executor::yield_now().await;
        }
    }

    /// Gives a run back; says whether that was possible.
    fn inflate(&mut self) -> bool {
        if super::heap_spare() < RESERVE {
            return false;
        }
        let Ok(run) = Pages::new(RUN) else { return false };
        let frames = frames(&run);
        // SAFETY: the pages are ours, and nothing uses them until they leave the balloon.
        let done = unsafe { hypercall::memory::decrease_reservation(0, &frames) }.unwrap_or(0);
        let done = usize::try_from(done).unwrap_or(RUN);
        if done == RUN {
            self.0.push(run);
            return true;
        }
        // All or nothing: memory that was just given back can be had again, or else the run is
        // never used any more.
        if !take_back(frames.get(..done).unwrap_or_default()) {
            core::mem::forget(run);
        }
        false
    }

    /// Takes a run's memory again; says whether that was possible.
    fn deflate(&mut self) -> bool {
        let Some(run) = self.0.pop() else { return false };
        let done = take_back(&frames(&run));
        if !done {
            // Without all of its memory it stays where nobody uses it.
            self.0.push(run);
        }
        done
    }
}

/// Takes so many pages of memory, or as many as can be had, behind the end of RAM, for the heap.
async fn grow(pages: usize) {
    let mut added = super::ram().end()..super::ram().end();
    while added.end - added.start < pages as u64 * PAGE_SIZE as u64 {
        let first = Gfn::containing(added.end).0;
        let frames: Vec<Gfn> = (first..first.saturating_add(RUN as u64)).map(Gfn).collect();
        if !super::can_be_ram(added.end) || !take_back(&frames) {
            break;
        }
        added.end += (RUN * PAGE_SIZE) as u64;
        executor::yield_now().await;
    }
    let kibibytes = (added.end - added.start) / 1024;
    log::info!("{kibibytes} KiB more than at the start; wanted: {} KiB", pages * PAGE_SIZE / 1024);
    // SAFETY: there has just come memory behind these addresses, which nobody used before.
    unsafe { super::add_ram(&added) };
}

/// Has memory behind these frames, which had none; says whether all of them have it now.
fn take_back(frames: &[Gfn]) -> bool {
    let done = hypercall::memory::populate_physmap(DomId::SELF, 0, frames).unwrap_or(0);
    if done == frames.len() as u64 {
        return true;
    }
    let done = frames.get(..usize::try_from(done).unwrap_or(0)).unwrap_or_default();
    // SAFETY: nothing has used them since they were without memory a moment ago.
    let _ = unsafe { hypercall::memory::decrease_reservation(0, done) };
    false
}

fn frames(run: &Pages) -> Vec<Gfn> {
    let first = run.gfn().0;
    (first..first.saturating_add(run.count() as u64)).map(Gfn).collect()
}
