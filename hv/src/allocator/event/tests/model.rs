//! Random operations by three domains, of either ABI, against a model that is a map. Two more things
//! must be so: no event is ever lost, and a channel's target is where its peer's bit is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use abi::event::Virq;
use abi::event::fifo::MASKED;
use abi::{DomId, Errno, Gfn, Port, VcpuId};
use proptest::prelude::*;

use super::guest::World;
use crate::allocator::event::pending_bit::PendingBit;
use crate::allocator::event::{Binding, is_global};
use crate::types::VcpuKey;

/// What each open port is bound to, and its vCPU.
type Ends = BTreeMap<(DomId, u32), (Binding, VcpuId)>;

#[derive(Debug, Clone, Copy)]
enum Step {
    Alloc { owner: usize, remote: usize },
    Bind { local: usize, remote: usize, port: u32 },
    Virq { domain: usize, virq: u32, vcpu: u32 },
    Ipi { domain: usize, vcpu: u32 },
    Move { domain: usize, port: u32, vcpu: u32 },
    Send { domain: usize, port: u32 },
    Mask { domain: usize, port: u32 },
    Unmask { domain: usize, port: u32 },
    Close { domain: usize, port: u32 },
    Reset { domain: usize },
    Handle { domain: usize },
    InitControl { domain: usize },
    Expand { domain: usize, word: u32 },
    Priority { domain: usize, port: u32, priority: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let domain = || 0..3usize;
    let port = || prop_oneof![20 => 0..9u32, 1 => any::<u32>()];
    let vcpu = || 0..3u32;
    prop_oneof![
        4 => (domain(), domain()).prop_map(|(owner, remote)| Step::Alloc { owner, remote }),
        6 => (domain(), domain(), port())
            .prop_map(|(local, remote, port)| Step::Bind { local, remote, port }),
        1 => (domain(), 0..4u32, vcpu())
            .prop_map(|(domain, virq, vcpu)| Step::Virq { domain, virq, vcpu }),
        1 => (domain(), vcpu()).prop_map(|(domain, vcpu)| Step::Ipi { domain, vcpu }),
        2 => (domain(), port(), vcpu())
            .prop_map(|(domain, port, vcpu)| Step::Move { domain, port, vcpu }),
        8 => (domain(), port()).prop_map(|(domain, port)| Step::Send { domain, port }),
        3 => (domain(), 1..9u32).prop_map(|(domain, port)| Step::Mask { domain, port }),
        3 => (domain(), port()).prop_map(|(domain, port)| Step::Unmask { domain, port }),
        2 => (domain(), port()).prop_map(|(domain, port)| Step::Close { domain, port }),
        1 => domain().prop_map(|domain| Step::Reset { domain }),
        4 => domain().prop_map(|domain| Step::Handle { domain }),
        2 => domain().prop_map(|domain| Step::InitControl { domain }),
        2 => (domain(), prop_oneof![3 => Just(0), 1 => Just(MASKED)])
            .prop_map(|(domain, word)| Step::Expand { domain, word }),
        2 => (domain(), port(), 0..18u32)
            .prop_map(|(domain, port, priority)| Step::Priority { domain, port, priority }),
    ]
}

/// Which port is opened next.
#[derive(Debug, Clone)]
struct FreePorts {
    closed: VecDeque<u32>,
    untouched: u32,
}

impl Default for FreePorts {
    fn default() -> Self {
        FreePorts { closed: VecDeque::new(), untouched: 1 }
    }
}

impl FreePorts {
    fn next(&mut self, is_busy: impl Fn(u32) -> bool) -> u32 {
        for _ in 0..4 {
            match self.closed.pop_front() {
                Some(port) if is_busy(port) => self.closed.push_back(port),
                Some(port) => return port,
                None => break,
            }
        }
        self.untouched += 1;
        self.untouched - 1
    }
}

#[derive(Default)]
struct Checked {
    world: World,
    ends: Ends,
    free: BTreeMap<DomId, FreePorts>,
    /// Events that were sent on open ports and not handled since.
    due: BTreeSet<(DomId, u32)>,
}

impl Checked {
    /// Has a port opened, which must be the next.
    fn open(
        &mut self,
        id: DomId,
        (binding, vcpu): (Binding, u32),
        open: impl FnOnce(&mut World) -> Result<Port, Errno>,
    ) -> Port {
        let free = self.free.entry(id).or_default();
        let kernel = self.world.fifo.get(&id);
        let next = free.next(|port| kernel.is_some_and(|kernel| kernel.is_linked(Port(port))));
        assert_eq!(open(&mut self.world), Ok(Port(next)));
        self.ends.insert((id, next), (binding, VcpuId(vcpu)));
        Port(next)
    }

