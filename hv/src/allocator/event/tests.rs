//! Event channels against a model, and as a guest sees them, by the 2-level ABI first.

mod fifo;
mod guest;
mod interleavings;
mod model;

use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;

use abi::event::Virq;
use abi::shared_info::VcpuInfo;
use abi::{DomId, Errno, Port, VcpuId};

use self::guest::{World, port_mask};
use super::Binding;
use super::ports::CHUNK;
use crate::allocator::Progress;
use crate::allocator::domain::DomainConfig;
use crate::allocator::testing::{self, PRIVILEGED};
use crate::allocator::vcpu::Polling;
use crate::types::{Ticks, VcpuKey};

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);

#[test]
fn events_cross_a_channel_both_ways() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let (a_port, b_port) = world.connect(a, b);
    assert_eq!(world.take_events(b), [b_port], "bound: may have missed some");
    world.monitor.event_send(a, a_port).unwrap();
    world.monitor.event_send(a, a_port).unwrap();
    assert_eq!(world.take_events(b), [b_port]);
    world.monitor.event_send(b, b_port).unwrap();
    assert_eq!(world.take_events(a), [a_port]);
    assert_eq!(world.take_events(b), []);
}

#[test]
fn one_interrupt_until_the_guest_looks() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let (first, _) = world.connect(a, b);
    let (second, _) = world.connect(a, b);
    world.take_events(b);
    world.monitor.event_send(a, first).unwrap();
    assert!(world.take_interrupt(b, V0));
    world.monitor.event_send(a, second).unwrap();
    assert!(!world.take_interrupt(b, V0), "the upcall byte is still set");
    assert_eq!(world.scan(b, V0).len(), 2);
}

#[test]
fn masked_events_wait_for_unmask() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let (a_port, b_port) = world.connect(a, b);
    world.take_events(b);
    world.mask(b, b_port);
    world.monitor.event_send(a, a_port).unwrap();
    assert!(!world.take_interrupt(b, V0));
    assert_eq!(world.monitor.event_pending(b, b_port), Ok(true));
    world.monitor.event_unmask(b, b_port).unwrap();
    assert_eq!(world.take_events(b), [b_port]);
    world.mask(b, b_port);
    world.monitor.event_unmask(b, b_port).unwrap();
    assert!(!world.take_interrupt(b, V0), "nothing was pending");
}

#[test]
fn a_closed_end_can_be_bound_again() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let (a_port, b_port) = world.connect(a, b);
    world.monitor.event_close(b, b_port).unwrap();
    let status = world.monitor.event_status(a, a_port).unwrap();
    assert_eq!(status.binding, Binding::Unbound { remote: b });
    assert_eq!(world.monitor.event_send(a, a_port), Ok(()), "silently dropped");
    assert_eq!(world.monitor.event_send(b, b_port), Err(Errno::EINVAL));
    assert_eq!(world.monitor.event_close(b, b_port), Err(Errno::EINVAL));
    assert_eq!(world.monitor.event_pending(b, b_port), Ok(false), "closing clears the bit");
    let again = world.monitor.event_bind_interdomain(b, a, a_port).unwrap();
    world.take_events(b);
    world.monitor.event_send(a, a_port).unwrap();
    assert_eq!(world.take_events(b), [again]);
}

#[test]
fn only_the_named_domain_binds_and_only_once() {
    let mut world = World::new();
    let [dom0, a, b] = world.domains;
    let offered = world.monitor.event_alloc_unbound(a, b).unwrap();
    let monitor = &mut world.monitor;
    assert_eq!(monitor.event_bind_interdomain(dom0, a, offered), Err(Errno::EINVAL));
    assert_eq!(monitor.event_bind_interdomain(b, DomId(40), offered), Err(Errno::ESRCH));
    for wrong in [0, offered.0 + 1, CHUNK, u32::MAX] {
        assert_eq!(monitor.event_bind_interdomain(b, a, Port(wrong)), Err(Errno::EINVAL));
    }
    monitor.event_bind_interdomain(b, a, offered).unwrap();
    assert_eq!(monitor.event_bind_interdomain(b, a, offered), Err(Errno::EINVAL));
}

#[test]
fn both_ends_in_one_domain() {
    let mut world = World::new();
    let a = world.domains[1];
    let (one, other) = world.connect(a, a);
    world.take_events(a);
    world.monitor.event_send(a, one).unwrap();
    assert_eq!(world.take_events(a), [other]);
    world.monitor.event_close(a, other).unwrap();
    let status = world.monitor.event_status(a, one).unwrap();
    assert_eq!(status.binding, Binding::Unbound { remote: a });
}

