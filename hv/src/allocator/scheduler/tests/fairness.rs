//! Shares, caps, and how soon who wakes is served: simulated in virtual time, hence exact.

use abi::DomId;
use proptest::prelude::*;

use super::machine::{Machine, SLICE};
use crate::allocator::scheduler::{CpuSet, Parameters};
use crate::types::{CpuId, Ticks};

fn set(machine: &mut Machine, domain: usize, weight: u16, cap: u16) {
    let parameters = Parameters { weight, cap };
    let now = machine.now();
    let kicks = machine.scheduler.set_parameters(DomId(domain as u16), parameters, now);
    machine.kick(kicks.expect("the domain exists"));
}

/// Domains of that many vCPUs that all want to run, with these weights.
fn hogs(cpus: usize, domains: &[(u16, usize)]) -> Machine {
    let vcpus: Vec<usize> = domains.iter().map(|&(_, vcpus)| vcpus).collect();
    let mut machine = Machine::with_domains(cpus, &vcpus);
    for (domain, &(weight, _)) in domains.iter().enumerate() {
        set(&mut machine, domain, weight, 0);
    }
    (0..machine.keys.len()).for_each(|index| machine.wake(index));
    machine
}

/// CPUs that each domain is entitled to: in proportion to its weight, but no more than it has
/// vCPUs; what it cannot use goes to the others.
fn entitled(cpus: usize, domains: &[(u16, usize)]) -> Vec<f64> {
    let mut share: Vec<Option<f64>> = vec![None; domains.len()];
    loop {
        let used: f64 = share.iter().flatten().sum();
        let open = || (0..domains.len()).filter(|&d| share[d].is_none());
        let weights: f64 = open().map(|d| f64::from(domains[d].0)).sum();
        let wants = |d: usize| (cpus as f64 - used) * f64::from(domains[d].0) / weights;
        let full: Vec<usize> = open().filter(|&d| wants(d) >= domains[d].1 as f64).collect();
        if full.is_empty() {
            return (0..domains.len()).map(|d| share[d].unwrap_or_else(|| wants(d))).collect();
        }
        full.into_iter().for_each(|d| share[d] = Some(domains[d].1 as f64));
    }
}

