//! Three domains whose kernels handle events as a guest on arm64 does.

use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;

use abi::device_tree::EVENT_PPI;
use abi::shared_info::{SharedInfo, VcpuInfo};
use abi::{DomId, Port, VcpuId};

use crate::allocator::Monitor;
use crate::allocator::frame::Kind;
use crate::allocator::testing::{self, PRIVILEGED};
use crate::allocator::vcpu::InfoPlace;
use crate::machine::memory::RamFrame;

/// The word and the bit of a port.
pub(super) fn port_mask(port: Port) -> (usize, u64) {
    (port.0 as usize / 64, 1 << (port.0 % 64))
}

/// A monitor with three domains of two vCPUs; the first is privileged.
pub(super) struct World {
    pub(super) monitor: Monitor,
    pub(super) domains: [DomId; 3],
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
        World { monitor, domains }
    }

    pub(super) fn connect(&mut self, a: DomId, b: DomId) -> (Port, Port) {
        let offered = self.monitor.event_alloc_unbound(a, b).unwrap();
        (offered, self.monitor.event_bind_interdomain(b, a, offered).unwrap())
    }

    pub(super) fn shared(&self, id: DomId) -> RamFrame {
        self.monitor.domains.get(id).unwrap().shared_info
    }

    pub(super) fn mask(&self, id: DomId, port: Port) {
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
    pub(super) fn scan(&self, id: DomId, vcpu: VcpuId) -> Vec<Port> {
        let domain = self.monitor.domains.get(id).unwrap();
        let InfoPlace { frame, offset, .. } = domain.vcpu(vcpu).unwrap().info.unwrap();
        frame.u8(offset + offset_of!(VcpuInfo, upcall_pending)).store(0, SeqCst);
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
}