#[test]
fn virtual_interrupts_follow_xens_rules() {
    let mut world = World::new();
    let [dom0, a, _] = world.domains;
    let monitor = &mut world.monitor;
    assert_eq!(monitor.event_bind_virq(dom0, Virq::DomExc, V1), Err(Errno::EINVAL));
    assert_eq!(monitor.event_bind_virq(a, Virq::Debug, VcpuId(2)), Err(Errno::ENOENT));
    monitor.raise_virq(dom0, Virq::DomExc);
    let exc = monitor.event_bind_virq(dom0, Virq::DomExc, V0).unwrap();
    let unheard = monitor.event_bind_virq(a, Virq::DomExc, V0).unwrap();
    assert_eq!(monitor.event_bind_virq(dom0, Virq::DomExc, V0), Err(Errno::EEXIST));
    let debug = [V0, V1].map(|vcpu| monitor.event_bind_virq(a, Virq::Debug, vcpu).unwrap());
    assert_eq!(monitor.event_bind_vcpu(a, debug[0], V1), Err(Errno::EINVAL), "vCPU 0's own");
    assert_eq!(monitor.event_send(dom0, exc), Err(Errno::EINVAL));
    assert_eq!(world.take_events(dom0), [], "nothing is raised before it is bound");
    world.monitor.raise_virq(dom0, Virq::DomExc);
    assert_eq!(world.take_events(dom0), [exc]);
    assert_eq!(world.monitor.event_pending(a, unheard), Ok(false), "it is dom0's");
    world.monitor.raise_vcpu_virq(VcpuKey { domain: a, vcpu: V1 }, Virq::Debug);
    assert!(!world.take_interrupt(a, V0));
    assert_eq!(world.take_events(a), [debug[1]]);
    world.monitor.event_bind_vcpu(dom0, exc, V1).unwrap();
    world.monitor.event_close(dom0, exc).unwrap();
    assert_eq!(world.monitor.event_bind_virq(dom0, Virq::DomExc, V0), Ok(exc));
}

#[test]
fn notifications_go_to_the_vcpu_that_was_chosen() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let (a_port, b_port) = world.connect(a, b);
    world.take_events(b);
    world.monitor.event_bind_vcpu(b, b_port, V1).unwrap();
    world.monitor.event_send(a, a_port).unwrap();
    assert!(!world.take_interrupt(b, V0));
    assert!(world.take_interrupt(b, V1));
    assert_eq!(world.scan(b, V1), [b_port]);
    let ipi = world.monitor.event_bind_ipi(b, V1).unwrap();
    world.monitor.event_send(b, ipi).unwrap();
    assert!(world.take_interrupt(b, V1));
    assert_eq!(world.monitor.event_bind_vcpu(b, ipi, V0), Err(Errno::EINVAL));
    assert_eq!(world.monitor.event_bind_ipi(b, VcpuId(2)), Err(Errno::ENOENT));
    assert_eq!(world.monitor.event_bind_vcpu(b, b_port, VcpuId(u32::MAX)), Err(Errno::ENOENT));
}

#[test]
fn a_late_record_shows_what_was_missed() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let place = world.monitor.domains.get_mut(b).unwrap().vcpu_mut(V1).unwrap().info.take();
    let (a_port, b_port) = world.connect(a, b);
    world.take_events(b);
    world.monitor.event_bind_vcpu(b, b_port, V1).unwrap();
    world.monitor.event_send(a, a_port).unwrap();
    assert!(!world.take_interrupt(b, V1), "it could not look");
    world.monitor.domains.get_mut(b).unwrap().vcpu_mut(V1).unwrap().info = place;
    let place = place.unwrap();
    place.frame.u64(place.offset + offset_of!(VcpuInfo, pending_selector)).store(2, SeqCst);
    world.monitor.replay_events(VcpuKey { domain: b, vcpu: V1 });
    assert!(world.take_interrupt(b, V1));
    assert_eq!(world.scan(b, V1), [b_port]);
}

#[test]
fn an_event_ends_a_poll_even_if_it_is_masked() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let (a_port, b_port) = world.connect(a, b);
    let (other, _) = world.connect(a, b);
    world.take_events(b);
    world.mask(b, b_port);
    let key = VcpuKey { domain: b, vcpu: V0 };
    world.monitor.scheduler.start(key, Ticks(0)).unwrap();
    let polling = |world: &World| world.monitor.domains.get(b).unwrap().vcpu(V0).unwrap().polling;
    world.monitor.set_polling(key, Polling::Port(b_port));
    world.monitor.event_send(a, other).unwrap();
    assert_eq!(polling(&world), Polling::Port(b_port), "not the port that it waits for");
    world.monitor.event_send(a, a_port).unwrap();
    assert_eq!(polling(&world), Polling::No);
}