    fn binding(&self, id: DomId, port: u32) -> Binding {
        self.ends.get(&(id, port)).map_or(Binding::default(), |(binding, _)| *binding)
    }

    fn rebind(&mut self, id: DomId, port: u32, binding: Binding) {
        self.ends.get_mut(&(id, port)).unwrap().0 = binding;
    }

    fn alloc(&mut self, owner: DomId, remote: DomId) {
        self.open(owner, (Binding::Unbound { remote }, 0), |world| {
            world.monitor.event_alloc_unbound(owner, remote)
        });
    }

    fn bind(&mut self, local: DomId, remote: DomId, remote_port: u32) {
        let bind = |world: &mut World| {
            world.monitor.event_bind_interdomain(local, remote, Port(remote_port))
        };
        if self.binding(remote, remote_port) != (Binding::Unbound { remote: local }) {
            return assert_eq!(bind(&mut self.world), Err(Errno::EINVAL));
        }
        let binding = Binding::Interdomain { remote, port: Port(remote_port) };
        let port = self.open(local, (binding, 0), bind);
        self.rebind(remote, remote_port, Binding::Interdomain { remote: local, port });
        self.due.insert((local, port.0));
    }

    fn virq(&mut self, id: DomId, virq: Virq, vcpu: u32) {
        let bind = |world: &mut World| world.monitor.event_bind_virq(id, virq, VcpuId(vcpu));
        let bound = self.ends.iter().any(|((owner, _), (binding, bound_to))| {
            *owner == id
                && *binding == Binding::Virq(virq)
                && (is_global(virq) || bound_to.0 == vcpu)
        });
        let refused = match (is_global(virq), vcpu) {
            (true, 1..) => Some(Errno::EINVAL),
            (_, 2..) => Some(Errno::ENOENT),
            _ => bound.then_some(Errno::EEXIST),
        };
        match refused {
            Some(errno) => assert_eq!(bind(&mut self.world), Err(errno)),
            None => drop(self.open(id, (Binding::Virq(virq), vcpu), bind)),
        }
    }

    fn ipi(&mut self, id: DomId, vcpu: u32) {
        let bind = |world: &mut World| world.monitor.event_bind_ipi(id, VcpuId(vcpu));
        if vcpu < 2 {
            self.open(id, (Binding::Ipi, vcpu), bind);
        } else {
            assert_eq!(bind(&mut self.world), Err(Errno::ENOENT));
        }
    }

    fn send(&mut self, id: DomId, port: u32) {
        let result = self.world.monitor.event_send(id, Port(port));
        let receiver = match self.binding(id, port) {
            Binding::Closed { .. } | Binding::Virq(_) => {
                return assert_eq!(result, Err(Errno::EINVAL));
            }
            Binding::Unbound { .. } => None,
            Binding::Interdomain { remote, port } => Some((remote, port.0)),
            Binding::Ipi => Some((id, port)),
        };
        assert_eq!(result, Ok(()));
        self.due.extend(receiver);
    }

    fn close(&mut self, id: DomId, port: u32) {
        if let Binding::Interdomain { remote, port } = self.binding(id, port) {
            self.rebind(remote, port.0, Binding::Unbound { remote: id });
        }
        if self.ends.remove(&(id, port)).is_some() {
            self.free.entry(id).or_default().closed.push_back(port);
        }
        self.due.remove(&(id, port));
    }

    fn move_to(&mut self, id: DomId, port: u32, vcpu: u32) {
        let result = self.world.monitor.event_bind_vcpu(id, Port(port), VcpuId(vcpu));
        let movable = match self.binding(id, port) {
            Binding::Closed { .. } | Binding::Ipi => false,
            Binding::Virq(virq) => is_global(virq),
            Binding::Unbound { .. } | Binding::Interdomain { .. } => true,
        };
        if vcpu >= 2 {
            assert_eq!(result, Err(Errno::ENOENT));
        } else if movable {
            assert_eq!(result, Ok(()));
            self.ends.get_mut(&(id, port)).unwrap().1 = VcpuId(vcpu);
        } else {
            assert_eq!(result, Err(Errno::EINVAL));
        }
    }

    fn handle(&mut self, id: DomId) {
        for port in self.world.take_events(id) {
            assert!(self.due.remove(&(id, port.0)), "nobody sent {port}");
        }
    }

