//! Random operations against the model: who may run does, nobody twice, no deadline is missed.

use proptest::prelude::*;

use super::machine::{Machine, SLICE};
use crate::types::CpuId;

#[derive(Debug, Clone)]
pub enum Step {
    Start(usize),
    Wake(usize),
    Block(usize, Option<u64>),
    Pause(usize),
    Unpause(usize),
    Remove(usize),
    Pin(usize, Option<usize>),
    Yield(usize),
    Pass(u64),
}

const DOMAINS: [usize; 6] = [2; 6];
const VCPUS: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..VCPUS).prop_map(Step::Start),
        6 => (0..VCPUS).prop_map(Step::Wake),
        4 => (0..VCPUS, proptest::option::of(1..400u64)).prop_map(|(v, t)| Step::Block(v, t)),
        1 => (0..VCPUS).prop_map(Step::Pause),
        2 => (0..VCPUS).prop_map(Step::Unpause),
        1 => (0..VCPUS).prop_map(Step::Remove),
        2 => (0..VCPUS, proptest::option::of(0..4usize)).prop_map(|(v, c)| Step::Pin(v, c)),
        2 => (0..4usize).prop_map(Step::Yield),
        4 => (0..320u64).prop_map(Step::Pass),
    ]
}

pub fn apply(machine: &mut Machine, step: Step) {
    let exists = |index: usize, machine: &Machine| machine.wishes[index].exists;
    match step {
        Step::Start(v) if !exists(v, machine) => machine.start(v),
        Step::Wake(v) if exists(v, machine) => machine.wake(v),
        Step::Block(v, after) => machine.block(v, after.map(|after| machine.now + after)),
        Step::Pause(v) if exists(v, machine) => machine.pause(v),
        Step::Unpause(v) if exists(v, machine) => machine.unpause(v),
        // Offline, as by CPU_OFF: it can be started again.
        Step::Remove(v) => {
            machine.pause(v);
            machine.wishes[v].exists = false;
        }
        Step::Pin(v, Some(cpu)) if cpu < machine.cpus.len() => machine.pin(v, Some(cpu)),
        Step::Pin(v, None) => machine.pin(v, None),
        Step::Yield(cpu) if cpu < machine.cpus.len() => machine.yields(cpu),
        Step::Pass(ticks) => {
            let end = machine.now + ticks;
            while let Some((at, _)) = machine.next_event().filter(|&(at, _)| at < end) {
                machine.run_until(at.max(machine.now));
                check(machine);
            }
            machine.run_until(end);
        }
        _ => {}
    }
}

fn check(machine: &Machine) {
    let wishes = &machine.wishes;
    let mut running = Vec::new();
    for (cpu, decision) in machine.cpus.iter().enumerate() {
        let Some(key) = decision.run else { continue };
        let index = machine.index(key);
        assert!(!running.contains(&index), "{key} runs twice");
        assert!(wishes[index].runnable(), "{key} runs but may not");
        assert!(wishes[index].may_use(cpu), "{key} runs where it may not");
        running.push(index);
    }
    let cpus = machine.cpus.len();
    let runnable = || wishes.iter().filter(|wish| wish.runnable());
    let pinned = (0..cpus).filter(|&cpu| runnable().any(|wish| wish.pin == Some(cpu))).count();
    let free = runnable().filter(|wish| wish.pin.is_none()).count();
    assert_eq!(running.len(), cpus.min(pinned + free), "not work-conserving");
    for (index, wish) in wishes.iter().enumerate() {
        if wish.runnable() && !running.contains(&index) {
            let mut usable = machine.cpus.iter().enumerate().filter(|&(cpu, _)| wish.may_use(cpu));
            let ends = |(_, decision): (usize, &crate::allocator::scheduler::Decision)| {
                decision.preempt_at.0 <= machine.now + SLICE
            };
            assert!(usable.all(ends), "a CPU runs without end while others wait for it");
        }
        if let (true, Some(until)) = (wish.blocked && wish.exists, wish.until) {
            let mut ends = machine.cpus.iter().map(|decision| decision.preempt_at);
            assert!(ends.any(|at| at.0 <= until), "nobody will notice the deadline at {until}");
        }
    }
}

proptest! {
    #[test]
    fn matches_the_model(cpus in 1..5usize, steps in proptest::collection::vec(step(), 0..200)) {
        let mut machine = Machine::with_domains(cpus, &DOMAINS);
        for step in steps {
            apply(&mut machine, step);
            check(&machine);
        }
    }

    /// The runstate clock loses nothing: times in all states add up to the vCPU's age.
    #[test]
    fn time_adds_up(steps in proptest::collection::vec(step(), 0..100)) {
        let mut machine = Machine::with_domains(2, &DOMAINS);
        steps.into_iter().for_each(|step| apply(&mut machine, step));
        for key in &machine.keys {
            let mut times = *machine.scheduler.times(*key).expect("it exists");
            times.change(times.state, machine.now());
            prop_assert_eq!(times.total.iter().map(|t| t.0).sum::<u64>(), machine.now);
        }
    }

    /// After all have been woken, each counts for its domain: none is forgotten or counted twice.
    #[test]
    fn domains_know_how_many_want_to_run(steps in proptest::collection::vec(step(), 0..100)) {
        let mut machine = Machine::with_domains(2, &DOMAINS);
        steps.into_iter().for_each(|step| apply(&mut machine, step));
        for index in 0..VCPUS {
            let domain = machine.keys[index].domain;
            let its = machine.keys.iter().zip(&machine.wishes);
            let wanted = its.filter(|(key, wish)| key.domain == domain && wish.runnable()).count();
            let counted = machine.scheduler.runnable(machine.keys[index]);
            prop_assert_eq!(usize::from(counted), wanted);
        }
    }
}

#[test]
fn a_pinned_vcpu_moves_another_to_an_idle_cpu() {
    let mut machine = Machine::new(2, 2);
    machine.wake(0);
    let taken = machine.scheduler.running_on(machine.keys[0]).unwrap();
    machine.pin(1, Some(taken.0));
    machine.wake(1);
    assert_eq!(machine.cpus[taken.0].run, Some(machine.keys[1]));
    assert_eq!(machine.cpus[1 - taken.0].run, Some(machine.keys[0]));
}

#[test]
fn a_vcpu_that_is_pinned_elsewhere_moves_at_once() {
    let mut machine = Machine::new(2, 1);
    machine.wake(0);
    for cpu in [1, 0, 1] {
        machine.pin(0, Some(cpu));
        assert_eq!(machine.scheduler.running_on(machine.keys[0]), Some(CpuId(cpu)));
    }
}
