//! The scheduler against a model of what each vCPU wants, on a simulated machine whose CPUs pick
//! exactly when they must: when kicked, when their vCPU blocks or yields, and when time is up.

mod deadlines;

use abi::shared_info::Runstate;
use abi::{DomId, VcpuId};
use proptest::prelude::*;

use super::{CpuSet, Decision, Scheduler};
use crate::types::{CpuId, Ticks, VcpuKey};

const SLICE: u64 = 10;

fn key(index: usize) -> VcpuKey {
    VcpuKey { domain: DomId(index as u16 / 2), vcpu: VcpuId(index as u32 % 2) }
}

/// What a vCPU wants, by the model.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    exists: bool,
    blocked: bool,
    paused: bool,
    until: Option<u64>,
}

impl Wish {
    fn runnable(&self) -> bool {
        self.exists && !self.blocked && !self.paused
    }
}

struct Machine {
    scheduler: Scheduler,
    now: u64,
    cpus: Vec<Decision>,
    wishes: Vec<Wish>,
}

impl Machine {
    fn new(cpus: usize, vcpus: usize) -> Self {
        let mut machine = Machine {
            scheduler: Scheduler::new(),
            now: 0,
            cpus: vec![Decision { run: None, preempt_at: None }; cpus],
            wishes: vec![Wish::default(); vcpus],
        };
        for cpu in 0..cpus {
            machine.scheduler.start_cpu(CpuId(cpu), Ticks(SLICE));
        }
        (0..vcpus).for_each(|index| machine.add(index));
        machine
    }

    fn now(&self) -> Ticks {
        Ticks(self.now)
    }

    fn add(&mut self, index: usize) {
        assert_eq!(self.scheduler.add(key(index), self.now()), Ok(()));
        self.wishes[index] = Wish { exists: true, blocked: true, ..Wish::default() };
    }

    fn pick(&mut self, cpu: CpuId) {
        while let Some(key) = self.scheduler.expired(cpu, self.now()) {
            let index = self.index(key);
            let until = self.wishes[index].until.take();
            assert!(until.is_some_and(|until| until <= self.now), "{key} expired too early");
            self.wake(index);
        }
        self.cpus[cpu.0] = self.scheduler.pick(cpu, self.now());
    }

    fn index(&self, wanted: VcpuKey) -> usize {
        (0..self.wishes.len()).find(|&index| key(index) == wanted).expect("a stranger runs")
    }

    fn kick(&mut self, cpus: CpuSet) {
        cpus.for_each(|cpu| self.pick(cpu));
    }

    fn pick_where_running(&mut self, index: usize) {
        if let Some(cpu) = self.scheduler.running_on(key(index)) {
            self.pick(cpu);
        }
    }

    fn wake(&mut self, index: usize) {
        self.wishes[index].blocked = false;
        self.wishes[index].until = None;
        let kicks = self.scheduler.wake(key(index), self.now());
        self.kick(kicks);
    }

    fn block(&mut self, index: usize, until: Option<u64>) {
        if self.wishes[index].exists {
            self.wishes[index].blocked = true;
            self.wishes[index].until = until;
            self.scheduler.block(key(index), until.map(Ticks), self.now());
            self.pick_where_running(index);
            // A deadline noted for a CPU that does not run the vCPU needs that CPU to look.
            self.pick(CpuId(0));
        }
    }

    fn pause(&mut self, index: usize) {
        self.wishes[index].paused = true;
        let on = self.scheduler.pause(key(index), self.now());
        on.into_iter().for_each(|cpu| self.pick(cpu));
    }

    fn unpause(&mut self, index: usize) {
        self.wishes[index].paused = false;
        let kicks = self.scheduler.unpause(key(index), self.now());
        self.kick(kicks);
    }

    fn remove(&mut self, index: usize) {
        self.wishes[index] = Wish::default();
        if let Err(cpu) = self.scheduler.remove(key(index), self.now()) {
            self.pick(cpu);
            assert_eq!(self.scheduler.remove(key(index), self.now()), Ok(()));
        }
    }

