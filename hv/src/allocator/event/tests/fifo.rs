//! The FIFO ABI, as a guest sees it that plays by its rules, and one that does not.

use abi::event::fifo::{LINKED, MASKED, PENDING, PORTS};
use abi::{DomId, Errno, Gfn, Port, VcpuId};
use core::sync::atomic::Ordering::SeqCst;
use proptest::prelude::*;

use super::guest::World;
use super::{V0, V1};
use crate::allocator::Progress;
use crate::allocator::domain::DomainConfig;
use crate::allocator::testing::{self, PRIVILEGED};
use crate::allocator::vcpu::Polling;
use crate::types::{Ticks, VcpuKey};

/// A world whose third domain has FIFO queues on both vCPUs and a page of words, unmasked.
fn world() -> (World, DomId, DomId) {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    for vcpu in [V0, V1] {
        world.init_control(b, vcpu).unwrap();
    }
    world.expand(b, 0).unwrap();
    (world, a, b)
}

/// Connects `a` to `b` so many times, and takes the events that come of it.
fn connect(world: &mut World, a: DomId, b: DomId, count: usize) -> Vec<(Port, Port)> {
    let ports = (0..count).map(|_| world.connect(a, b)).collect();
    world.take_events(b);
    ports
}

fn send(world: &mut World, from: DomId, ports: impl IntoIterator<Item = (Port, Port)>) {
    for (port, _) in ports {
        world.monitor.event_send(from, port).unwrap();
    }
}

#[test]
fn events_come_in_the_order_in_which_they_were_sent() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 3);
    send(&mut world, a, [ports[1], ports[0], ports[2], ports[1]]);
    assert!(world.take_interrupt(b, V0));
    assert_eq!(world.scan(b, V0), [ports[1].1, ports[0].1, ports[2].1]);
    send(&mut world, a, [ports[2]]);
    assert_eq!(world.take_events(b), [ports[2].1]);
}

#[test]
fn one_interrupt_until_the_guest_looks() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 2);
    send(&mut world, a, [ports[0]]);
    assert!(world.take_interrupt(b, V0));
    send(&mut world, a, [ports[1]]);
    assert!(!world.take_interrupt(b, V0));
    assert_eq!(world.scan(b, V0).len(), 2);
}

#[test]
fn urgent_events_come_first() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 3);
    for (port, priority) in ports.iter().zip([15, 7, 0]) {
        world.monitor.event_set_priority(b, port.1, priority).unwrap();
    }
    send(&mut world, a, ports.clone());
    assert_eq!(world.take_events(b), [ports[2].1, ports[1].1, ports[0].1]);
}

/// The last port of a queue moves to another one: nothing may be linked to it in the old one.
#[test]
fn a_port_that_moves_takes_no_queue_along() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 3);
    send(&mut world, a, [ports[0]]);
    assert_eq!(world.take_events(b), [ports[0].1]);
    world.monitor.event_bind_vcpu(b, ports[0].1, V1).unwrap();
    send(&mut world, a, [ports[0], ports[1], ports[2]]);
    assert!(world.take_interrupt(b, V0));
    assert_eq!(world.scan(b, V0), [ports[1].1, ports[2].1]);
    assert!(world.take_interrupt(b, V1));
    assert_eq!(world.scan(b, V1), [ports[0].1]);
}

#[test]
fn what_was_pending_before_the_switch_is_not_lost() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    let ports = connect(&mut world, a, b, 2);
    send(&mut world, a, [ports[0]]);
    world.init_control(b, V0).unwrap();
    send(&mut world, a, [ports[1], ports[1]]);
    assert_eq!(world.take_events(b), [], "there are no words yet");
    assert_eq!(world.monitor.event_pending(b, ports[0].1), Ok(false));
    world.expand(b, 0).unwrap();
    assert!(world.take_interrupt(b, V0));
    assert_eq!(world.scan(b, V0), [ports[0].1, ports[1].1]);
    world.expand(b, 0).unwrap();
    assert_eq!(world.take_events(b), [], "once");
}

#[test]
fn masked_events_wait_for_unmask() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 1);
    world.mask(b, ports[0].1);
    send(&mut world, a, ports.clone());
    assert_eq!(world.take_events(b), []);
    assert_eq!(world.monitor.event_pending(b, ports[0].1), Ok(true));
    world.monitor.event_unmask(b, ports[0].1).unwrap();
    assert_eq!(world.take_events(b), [ports[0].1]);
    world.mask(b, ports[0].1);
    world.monitor.event_unmask(b, ports[0].1).unwrap();
    assert_eq!(world.take_events(b), [], "nothing was pending");
}

/// Against the rules, but Xen does so, too.
#[test]
fn what_was_unmasked_in_silence_comes_with_the_next_event() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 1);
    world.mask(b, ports[0].1);
    send(&mut world, a, ports.clone());
    world.fifo[&b].word(ports[0].1).unwrap().fetch_and(!MASKED, SeqCst);
    assert_eq!(world.take_events(b), []);
    send(&mut world, a, ports.clone());
    assert_eq!(world.take_events(b), [ports[0].1]);
}

