//! The part of a guest's kernel that takes events from FIFO queues, after the rules in
//! public/event_channel.h.

use core::mem::offset_of;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;

use abi::event::fifo::{
    ControlBlock, LINK_MASK, LINKED, MASKED, PENDING, PRIORITIES, WORDS_PER_PAGE,
};
use abi::{DomId, Errno, Gfn, Port, VcpuId};

use super::World;
use crate::machine::memory::RamFrame;
use crate::types::VcpuKey;

/// Where the control blocks are; each has a page of its own.
const BLOCKS: Gfn = Gfn(0x4_0000);
/// Where the array's pages are.
const PAGES: Gfn = Gfn(0x4_1000);
/// Of the control block in its page.
const OFFSET: u32 = 128;

/// A kernel's view of its queues.
#[derive(Debug, Default)]
pub(in super::super) struct FifoKernel {
    blocks: [Option<RamFrame>; 2],
    pages: Vec<RamFrame>,
    /// The next port of each queue, if it is known.
    heads: [[u32; PRIORITIES]; 2],
}

impl World {
    /// Gives a vCPU a control block.
    pub(in super::super) fn init_control(&mut self, id: DomId, vcpu: VcpuId) -> Result<(), Errno> {
        let gfn = Gfn(BLOCKS.0 + u64::from(vcpu.0));
        let frame = self.ram(id, gfn);
        self.monitor.event_init_control(VcpuKey { domain: id, vcpu }, gfn, OFFSET)?;
        self.fifo.entry(id).or_default().blocks[vcpu.0 as usize] = Some(frame);
        Ok(())
    }

    /// Adds a page of words, all of them `word`.
    pub(in super::super) fn expand(&mut self, id: DomId, word: u32) -> Result<(), Errno> {
        let count = self.fifo.get(&id).map_or(0, |kernel| kernel.pages.len());
        let gfn = Gfn(PAGES.0 + count as u64);
        let page = self.ram(id, gfn);
        (0..WORDS_PER_PAGE as usize).for_each(|n| page.u32(n * 4).store(word, SeqCst));
        self.monitor.event_expand_array(id, gfn)?;
        self.fifo.entry(id).or_default().pages.push(page);
        Ok(())
    }
}

impl FifoKernel {
    /// The word of a port, if its page is there.
    pub(in super::super) fn word(&self, port: Port) -> Option<&AtomicU32> {
        let page = self.pages.get((port.0 / WORDS_PER_PAGE) as usize)?;
        Some(page.u32((port.0 % WORDS_PER_PAGE) as usize * 4))
    }

    pub(in super::super) fn is_linked(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.load(SeqCst) & LINKED != 0)
    }

    pub(super) fn mask(&self, port: Port) {
        if let Some(word) = self.word(port) {
            word.fetch_or(MASKED, SeqCst);
        }
    }

    fn control(&self, vcpu: usize, field: usize) -> &AtomicU32 {
        self.blocks[vcpu].as_ref().unwrap().u32(OFFSET as usize + field)
    }

    /// Takes all ports from a vCPU's queues, the most urgent first. Returns those that are pending
    /// and not masked.
    pub(super) fn take_all(&mut self, vcpu: VcpuId) -> Vec<Port> {
        let vcpu = vcpu.0 as usize;
        if self.blocks[vcpu].is_none() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut ready = 0;
        loop {
            ready |= self.control(vcpu, offset_of!(ControlBlock, ready)).swap(0, SeqCst);
            if ready == 0 {
                return taken;
            }
            let priority = ready.trailing_zeros() as usize;
            let (port, link) = self.take_head(vcpu, priority);
            if link == 0 {
                ready &= !(1 << priority);
            }
            taken.extend(port);
        }
    }

    fn take_head(&mut self, vcpu: usize, priority: usize) -> (Option<Port>, u32) {
        let mut head = self.heads[vcpu][priority];
        if head == 0 {
            head = self.control(vcpu, offset_of!(ControlBlock, head) + 4 * priority).load(SeqCst);
        }
        let Some(word) = self.word(Port(head)) else { return (None, 0) };
        let before = word.fetch_and(!(LINKED | LINK_MASK), SeqCst);
        let link = before & LINK_MASK;
        let due = before & PENDING != 0 && before & MASKED == 0;
        if due {
            word.fetch_and(!PENDING, SeqCst);
        }
        self.heads[vcpu][priority] = link;
        (due.then_some(Port(head)), link)
    }
}