/// How long each domain has run between two points in time, in CPUs.
fn measure(machine: &mut Machine, domains: usize, time: u64) -> Vec<f64> {
    let ran = |machine: &Machine| (0..domains).map(|d| machine.domain_ran(d)).collect::<Vec<_>>();
    let before = ran(machine);
    machine.run_until(machine.now + time);
    let used = ran(machine).into_iter().zip(before).map(|(after, before)| after - before);
    used.map(|ran| ran as f64 / time as f64).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the weights and however many vCPUs: each domain gets what it is entitled to.
    #[test]
    fn shares_follow_weights(
        cpus in 1..5usize,
        domains in prop::collection::vec((32..2048u16, 1..5usize), 1..8),
    ) {
        let mut machine = hogs(cpus, &domains);
        let time = 20_000 * SLICE;
        let got = measure(&mut machine, domains.len(), time);
        for (domain, (got, should)) in got.iter().zip(entitled(cpus, &domains)).enumerate() {
            let error = (got - should).abs();
            let allowed = (0.02 * should).max(4.0 * SLICE as f64 / time as f64);
            prop_assert!(error < allowed, "{domain} of {domains:?}: {got} instead of {should}");
        }
    }

    /// Who was served well for a while, because others slept, is not punished for it; who slept, or
    /// could not use all of its share, is hardly paid for it. From the moment at which all want to
    /// run, all get their share, but for a debt that does not grow with the past.
    #[test]
    fn the_past_is_forgotten(
        cpus in 1..4usize,
        steps in prop::collection::vec((0..6usize, 1..20_000u64), 0..30),
    ) {
        let domains = [(256, 1), (512, 1), (256, 2), (1024, 1)];
        let mut machine = hogs(cpus, &domains);
        for (who, time) in steps {
            match machine.wishes.get(who).map(|wish| wish.blocked) {
                Some(false) => machine.block(who, None),
                Some(true) => machine.wake(who),
                None => {}
            }
            machine.run_until(machine.now + time);
        }
        (0..machine.keys.len()).for_each(|index| machine.wake(index));
        let time = 2000 * SLICE;
        let got = measure(&mut machine, domains.len(), time);
        for ((got, should), (weight, _)) in got.iter().zip(entitled(cpus, &domains)).zip(domains) {
            let error = (got - should).abs() * time as f64 / SLICE as f64;
            let debt = 16.0 + 64.0 * f64::from(weight) / 256.0;
            prop_assert!(error < debt, "{got} instead of {should}: {error} slices");
        }
    }

    /// No domain uses more than its cap, and each uses all of it if nobody competes.
    #[test]
    fn caps_are_obeyed(
        cpus in 1..5usize,
        caps in prop::collection::vec((5..300u16, 1..5usize), 1..6),
    ) {
        let domains: Vec<(u16, usize)> = caps.iter().map(|&(_, vcpus)| (256, vcpus)).collect();
        let mut machine = hogs(cpus, &domains);
        for (domain, &(cap, _)) in caps.iter().enumerate() {
            set(&mut machine, domain, 256, cap);
        }
        let got = measure(&mut machine, caps.len(), 10_000 * SLICE);
        let vcpus: usize = caps.iter().map(|&(_, vcpus)| vcpus).sum();
        for (got, &(cap, its)) in got.iter().zip(&caps) {
            let limit = f64::from(cap) / 100.0;
            prop_assert!(*got < limit * 1.01, "{got} of {limit}");
            if vcpus <= cpus {
                let should = limit.min(its as f64);
                // The income of a period is a whole number of ticks.
                let rounding = 0.5 / SLICE as f64;
                prop_assert!(*got > should * 0.97 - rounding, "{got} of {should}: {caps:?}");
            }
        }
    }

    /// Who wakes and has used less than its share runs at once, however many hogs there are.
    #[test]
    fn who_sleeps_most_of_the_time_is_served_at_once(
        cpus in 1..5usize,
        naps in prop::collection::vec((1..SLICE, 10 * SLICE..40 * SLICE), 1..100),
    ) {
        let mut machine = Machine::new(cpus, 9);
        (0..8).for_each(|hog| machine.wake(hog));
        machine.run_until(50 * SLICE);
        for (busy, sleep) in naps {
            machine.wake(8);
            prop_assert!(machine.runs(8), "it waits at {}", machine.now);
            machine.run_until(machine.now + busy);
            machine.block(8, None);
            machine.run_until(machine.now + sleep);
        }
    }

    /// Whatever it did before, and whatever the others do: who wants to run waits no longer than
    /// three slices for each of the others.
    #[test]
    fn nobody_starves(
        cpus in 1..4usize,
        busy in prop::collection::vec((0..8usize, 1..200u64, 1..600u64), 0..100),
    ) {
        let mut machine = Machine::new(cpus, 9);
        machine.wake(8);
        let (mut ran, mut seen) = (0, 0);
        for (who, runs, sleeps) in busy {
            machine.wake(who);
            machine.run_until(machine.now + runs);
            machine.block(who, None);
            let next = (who + 1) % 8;
            machine.wake(next);
            machine.run_until(machine.now + sleeps);
            if machine.ran(8) > ran {
                (ran, seen) = (machine.ran(8), machine.now);
            }
            // It is looked at every 800 ticks at the latest.
            prop_assert!(machine.now - seen < 3 * 8 * SLICE + 800, "it waits since {seen}");
        }
    }
}

#[test]
fn weights_1_2_4_on_1_and_4_cpus() {
    for (cpus, vcpus) in [(1, 1), (4, 4), (4, 8)] {
        let domains = [(128, vcpus), (256, vcpus), (512, vcpus)];
        let mut machine = hogs(cpus, &domains);
        // 3 s of slices of 5 ms.
        let got = measure(&mut machine, 3, 600 * SLICE);
        for (got, should) in got.into_iter().zip(entitled(cpus, &domains)) {
            assert!((got - should).abs() / should < 0.02, "{cpus} CPUs: {got} instead of {should}");
        }
    }
}

