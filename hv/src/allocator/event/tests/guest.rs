//! Three domains whose kernels handle events as a guest on arm64 does, by either ABI.

mod fifo;

use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;
use std::collections::BTreeMap;

pub(super) use self::fifo::FifoKernel;
use abi::device_tree::EVENT_PPI;
use abi::shared_info::{SharedInfo, VcpuInfo};
use abi::{DomId, Gfn, Port, VcpuId};

use crate::allocator::frame::Kind;
use crate::allocator::testing::{self, PRIVILEGED};
use crate::allocator::vcpu::InfoPlace;
use crate::allocator::{Monitor, Progress};
use crate::machine::memory::RamFrame;

/// The word and the bit of a port.
pub(super) fn port_mask(port: Port) -> (usize, u64) {
    (port.0 as usize / 64, 1 << (port.0 % 64))
}

/// A monitor with three domains of two vCPUs; the first is privileged.
pub(super) struct World {
    pub(super) monitor: Monitor,
    pub(super) domains: [DomId; 3],
    /// Those that have gone over to the FIFO ABI.
    pub(super) fifo: BTreeMap<DomId, FifoKernel>,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    pub(super) fn new() -> World {
        let mut monitor = testing::monitor(1024);
        let domains = [true, false, false].map(|privileged| {
            let config = testing::config(64);
            let config =
                crate::allocator::domain::DomainConfig { privileged, max_vcpus: 2, ..config };
            monitor.create_domain(PRIVILEGED, &config).unwrap()
        });
        for id in domains {
            let frame = monitor.frames.allocate(id, Kind::Shared, 0).unwrap();
            let place = InfoPlace { frame, offset: 128, registered: true };
            let domain = monitor.domains.get_mut(id).unwrap();
            domain.vcpu_mut(VcpuId(1)).unwrap().info = Some(place);
        }
        World { monitor, domains, fifo: BTreeMap::new() }
    }

    pub(super) fn connect(&mut self, a: DomId, b: DomId) -> (Port, Port) {
        let offered = self.monitor.event_alloc_unbound(a, b).unwrap();
        (offered, self.monitor.event_bind_interdomain(b, a, offered).unwrap())
    }

    pub(super) fn shared(&self, id: DomId) -> RamFrame {
        self.monitor.domains.get(id).unwrap().shared_info
    }

    pub(super) fn mask(&self, id: DomId, port: Port) {
        if let Some(kernel) = self.fifo.get(&id) {
            return kernel.mask(port);
        }
        let (word, bit) = port_mask(port);
        self.shared(id).u64(offset_of!(SharedInfo, mask) + 8 * word).fetch_or(bit, SeqCst);
    }

    /// Acknowledges the event interrupt, if it is pending.
    pub(super) fn take_interrupt(&mut self, id: DomId, vcpu: VcpuId) -> bool {
        let domain = self.monitor.domains.get_mut(id).unwrap();
        let pending = &mut domain.vcpu_mut(vcpu).unwrap().interrupts.private.pending;
        let was_pending = *pending & (1 << EVENT_PPI) != 0;
        *pending &= !(1 << EVENT_PPI);
        was_pending
    }

    /// What the interrupt's handler does: takes every pending port that is not masked.
    pub(super) fn scan(&mut self, id: DomId, vcpu: VcpuId) -> Vec<Port> {
        let domain = self.monitor.domains.get(id).unwrap();
        let InfoPlace { frame, offset, .. } = domain.vcpu(vcpu).unwrap().info.unwrap();
        frame.u8(offset + offset_of!(VcpuInfo, upcall_pending)).store(0, SeqCst);
        if let Some(kernel) = self.fifo.get_mut(&id) {
            return kernel.take_all(vcpu);
        }
        let selector = frame.u64(offset + offset_of!(VcpuInfo, pending_selector)).swap(0, SeqCst);
        let words = (0..64).filter(|word| selector & (1 << word) != 0);
        words.flat_map(|word| self.take_word(id, word)).collect()
    }

    fn take_word(&self, id: DomId, word: usize) -> Vec<Port> {
        let shared = self.shared(id);
        let mask = shared.u64(offset_of!(SharedInfo, mask) + 8 * word).load(SeqCst);
        let pending = shared.u64(offset_of!(SharedInfo, pending) + 8 * word);
        let taken = pending.fetch_and(mask, SeqCst) & !mask;
        let bits = (0..64).filter(|bit| taken & (1 << bit) != 0);
        bits.map(|bit| Port(word as u32 * 64 + bit)).collect()
    }

    /// Handles the event interrupts of all vCPUs of a domain.
    pub(super) fn take_events(&mut self, id: DomId) -> Vec<Port> {
        let mut events = Vec::new();
        for vcpu in [VcpuId(0), VcpuId(1)] {
            if self.take_interrupt(id, vcpu) {
                events.extend(self.scan(id, vcpu));
            }
        }
        events
    }

    /// Gives a domain a zeroed frame of RAM there, or zeroes what it has.
    pub(super) fn ram(&mut self, id: DomId, gfn: Gfn) -> RamFrame {
        let leaf = |monitor: &Monitor| monitor.domains.get(id).unwrap().stage2.lookup(gfn);
        if leaf(&self.monitor).is_none() {
            self.monitor.physmap(id).unwrap().populate(gfn, 0).unwrap();
        }
        let frame = self.monitor.frames.ram(leaf(&self.monitor).unwrap().mfn).unwrap();
        frame.zero(1);
        frame
    }

    /// Closes all ports of a domain, which then has the 2-level ABI.
    pub(super) fn reset(&mut self, id: DomId) {
        while self.monitor.close_events(id) == Progress::More {}
        if self.fifo.remove(&id).is_none() {
            return;
        }
        // What it was told to look at by the ABI that it had before has been moved.
        for vcpu in self.monitor.domains.get(id).unwrap().all_vcpus() {
            let InfoPlace { frame, offset, .. } = vcpu.info.unwrap();
            frame.u64(offset + offset_of!(VcpuInfo, pending_selector)).store(0, SeqCst);
        }
    }
}
