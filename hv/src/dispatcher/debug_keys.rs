//! How things stand, for people, in the log: each key of `XEN_SYSCTL_debug_keys` is a view. The
//! letters are Xen's. Whoever may press them may take the machine's time, too: a view is written
//! in one go, so that it is of one moment.

use core::fmt;

use abi::DomId;
use abi::shared_info::Runstate;

use crate::allocator::Monitor;
use crate::allocator::domain::Domain;
use crate::allocator::event::Binding;
use crate::allocator::grant::Access;
use crate::allocator::scheduler::CpuSet;
use crate::allocator::vcpu::{Polling, Vcpu};
use crate::machine::timer;
use crate::types::VcpuKey;

/// A view.
#[derive(Debug)]
pub(super) struct Key {
    letter: u8,
    summary: &'static str,
    show: fn(&Monitor),
}

const KEYS: [Key; 5] = [
    Key { letter: b'e', summary: "event channels", show: events },
    Key { letter: b'g', summary: "grants", show: grants },
    Key { letter: b'h', summary: "these keys", show: help },
    Key { letter: b'q', summary: "domains and vCPUs", show: domains },
    Key { letter: b'r', summary: "CPUs, and which vCPUs run and wait", show: cpus },
];

/// The view with this letter.
pub(super) fn find(letter: u8) -> Option<&'static Key> {
    const { &KEYS }.iter().find(|key| key.letter == letter)
}

/// Shows it.
#[cold]
pub(super) fn press(key: &Key, monitor: &Monitor) {
    log::info!("'{}': {}", char::from(key.letter), key.summary);
    (key.show)(monitor);
}

fn help(_: &Monitor) {
    for key in &KEYS {
        log::info!("  {}  {}", char::from(key.letter), key.summary);
    }
}

fn domains(monitor: &Monitor) {
    for domain in monitor.domains.iter() {
        let account = monitor.frames.account(domain.id);
        log::info!(
            "{}: {} of {} frames, {} for itself; {} ports; {} of {} grant frames",
            domain.id,
            account.frames,
            account.max_frames,
            account.overhead,
            domain.events.open_ports().count(),
            domain.grants.size(),
            domain.grants.max_size(),
        );
        log::info!("  {}", State(domain));
        for vcpu in domain.all_vcpus() {
            show_vcpu(monitor, vcpu);
        }
    }
}

/// Whether a domain may run, and why not.
struct State<'a>(&'a Domain);

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Domain { paused, shutdown, .. } = *self.0;
        match (self.0.is_dying(), shutdown, paused) {
            (true, ..) => f.write_str("is being destroyed"),
            (_, Some(reason), _) => write!(f, "has shut down: {reason:?}"),
            (_, _, true) => f.write_str("is paused"),
            _ => f.write_str("may run"),
        }
    }
}

fn show_vcpu(monitor: &Monitor, vcpu: &Vcpu) {
    let Some(place) = monitor.scheduler.place(vcpu.key) else { return };
    let Some(times) = monitor.scheduler.times(vcpu.key) else { return };
    let now = timer::now();
    let milliseconds = |ticks| timer::to_nanoseconds(ticks) / 1_000_000;
    let since = crate::types::Ticks(now.0.saturating_sub(times.since.0));
    log::info!(
        "  {}: {} for {} ms on CPU {}, may use {:#x}; ran {} ms{}",
        vcpu.key,
        word(times.state),
        milliseconds(since),
        place.cpu.0,
        place.affinity.bits(),
        milliseconds(times.running(now)),
        match vcpu.polling {
            Polling::No => "",
            Polling::Port(_) | Polling::Any => "; polls",
        },
    );
}

const fn word(state: Runstate) -> &'static str {
    match state {
        Runstate::Running => "running",
        Runstate::Runnable => "waiting for a CPU",
        Runstate::Blocked => "blocked",
        Runstate::Offline => "offline",
    }
}

fn cpus(monitor: &Monitor) {
    let vcpus = || monitor.domains.iter().flat_map(Domain::all_vcpus).map(|vcpu| vcpu.key);
    for cpu in monitor.scheduler.online() {
        match vcpus().find(|&key| monitor.scheduler.running_on(key) == Some(cpu)) {
            Some(key) => log::info!("  CPU {}: {key}", cpu.0),
            None => log::info!("  CPU {}: idle", cpu.0),
        }
    }
    let waits = |&key: &VcpuKey| {
        let times = monitor.scheduler.times(key);
        times.is_some_and(|times| times.state == Runstate::Runnable)
    };
    for key in vcpus().filter(waits) {
        let cpus = monitor.scheduler.place(key).map_or(CpuSet::EMPTY, |place| place.affinity);
        log::info!("  {key} waits for one of {:#x}", cpus.bits());
    }
}

fn events(monitor: &Monitor) {
    for domain in monitor.domains.iter() {
        for (port, channel, pending, masked) in domain.events.open_ports() {
            log::info!(
                "  {} port {port}: {}, vCPU {}{}{}",
                domain.id,
                Bound(channel.binding),
                channel.vcpu.0,
                if pending { ", pending" } else { "" },
                if masked { ", masked" } else { "" },
            );
        }
    }
}

/// What a port is bound to.
struct Bound(Binding);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Binding::Interdomain { remote, port } => write!(f, "to {remote} port {port}"),
            Binding::Ipi => f.write_str("from its own vCPUs"),
            Binding::Unbound { remote } => write!(f, "waits for {remote} to bind it"),
            Binding::Virq(virq) => write!(f, "virtual interrupt {virq:?}"),
            Binding::Closed { .. } => f.write_str("closed"),
        }
    }
}

fn grants(monitor: &Monitor) {
    for domain in monitor.domains.iter() {
        let grants = &domain.grants;
        log::info!("  {}: others map {} of its pages", domain.id, grants.mappings_by_others());
        for mapping in grants.mappings() {
            show_mapping(domain.id, mapping);
        }
    }
}

fn show_mapping(mapper: DomId, mapping: &crate::allocator::grant::Mapping) {
    let how = match mapping.access {
        Access::Read => "to read",
        Access::Write => "to write",
    };
    let (reference, granter) = (mapping.reference, mapping.granter);
    log::info!("  {mapper} maps grant {reference} of {granter} {how} at {:#x}", mapping.gfn().0);
}