#[test]
fn a_vcpu_without_queues_is_told_when_it_has_them() {
    let mut world = World::new();
    let (a, b) = (world.domains[1], world.domains[2]);
    world.init_control(b, V0).unwrap();
    world.expand(b, MASKED).unwrap();
    let (a_port, b_port) = world.connect(a, b);
    world.monitor.event_bind_vcpu(b, b_port, V1).unwrap();
    world.monitor.event_send(a, a_port).unwrap();
    // Against the rules: a port of a vCPU that has no queues must stay masked.
    world.monitor.event_unmask(b, b_port).unwrap();
    assert_eq!(world.take_events(b), []);
    world.init_control(b, V1).unwrap();
    world.monitor.event_unmask(b, b_port).unwrap();
    assert!(world.take_interrupt(b, V1));
    assert_eq!(world.scan(b, V1), [b_port]);
}

#[test]
fn polls_end_by_masked_events_too() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 2);
    let key = VcpuKey { domain: b, vcpu: V0 };
    world.monitor.scheduler.start(key, Ticks(0)).unwrap();
    let polling = |world: &World| world.monitor.domains.get(b).unwrap().vcpu(V0).unwrap().polling;
    world.mask(b, ports[0].1);
    world.monitor.set_polling(key, Polling::Port(ports[0].1));
    send(&mut world, a, [ports[1]]);
    assert_eq!(polling(&world), Polling::Port(ports[0].1));
    send(&mut world, a, [ports[0]]);
    assert_eq!(polling(&world), Polling::No);
}

#[test]
fn a_port_that_is_in_a_queue_is_not_opened_again() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 1);
    send(&mut world, a, ports.clone());
    let linked = ports[0].1;
    world.monitor.event_close(b, linked).unwrap();
    let word = world.fifo[&b].word(linked).unwrap().load(SeqCst);
    assert_eq!(word & (LINKED | PENDING), LINKED, "the monitor takes nothing from a queue");
    let other = world.monitor.event_alloc_unbound(b, a).unwrap();
    assert_ne!(other, linked);
    assert_eq!(world.take_events(b), [], "the guest takes it out, and it is not pending");
    assert_eq!(world.monitor.event_alloc_unbound(b, a), Ok(linked));
}

#[test]
fn a_queue_whose_last_port_was_closed_and_opened_again() {
    let (mut world, a, b) = world();
    let ports = connect(&mut world, a, b, 2);
    send(&mut world, a, [ports[0]]);
    assert_eq!(world.take_events(b), [ports[0].1]);
    world.monitor.event_close(b, ports[0].1).unwrap();
    let again = world.monitor.event_bind_interdomain(b, a, ports[0].0).unwrap();
    assert_eq!(again, ports[0].1);
    assert_eq!(world.take_events(b), [again]);
    world.monitor.event_close(b, again).unwrap();
    world.monitor.event_bind_interdomain(b, a, ports[0].0).unwrap();
    world.take_events(b);
    world.monitor.event_set_priority(b, again, 3).unwrap();
    send(&mut world, a, [ports[0], ports[1]]);
    assert_eq!(world.take_events(b), [again, ports[1].1]);
}

