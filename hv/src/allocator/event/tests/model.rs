//! Random operations by three domains against a model that is a map, with one more property: no
//! event is ever lost.

use std::collections::{BTreeMap, BTreeSet};

use abi::event::Virq;
use abi::{DomId, Errno, Port, VcpuId};
use proptest::prelude::*;

use super::guest::World;
use crate::allocator::Progress;
use crate::allocator::event::{Binding, Channel, is_global};

type Ends = BTreeMap<(DomId, u32), Channel>;

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
    ]
}

struct Checked {
    world: World,
    ends: Ends,
    /// Events that were sent on open ports and not handled since.
    due: BTreeSet<(DomId, u32)>,
}

impl Checked {
    /// A port was opened: it must be the lowest that was free.
    fn opened(&mut self, id: DomId, port: Port, binding: Binding, vcpu: u32) {
        let lowest = (1..).find(|&port| !self.ends.contains_key(&(id, port)));
        assert_eq!(Some(port.0), lowest);
        self.ends.insert((id, port.0), Channel { binding, vcpu: VcpuId(vcpu) });
    }

    fn binding(&self, id: DomId, port: u32) -> Binding {
        self.ends.get(&(id, port)).map_or(Binding::Closed, |channel| channel.binding)
    }

    fn alloc(&mut self, owner: DomId, remote: DomId) {
        let port = self.world.monitor.event_alloc_unbound(owner, remote).unwrap();
        self.opened(owner, port, Binding::Unbound { remote }, 0);
    }

    fn bind(&mut self, local: DomId, remote: DomId, remote_port: u32) {
        let result = self.world.monitor.event_bind_interdomain(local, remote, Port(remote_port));
        if self.binding(remote, remote_port) != (Binding::Unbound { remote: local }) {
            assert_eq!(result, Err(Errno::EINVAL));
            return;
        }
        let port = result.unwrap();
        self.opened(local, port, Binding::Interdomain { remote, port: Port(remote_port) }, 0);
        let peer = self.ends.get_mut(&(remote, remote_port)).unwrap();
        peer.binding = Binding::Interdomain { remote: local, port };
        self.due.insert((local, port.0));
    }

    fn virq(&mut self, id: DomId, virq: Virq, vcpu: u32) {
        let result = self.world.monitor.event_bind_virq(id, virq, VcpuId(vcpu));
        let bound = self.ends.iter().any(|((owner, _), channel)| {
            *owner == id
                && channel.binding == Binding::Virq(virq)
                && (is_global(virq) || channel.vcpu.0 == vcpu)
        });
        let privileged = id == self.world.domains[0];
        let expected = match (is_global(virq), vcpu) {
            (true, 1..) => Err(Errno::EINVAL),
            (true, _) if !privileged => Err(Errno::EPERM),
            (_, 2..) => Err(Errno::ENOENT),
            _ if bound => Err(Errno::EEXIST),
            _ => Ok(()),
        };
        assert_eq!(result.map(|_| ()), expected);
        if let Ok(port) = result {
            self.opened(id, port, Binding::Virq(virq), vcpu);
        }
    }

    fn send(&mut self, id: DomId, port: u32) {
        let result = self.world.monitor.event_send(id, Port(port));
        let receiver = match self.binding(id, port) {
            Binding::Closed | Binding::Virq(_) => return assert_eq!(result, Err(Errno::EINVAL)),
            Binding::Unbound { .. } => None,
            Binding::Interdomain { remote, port } => Some((remote, port.0)),
            Binding::Ipi => Some((id, port)),
        };
        assert_eq!(result, Ok(()));
        self.due.extend(receiver);
    }

    fn close(&mut self, id: DomId, port: u32) {
        if let Binding::Interdomain { remote, port } = self.binding(id, port) {
            let peer = self.ends.get_mut(&(remote, port.0)).unwrap();
            peer.binding = Binding::Unbound { remote: id };
        }
        self.ends.remove(&(id, port));
        self.due.remove(&(id, port));
    }

    fn move_to(&mut self, id: DomId, port: u32, vcpu: u32) {
        let result = self.world.monitor.event_bind_vcpu(id, Port(port), VcpuId(vcpu));
        let movable = match self.binding(id, port) {
            Binding::Closed | Binding::Ipi => false,
            Binding::Virq(virq) => is_global(virq),
            Binding::Unbound { .. } | Binding::Interdomain { .. } => true,
        };
        if vcpu >= 2 {
            assert_eq!(result, Err(Errno::ENOENT));
        } else if movable {
            assert_eq!(result, Ok(()));
            self.ends.get_mut(&(id, port)).unwrap().vcpu = VcpuId(vcpu);
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
            Step::Ipi { domain, vcpu } => {
                let result = self.world.monitor.event_bind_ipi(domains[domain], VcpuId(vcpu));
                assert_eq!(result.is_ok(), vcpu < 2);
                if let Ok(port) = result {
                    self.opened(domains[domain], port, Binding::Ipi, vcpu);
                }
            }
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
                while self.world.monitor.close_events(domains[domain]) == Progress::More {}
                (1..20).for_each(|port| self.close(domains[domain], port));
            }
            Step::Handle { domain } => self.handle(domains[domain]),
        }
    }

    fn compare(&self) {
        for id in self.world.domains {
            for port in 0..20 {
                let expected = self.ends.get(&(id, port)).copied().unwrap_or_default();
                let actual = self.world.monitor.event_status(id, Port(port)).unwrap_or_default();
                assert_eq!(actual, expected, "port {port} of {id}");
            }
        }
    }

    /// Unmasks everything and handles all interrupts: every event that was sent must show up.
    fn drain(&mut self) {
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
        let world = World::new();
        let mut checked = Checked { world, ends: Ends::new(), due: BTreeSet::new() };
        for step in steps {
            checked.apply(step);
            checked.compare();
        }
        checked.drain();
    }
}