    /// Lets time pass, event by event.
    fn run_until(&mut self, end: u64) {
        while let Some((at, cpu)) = self.next_event().filter(|&(at, _)| at <= end) {
            self.now = self.now.max(at);
            self.pick(CpuId(cpu));
            self.check();
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<(u64, usize)> {
        let events = self.cpus.iter().enumerate();
        events.filter_map(|(cpu, decision)| Some((decision.preempt_at?.0, cpu))).min()
    }

    fn check(&self) {
        let running: Vec<usize> =
            self.cpus.iter().filter_map(|d| d.run).map(|key| self.index(key)).collect();
        for (position, index) in running.iter().enumerate() {
            assert!(!running[..position].contains(index), "{} runs twice", key(*index));
            assert!(self.wishes[*index].runnable(), "{} runs but may not", key(*index));
        }
        let runnable = self.wishes.iter().filter(|wish| wish.runnable()).count();
        assert_eq!(running.len(), runnable.min(self.cpus.len()), "not work-conserving");
        if runnable > self.cpus.len() {
            for decision in &self.cpus {
                let end = decision.preempt_at.expect("runs without end while others wait");
                assert!(end.0 <= self.now + SLICE, "a slice is too long");
            }
        }
        self.check_deadlines();
    }

    fn check_deadlines(&self) {
        for wish in &self.wishes {
            if let (true, Some(until)) = (wish.blocked, wish.until) {
                let noticed = self.cpus.iter().filter_map(|d| d.preempt_at).any(|at| at.0 <= until);
                assert!(noticed, "nobody will notice the deadline at {until}");
            }
        }
    }

    fn ran(&self, index: usize) -> u64 {
        self.scheduler.times(key(index)).map_or(0, |times| times.running(self.now()).0)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize),
    Wake(usize),
    Block(usize, Option<u64>),
    Pause(usize),
    Unpause(usize),
    Remove(usize),
    Yield(usize),
    Pass(u64),
}

const VCPUS: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..VCPUS).prop_map(Step::Add),
        6 => (0..VCPUS).prop_map(Step::Wake),
        4 => (0..VCPUS, proptest::option::of(1..50u64)).prop_map(|(v, t)| Step::Block(v, t)),
        1 => (0..VCPUS).prop_map(Step::Pause),
        2 => (0..VCPUS).prop_map(Step::Unpause),
        1 => (0..VCPUS).prop_map(Step::Remove),
        2 => (0..4usize).prop_map(Step::Yield),
        4 => (0..40u64).prop_map(Step::Pass),
    ]
}

fn apply(machine: &mut Machine, step: Step) {
    let exists = |index: usize, machine: &Machine| machine.wishes[index].exists;
    match step {
        Step::Add(v) if !exists(v, machine) => machine.add(v),
        Step::Wake(v) if exists(v, machine) => machine.wake(v),
        Step::Block(v, after) => machine.block(v, after.map(|after| machine.now + after)),
        Step::Pause(v) if exists(v, machine) => machine.pause(v),
        Step::Unpause(v) if exists(v, machine) => machine.unpause(v),
        Step::Remove(v) => machine.remove(v),
        Step::Yield(cpu) if cpu < machine.cpus.len() => {
            machine.scheduler.yield_slice(CpuId(cpu));
            machine.pick(CpuId(cpu));
        }
        Step::Pass(ticks) => machine.run_until(machine.now + ticks),
        _ => {}
    }
}

proptest! {
    /// Never on two CPUs, never idle while something is runnable, no deadline missed.
    #[test]
    fn matches_the_model(cpus in 1..5usize, steps in proptest::collection::vec(step(), 0..200)) {
        let mut machine = Machine::new(cpus, VCPUS);
        for step in steps {
            apply(&mut machine, step);
            machine.check();
        }
    }

    /// vCPUs that always want to run get equal shares, to within a slice or two.
    #[test]
    fn shares_are_equal(cpus in 1..5usize, vcpus in 1..VCPUS) {
        let mut machine = Machine::new(cpus, vcpus);
        (0..vcpus).for_each(|index| machine.wake(index));
        machine.run_until(3000);
        let fair = 3000 * cpus.min(vcpus) as u64 / vcpus as u64;
        for index in 0..vcpus {
            let ran = machine.ran(index);
            prop_assert!(ran.abs_diff(fair) <= 2 * SLICE, "{} of {fair}", ran);
        }
    }

    /// The runstate clock loses nothing: times in all states add up to the vCPU's age.
    #[test]
    fn time_adds_up(steps in proptest::collection::vec(step(), 0..100)) {
        let mut machine = Machine::new(2, VCPUS);
        let steps = steps.into_iter().filter(|s| !matches!(s, Step::Add(_) | Step::Remove(_)));
        steps.for_each(|step| apply(&mut machine, step));
        for index in 0..VCPUS {
            let mut times = *machine.scheduler.times(key(index)).expect("it exists");
            times.change(times.state, machine.now());
            prop_assert_eq!(times.total.iter().map(|t| t.0).sum::<u64>(), machine.now);
        }
    }
}