#[test]
fn ports_end_at_the_domains_own_limit() {
    let mut monitor = testing::monitor(512);
    let config = DomainConfig { max_event_port: 3, ..testing::config(16) };
    let a = monitor.create_domain(PRIVILEGED, &config).unwrap();
    let mut open = || monitor.event_alloc_unbound(a, a);
    assert_eq!([open(), open(), open()], [Ok(Port(1)), Ok(Port(2)), Ok(Port(3))]);
    assert_eq!(open(), Err(Errno::ENOSPC));
    monitor.event_close(a, Port(2)).unwrap();
    assert_eq!(monitor.event_alloc_unbound(a, a), Ok(Port(2)));
}

#[test]
fn ports_end_at_the_abis_limit_and_are_paid_by_the_domain() {
    let mut world = World::new();
    let a = world.domains[1];
    let before = world.monitor.frames.account(a).overhead;
    let ports: Vec<_> =
        std::iter::from_fn(|| world.monitor.event_alloc_unbound(a, a).ok()).collect();
    assert_eq!(ports.first(), Some(&Port(1)), "port 0 is never valid");
    assert_eq!(ports.len(), 4095);
    assert_eq!(world.monitor.event_alloc_unbound(a, a), Err(Errno::ENOSPC));
    assert_eq!(world.monitor.frames.account(a).overhead, before + 32);
    world.monitor.event_close(a, Port(77)).unwrap();
    assert_eq!(world.monitor.event_alloc_unbound(a, a), Ok(Port(77)));
    world.reset(a);
    assert_eq!(world.monitor.frames.account(a).overhead, before);
    assert_eq!(world.monitor.event_alloc_unbound(a, a), Ok(Port(1)));
}

#[test]
fn a_dead_peer_leaves_unbound_ports() {
    let mut world = World::new();
    let [_, a, b] = world.domains;
    let free = world.monitor.frames.free();
    let (a_port, _) = world.connect(a, b);
    let taken = free - world.monitor.frames.free();
    assert_eq!(taken, 2, "a chunk of ports each");
    while world.monitor.destroy_step(PRIVILEGED, b) == Ok(Progress::More) {
        assert_eq!(world.monitor.event_send(a, a_port), Ok(()));
        let late = world.monitor.event_alloc_unbound(b, a);
        assert!(matches!(late, Err(Errno::EINVAL | Errno::ESRCH)), "{late:?}");
    }
    let status = world.monitor.event_status(a, a_port).unwrap();
    assert_eq!(status.binding, Binding::Unbound { remote: b });
    assert_eq!(world.monitor.event_status(b, Port(1)), Err(Errno::ESRCH));
}

#[test]
fn scribbling_on_the_shared_page_harms_only_the_scribbler() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let (a_port, b_port) = world.connect(a, b);
    world.shared(b).write(0, &[0xFF; 1088]);
    for _ in 0..3 {
        world.monitor.event_send(a, a_port).unwrap();
        world.monitor.event_unmask(b, b_port).unwrap();
    }
    world.monitor.event_send(b, b_port).unwrap();
    assert_eq!(world.take_events(a), [a_port]);
    assert_eq!(port_mask(Port(65)), (1, 2));
}

#[test]
fn a_vcpu_that_was_off_gets_its_upcall_again() {
    let mut world = World::new();
    let domain = world.domains[1];
    let key = VcpuKey { domain, vcpu: V1 };
    let port = world.monitor.event_bind_ipi(domain, V1).unwrap();
    world.monitor.start_vcpu(key).unwrap();
    assert!(!world.take_interrupt(domain, V1), "nothing was announced");
    world.monitor.event_send(domain, port).unwrap();
    // The interrupt was in a list register when the vCPU went off.
    assert!(world.take_interrupt(domain, V1));
    world.monitor.stop_vcpu(key);
    world.monitor.start_vcpu(key).unwrap();
    assert!(world.take_interrupt(domain, V1));
    assert_eq!(world.scan(domain, V1), [port]);
}

#[test]
fn a_registered_record_gets_one_upcall_and_stays() {
    let mut world = World::new();
    let domain = world.domains[1];
    let key = VcpuKey { domain, vcpu: V0 };
    let gfn = abi::Gfn(0x4_0000);
    let mut space = world.monitor.physmap(domain).unwrap();
    space.populate(gfn, 0).unwrap();
    for offset in [4, 4096 - 40, u32::MAX] {
        let refused = world.monitor.register_vcpu_info(key, gfn, offset);
        assert_eq!(refused, Err(Errno::ENXIO), "{offset}");
    }
    world.monitor.register_vcpu_info(key, gfn, 64).unwrap();
    world.monitor.replay_events(key);
    assert!(world.take_interrupt(domain, V0), "it may have missed some");
    assert!(!world.take_interrupt(domain, V0), "once");
    assert_eq!(world.scan(domain, V0), []);
    assert_eq!(world.monitor.register_vcpu_info(key, gfn, 128), Err(Errno::EINVAL));
}