    fn apply(&mut self, step: Step) {
        let domains = self.world.domains;
        match step {
            Step::Alloc { owner, remote } => self.alloc(domains[owner], domains[remote]),
            Step::Bind { local, remote, port } => self.bind(domains[local], domains[remote], port),
            Step::Virq { domain, virq, vcpu } => {
                self.virq(domains[domain], Virq::from_raw(virq).unwrap(), vcpu)
            }
            Step::Ipi { domain, vcpu } => self.ipi(domains[domain], vcpu),
            Step::Move { domain, port, vcpu } => self.move_to(domains[domain], port, vcpu),
            Step::Send { domain, port } => self.send(domains[domain], port),
            Step::Mask { domain, port } => self.world.mask(domains[domain], Port(port)),
            Step::Unmask { domain, port } => {
                // Beyond the table: EINVAL.
                let _ = self.world.monitor.event_unmask(domains[domain], Port(port));
            }
            Step::Close { domain, port } => {
                let open = self.ends.contains_key(&(domains[domain], port));
                let result = self.world.monitor.event_close(domains[domain], Port(port));
                assert_eq!(result.is_ok(), open);
                self.close(domains[domain], port);
            }
            Step::Reset { domain } => {
                self.world.reset(domains[domain]);
                (1..200).for_each(|port| self.close(domains[domain], port));
                self.free.remove(&domains[domain]);
            }
            Step::Handle { domain } => self.handle(domains[domain]),
            Step::InitControl { domain } => self.init_control(domains[domain]),
            Step::Expand { domain, word } => self.expand(domains[domain], word),
            Step::Priority { domain, port, priority } => {
                self.set_priority(domains[domain], port, priority);
            }
        }
    }

    /// Goes over to FIFO, with all vCPUs: none has a queue without that.
    fn init_control(&mut self, id: DomId) {
        let had = self.world.fifo.contains_key(&id);
        for vcpu in [VcpuId(0), VcpuId(1)] {
            if had {
                let key = VcpuKey { domain: id, vcpu };
                let again = self.world.monitor.event_init_control(key, Gfn(0x4_0000), 0);
                assert_eq!(again, Err(Errno::EINVAL));
            } else {
                self.world.init_control(id, vcpu).unwrap();
            }
        }
    }

    fn expand(&mut self, id: DomId, word: u32) {
        let result = self.world.expand(id, word);
        let expected = self.world.fifo.contains_key(&id).then_some(()).ok_or(Errno::EOPNOTSUPP);
        assert_eq!(result, expected);
    }

    fn set_priority(&mut self, id: DomId, port: u32, priority: u32) {
        let result = self.world.monitor.event_set_priority(id, Port(port), priority);
        let fifo = self.world.fifo.contains_key(&id);
        match self.world.monitor.event_status(id, Port(port)) {
            Err(errno) => assert_eq!(result, Err(errno)),
            Ok(_) if !fifo => assert_eq!(result, Err(Errno::ENOSYS)),
            Ok(_) => assert_eq!(result.is_ok(), priority < 16),
        }
    }

    fn compare(&self) {
        for id in self.world.domains {
            for port in 0..20 {
                let expected = self.ends.get(&(id, port));
                let actual = self.world.monitor.event_status(id, Port(port)).unwrap_or_default();
                let open = actual.is_open().then_some((actual.binding, actual.vcpu));
                assert_eq!(open.as_ref(), expected, "port {port} of {id}");
                let target = actual.leads_to(id, Port(port)).map(|(peer, port)| {
                    self.world.monitor.domains.get(peer).unwrap().events.pending_bit(port)
                });
                assert_eq!(actual.target, target.unwrap_or(PendingBit::Nowhere));
            }
        }
    }

    /// Unmasks everything and handles all interrupts: every event that was sent must show up.
    fn drain(&mut self) {
        for id in self.world.fifo.keys().copied().collect::<Vec<_>>() {
            self.world.expand(id, 0).unwrap();
        }
        for (id, port) in self.ends.keys().copied().collect::<Vec<_>>() {
            self.world.monitor.event_unmask(id, Port(port)).unwrap();
        }
        self.world.domains.into_iter().for_each(|id| self.handle(id));
        assert!(self.due.is_empty(), "lost: {:?}", self.due);
    }
}

proptest! {
    #[test]
    fn channels_match_the_model_and_no_event_is_lost(
        steps in proptest::collection::vec(step(), 0..150)
    ) {
        let mut checked = Checked::default();
        for step in steps {
            checked.apply(step);
            checked.compare();
        }
        checked.drain();
    }
}