#[test]
fn alone_means_tickless() {
    let mut machine = Machine::new(1, 2);
    machine.wake(0);
    assert_eq!(machine.cpus[0], Decision { run: Some(key(0)), preempt_at: None });
    machine.now = 4;
    machine.wake(1);
    let first = Decision { run: Some(key(0)), preempt_at: Some(Ticks(SLICE)) };
    assert_eq!(machine.cpus[0], first, "the slice began when the vCPU was picked");
    machine.run_until(SLICE);
    assert_eq!(machine.cpus[0].run, Some(key(1)));
    machine.block(0, None);
    assert_eq!(machine.cpus[0], Decision { run: Some(key(1)), preempt_at: None });
}

#[test]
fn long_runner_gives_way_at_once() {
    let mut machine = Machine::new(1, 2);
    machine.wake(0);
    machine.now = 1000;
    machine.wake(1);
    assert_eq!(machine.cpus[0].run, Some(key(1)));
}

#[test]
fn each_new_vcpu_gets_an_idle_cpu_of_its_own() {
    let mut machine = Machine::new(2, 3);
    let kicks = [0, 1, 2].map(|index| machine.scheduler.wake(key(index), Ticks(0)));
    assert_eq!(kicks, [CpuSet::only(CpuId(0)), CpuSet::only(CpuId(1)), CpuSet::EMPTY]);
    let runs = [0, 1].map(|cpu| machine.scheduler.pick(CpuId(cpu), Ticks(0)).run);
    assert_eq!(runs, [Some(key(0)), Some(key(1))]);
}

#[test]
fn yield_goes_to_the_end_of_the_queue() {
    let mut machine = Machine::new(1, 3);
    (0..3).for_each(|index| machine.wake(index));
    for expected in [1, 2, 0, 1] {
        apply(&mut machine, Step::Yield(0));
        assert_eq!(machine.cpus[0].run, Some(key(expected)));
    }
}

#[test]
fn woken_before_its_cpu_has_noticed_that_it_blocked() {
    let mut machine = Machine::new(2, 1);
    machine.wake(0);
    machine.scheduler.block(key(0), None, Ticks(1));
    assert!(machine.scheduler.wake(key(0), Ticks(1)).is_empty(), "it never left its CPU");
    machine.pick(CpuId(1));
    machine.pick(CpuId(0));
    assert_eq!(machine.cpus[0].run, Some(key(0)));
    assert_eq!(machine.cpus[1].run, None);
}

#[test]
fn stopped_and_started_again() {
    let mut machine = Machine::new(2, 1);
    machine.wake(0);
    let on = machine.scheduler.pause(key(0), Ticks(5));
    assert_eq!(on, Some(CpuId(0)));
    assert_eq!(machine.scheduler.add(key(0), Ticks(5)), Err(CpuId(0)), "it has not left yet");
    machine.now = 7;
    machine.pick(CpuId(0));
    machine.add(0);
    assert_eq!(machine.cpus[0].run, None);
    machine.wake(0);
    assert_eq!(machine.cpus[0].run, Some(key(0)));
    assert_eq!(machine.ran(0), 7, "its CPU time goes on");
}

#[test]
fn runstates_have_xens_meaning() {
    let mut machine = Machine::new(1, 2);
    let state = |machine: &Machine, index| machine.scheduler.times(key(index)).map(|t| t.state);
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
    let namesake = VcpuKey { domain: DomId(64), vcpu: VcpuId(0) };
    let beyond = VcpuKey { domain: DomId(0), vcpu: VcpuId(8) };
    for stranger in [namesake, beyond] {
        assert!(machine.scheduler.wake(stranger, Ticks(0)).is_empty());
        assert_eq!(machine.scheduler.remove(stranger, Ticks(0)), Ok(()));
        assert!(machine.scheduler.times(stranger).is_none());
    }
    machine.wake(0);
    assert_eq!(machine.cpus[0].run, Some(key(0)));
}