#[test]
fn who_ran_alone_does_not_pay_for_it() {
    let mut machine = Machine::new(1, 2);
    machine.wake(0);
    machine.run_until(1_000_000 * SLICE);
    machine.wake(1);
    let got = measure(&mut machine, 2, 100 * SLICE);
    assert!((got[0] - 0.5).abs() < 0.03, "{got:?}");
}

#[test]
fn pinned_groups_do_not_disturb_each_other() {
    let mut machine = Machine::new(2, 6);
    for (index, cpu) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 1)] {
        machine.pin(index, Some(cpu));
        machine.wake(index);
    }
    machine.run_until(1000 * SLICE);
    // One of each group stops, and comes back into its own group's time.
    for index in [3, 5] {
        machine.pause(index);
    }
    machine.run_until(2000 * SLICE);
    for index in [3, 5] {
        machine.unpause(index);
    }
    let got = measure(&mut machine, 6, 400 * SLICE);
    for (got, should) in got.into_iter().zip([0.25, 0.25, 0.25, 0.25, 0.5, 0.5]) {
        assert!((got - should).abs() < 0.01 + 2.0 / 400.0, "{got} instead of {should}");
    }
}

/// Virtual time passes at another speed where a CPU has few users: who comes from there neither
/// waits until the others have caught up, nor keeps them waiting.
#[test]
fn who_moves_between_groups_is_at_home_at_once() {
    let mut machine = Machine::new(2, 7);
    for (index, cpu) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 1)] {
        machine.pin(index, Some(cpu));
        machine.wake(index);
    }
    machine.run_until(1000 * SLICE);
    machine.pin(5, Some(0));
    let there = measure(&mut machine, 7, 120 * SLICE);
    machine.pin(5, Some(1));
    machine.pin(0, Some(1));
    let back = measure(&mut machine, 7, 120 * SLICE);
    let should = [1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0];
    for (got, should) in there.iter().zip(should) {
        assert!((got - should).abs() < 0.03, "{there:?}");
    }
    let should = [1.0 / 3.0, 0.25, 0.25, 0.25, 0.25, 1.0 / 3.0, 1.0 / 3.0];
    for (got, should) in back.iter().zip(should) {
        assert!((got - should).abs() < 0.03, "{back:?}");
    }
}

#[test]
fn a_cap_ends_tickless_running_and_is_lifted_again() {
    let mut machine = Machine::new(1, 1);
    machine.wake(0);
    machine.run_until(10_000 * SLICE);
    set(&mut machine, 0, 256, 25);
    let got = measure(&mut machine, 1, 1000 * SLICE);
    assert!((got[0] - 0.25).abs() < 0.005, "{got:?}");
    set(&mut machine, 0, 256, 0);
    machine.run_until(machine.now + 10 * SLICE);
    assert_eq!(machine.cpus[0].preempt_at, Ticks::NEVER, "tickless again");
    assert!(machine.runs(0));
}

#[test]
fn impossible_settings_are_refused() {
    let mut machine = Machine::new(2, 1);
    let now = machine.now();
    let weightless = Parameters { weight: 0, cap: 0 };
    assert!(machine.scheduler.set_parameters(DomId(0), weightless, now).is_err());
    for nobody in [DomId(9), DomId::INVALID, DomId(u16::MAX)] {
        assert!(machine.scheduler.set_parameters(nobody, Parameters::DEFAULT, now).is_err());
        assert!(machine.scheduler.parameters(nobody).is_none());
    }
    let nowhere = CpuSet::only(CpuId(5));
    assert!(machine.scheduler.set_affinity(machine.keys[0], nowhere, now).is_err());
}

/// Sleeping for a moment before each slice ends buys nothing.
#[test]
fn who_blocks_has_paid_for_what_it_used() {
    let mut machine = Machine::new(1, 2);
    machine.wake(1);
    for _ in 0..1000 {
        machine.wake(0);
        machine.run_until(machine.now + SLICE / 2);
        machine.block(0, None);
        machine.run_until(machine.now + 1);
    }
    let share = machine.ran(0) as f64 / machine.now as f64;
    assert!(share < 0.52, "it has got {share}");
}
