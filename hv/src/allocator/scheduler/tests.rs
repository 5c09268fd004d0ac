//! The scheduler on a simulated machine, and single situations that matter.

mod deadlines;
mod fairness;
mod machine;
mod model;

use abi::shared_info::Runstate;
use abi::{DomId, VcpuId};

use super::{CpuSet, Decision};
use crate::types::{CpuId, Ticks, VcpuKey};
use machine::{Machine, SLICE};

fn decision(machine: &Machine, run: usize, preempt_at: Option<u64>) -> Decision {
    let run = Some(machine.keys[run]);
    let preempt_at = preempt_at.map_or(Ticks::NEVER, Ticks);
    Decision { run, preempt_at, kick: CpuSet::EMPTY }
}

#[test]
fn alone_means_tickless() {
    let mut machine = Machine::new(1, 2);
    machine.wake(1);
    machine.now = 10;
    machine.block(1, None);
    machine.wake(0);
    assert_eq!(machine.cpus[0], decision(&machine, 0, None));
    machine.now = 14;
    machine.wake(1);
    let first = decision(&machine, 0, Some(10 + SLICE));
    assert_eq!(machine.cpus[0], first, "the slice began when the vCPU was picked");
    machine.run_until(10 + SLICE);
    assert_eq!(machine.cpus[0].run, Some(machine.keys[1]));
    machine.pause(0);
    machine.pick(CpuId(0));
    assert_eq!(machine.cpus[0], decision(&machine, 1, None));
}

#[test]
fn long_runner_gives_way_at_once() {
    let mut machine = Machine::new(1, 2);
    machine.wake(0);
    machine.now = 1000;
    machine.wake(1);
    assert_eq!(machine.cpus[0].run, Some(machine.keys[1]));
}

#[test]
fn each_new_vcpu_gets_an_idle_cpu_of_its_own() {
    let mut machine = Machine::new(2, 3);
    let kicks = [0, 1, 2].map(|index| machine.scheduler.wake(machine.keys[index], Ticks(0)));
    assert_eq!(kicks, [CpuSet::only(CpuId(0)), CpuSet::only(CpuId(1)), CpuSet::EMPTY]);
    let runs = [0, 1].map(|cpu| machine.scheduler.pick(CpuId(cpu), Ticks(0)).run);
    assert_eq!(runs, [Some(machine.keys[0]), Some(machine.keys[1])]);
}

#[test]
fn an_idle_cpu_is_chosen_that_the_vcpu_knows() {
    let mut machine = Machine::new(3, 2);
    machine.wake(0);
    machine.wake(1);
    assert_eq!(machine.scheduler.running_on(machine.keys[1]), Some(CpuId(1)));
    machine.block(0, None);
    machine.block(1, None);
    machine.wake(1);
    assert_eq!(machine.scheduler.running_on(machine.keys[1]), Some(CpuId(1)));
}

#[test]
fn yield_goes_behind_all_that_wait() {
    let mut machine = Machine::new(1, 3);
    (0..3).for_each(|index| machine.wake(index));
    for round in 0..6 {
        let before = machine.cpus[0].run;
        let others: Vec<_> = (0..2)
            .map(|_| {
                machine.now += 1;
                machine.yields(0);
                machine.cpus[0].run
            })
            .collect();
        assert!(!others.contains(&before) && others[0] != others[1], "round {round}");
        machine.now += 1;
        machine.yields(0);
        assert_eq!(machine.cpus[0].run, before, "round {round}");
    }
}

#[test]
fn who_has_had_less_is_served_as_soon_as_it_wakes() {
    let mut machine = Machine::new(1, 2);
    machine.wake(0);
    machine.now = 1;
    let kicks = machine.scheduler.wake(machine.keys[1], Ticks(1));
    assert!(kicks.contains(CpuId(0)));
    machine.pick(CpuId(0));
    assert_eq!(machine.cpus[0], decision(&machine, 1, Some(1 + SLICE)));
}

#[test]
fn woken_before_its_cpu_has_noticed_that_it_blocked() {
    let mut machine = Machine::new(2, 1);
    machine.wake(0);
    machine.scheduler.sleep(CpuId(0), None, Ticks(1));
    let kicks = machine.scheduler.wake(machine.keys[0], Ticks(1));
    assert_eq!(kicks, CpuSet::only(CpuId(0)), "it never left its CPU");
    machine.pick(CpuId(1));
    machine.pick(CpuId(0));
    assert_eq!(machine.cpus[0].run, Some(machine.keys[0]));
    assert_eq!(machine.cpus[1].run, None);
}

#[test]
fn stopped_and_started_again() {
    let mut machine = Machine::new(2, 1);
    machine.wake(0);
    let on = machine.scheduler.pause(machine.keys[0], Ticks(5));
    assert_eq!(on, Some(CpuId(0)));
    let early = machine.scheduler.start(machine.keys[0], Ticks(5));
    assert_eq!(early, Err(CpuId(0)), "it has not left yet");
    machine.now = 7;
    machine.pick(CpuId(0));
    machine.start(0);
    assert_eq!(machine.cpus[0].run, None);
    machine.wake(0);
    assert_eq!(machine.cpus[0].run, Some(machine.keys[0]));
    assert_eq!(machine.ran(0), 7, "its CPU time goes on");
}

#[test]
fn runstates_have_xens_meaning() {
    let mut machine = Machine::new(1, 2);
    let state = |machine: &Machine, index: usize| {
        machine.scheduler.times(machine.keys[index]).map(|times| times.state)
    };
    assert_eq!(state(&machine, 0), Some(Runstate::Blocked));
    machine.wake(0);
    machine.wake(1);
    assert_eq!(state(&machine, 0), Some(Runstate::Running));
    assert_eq!(state(&machine, 1), Some(Runstate::Runnable));
    machine.pause(1);
    assert_eq!(state(&machine, 1), Some(Runstate::Offline));
}

#[test]
fn stale_and_forged_keys_name_nobody() {
    let mut machine = Machine::new(1, 1);
    let slots = crate::allocator::MAX_DOMAINS as u16;
    let namesake = VcpuKey { domain: DomId(slots), vcpu: VcpuId(0) };
    let beyond = VcpuKey { domain: DomId(0), vcpu: VcpuId(8) };
    for stranger in [namesake, beyond] {
        assert!(machine.scheduler.wake(stranger, Ticks(0)).is_empty());
        assert_eq!(machine.scheduler.remove(stranger, Ticks(0)), Ok(()));
        assert!(machine.scheduler.times(stranger).is_none());
        assert!(machine.scheduler.place(stranger).is_none());
    }
    machine.wake(0);
    assert_eq!(machine.cpus[0].run, Some(machine.keys[0]));
}