#[test]
fn errors_are_xens() {
    let mut world = World::new();
    let b = world.domains[2];
    let gfn = Gfn(0x4_0000);
    world.ram(b, gfn);
    let key = |vcpu| VcpuKey { domain: b, vcpu };
    let port = world.monitor.event_alloc_unbound(b, b).unwrap();
    assert_eq!(world.expand(b, 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(world.monitor.event_set_priority(b, port, 3), Err(Errno::ENOSYS));
    let monitor = &mut world.monitor;
    let nobody = monitor.event_init_control(key(VcpuId(2)), gfn, 0);
    assert_eq!(nobody, Err(Errno::ENOENT));
    for (gfn, offset) in [(gfn, 4), (gfn, 4096 - 64), (gfn, u32::MAX), (Gfn(0x9_9999), 0)] {
        assert_eq!(monitor.event_init_control(key(V0), gfn, offset), Err(Errno::EINVAL));
    }
    assert_eq!(monitor.event_init_control(key(V0), gfn, 4096 - 72), Ok(()));
    assert_eq!(monitor.event_init_control(key(V0), gfn, 0), Err(Errno::EINVAL), "once");
    assert_eq!(monitor.event_set_priority(b, port, 16), Err(Errno::EINVAL));
    assert_eq!(monitor.event_set_priority(b, Port(PORTS), 3), Err(Errno::EINVAL));
    assert_eq!(monitor.event_expand_array(b, Gfn(0x9_9999)), Err(Errno::EINVAL));
    for _ in 0..PORTS / 1024 {
        assert_eq!(monitor.event_expand_array(b, gfn), Ok(()), "one page serves for all");
    }
    assert_eq!(monitor.event_expand_array(b, gfn), Err(Errno::ENOSPC));
}

#[test]
fn the_frames_are_held_until_the_reset_and_no_longer() {
    let (mut world, a, b) = world();
    let account = world.monitor.frames.account(b).overhead;
    let page = Gfn(0x4_1000);
    let frame = world.ram(b, page);
    let ports = connect(&mut world, a, b, 1);
    world.monitor.physmap(b).unwrap().decrease(page, 0).unwrap();
    assert_eq!(world.monitor.frames.holds(frame.mfn()), 1, "the array's");
    send(&mut world, a, ports);
    world.reset(b);
    assert_eq!(world.monitor.frames.holds(frame.mfn()), 0);
    assert!(world.monitor.frames.account(b).overhead < account);
    let ports = connect(&mut world, a, b, 1);
    send(&mut world, a, ports.clone());
    assert_eq!(world.take_events(b), [ports[0].1], "by the 2-level ABI again");
}

#[test]
fn a_domain_dies_with_its_queues() {
    let (mut world, a, b) = world();
    let free = world.monitor.frames.free();
    let ports = connect(&mut world, a, b, 1);
    send(&mut world, a, ports.clone());
    while world.monitor.destroy_step(PRIVILEGED, b) == Ok(Progress::More) {
        send(&mut world, a, ports.clone());
    }
    assert!(world.monitor.frames.account(b).is_vacant());
    assert!(world.monitor.frames.free() > free);
}

#[test]
fn there_are_as_many_ports_as_words() {
    let mut monitor = testing::monitor(4096);
    let config = DomainConfig { max_vcpus: 1, ..testing::config(1 << 15) };
    let id = monitor.create_domain(PRIVILEGED, &config).unwrap();
    let free = monitor.frames.free();
    let gfn = Gfn(0x4_0000);
    monitor.physmap(id).unwrap().populate(gfn, 0).unwrap();
    monitor.event_init_control(VcpuKey { domain: id, vcpu: V0 }, gfn, 0).unwrap();
    for port in 1..PORTS {
        assert_eq!(monitor.event_bind_ipi(id, V0), Ok(Port(port)));
    }
    assert_eq!(monitor.event_bind_ipi(id, V0), Err(Errno::ENOSPC));
    monitor.physmap(id).unwrap().populate(Gfn(0x4_0001), 0).unwrap();
    for _ in 0..PORTS / 1024 {
        monitor.event_expand_array(id, Gfn(0x4_0001)).unwrap();
    }
    let last = Port(PORTS - 1);
    assert_eq!(monitor.event_pending(id, last), Ok(false));
    monitor.event_send(id, last).unwrap();
    assert_eq!(monitor.event_pending(id, last), Ok(true));
    while monitor.close_events(id) == Progress::More {}
    let ram = [gfn, Gfn(0x4_0001)];
    ram.into_iter().for_each(|gfn| monitor.physmap(id).unwrap().decrease(gfn, 0).unwrap());
    assert!(monitor.frames.free() >= free - 3, "what is left is the space's tables");
}

proptest! {
    /// Whatever a guest writes into its words and control blocks, others get their events, and it
    /// gets its own again once it has set its memory in order.
    #[test]
    fn rubbish_harms_only_who_writes_it(
        steps in proptest::collection::vec((0..4usize, 0..1200usize, any::<u32>()), 1..60)
    ) {
        let (mut world, a, b) = world();
        let mut ports = connect(&mut world, a, b, 4);
        ports.truncate(4);
        let page = world.ram(b, Gfn(0x4_1000));
        let block = world.ram(b, Gfn(0x4_0000));
        for (which, place, rubbish) in steps {
            match place {
                0..1024 => page.u32(place % 16 * 4).store(rubbish, SeqCst),
                _ => block.u32(128 + place % 18 * 4).store(rubbish, SeqCst),
            }
            send(&mut world, a, [ports[which]]);
            world.monitor.event_unmask(b, ports[which].1).unwrap();
            world.monitor.event_set_priority(b, ports[which].1, rubbish % 16).unwrap();
            world.monitor.event_bind_vcpu(b, ports[which].1, VcpuId(rubbish % 2)).unwrap();
            world.monitor.event_send(b, ports[which].1).unwrap();
            prop_assert_eq!(world.take_events(a), [ports[which].0]);
        }
        world.reset(b);
        for (port, _) in &ports {
            world.monitor.event_close(a, *port).unwrap();
        }
        world.init_control(b, V0).unwrap();
        world.init_control(b, V1).unwrap();
        world.expand(b, 0).unwrap();
        let ports = connect(&mut world, a, b, 4);
        send(&mut world, a, ports.clone());
        let expected: Vec<Port> = ports.into_iter().map(|(_, port)| port).collect();
        prop_assert_eq!(world.take_events(b), expected);
    }
}
