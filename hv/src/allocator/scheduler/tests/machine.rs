//! A simulated machine whose CPUs pick exactly when they must: when kicked, when their vCPU blocks
//! or yields, and when time is up. It keeps a model of what each vCPU wants.

use abi::{DomId, VcpuId};

use crate::allocator::scheduler::{CpuSet, Decision, Scheduler};
use crate::types::{CpuId, Ticks, VcpuKey};

pub const SLICE: u64 = 80;

/// What a vCPU wants, by the model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    pub exists: bool,
    pub blocked: bool,
    pub paused: bool,
    pub until: Option<u64>,
    pub pin: Option<usize>,
}

impl Wish {
    pub fn runnable(&self) -> bool {
        self.exists && !self.blocked && !self.paused
    }

    pub fn may_use(&self, cpu: usize) -> bool {
        self.pin.is_none_or(|pin| pin == cpu)
    }
}

pub struct Machine {
    pub scheduler: Scheduler,
    pub now: u64,
    pub cpus: Vec<Decision>,
    pub keys: Vec<VcpuKey>,
    pub wishes: Vec<Wish>,
}

impl Machine {
    /// CPUs, and for each domain how many vCPUs it has.
    pub fn with_domains(cpus: usize, domains: &[usize]) -> Self {
        let keys = domains.iter().enumerate().flat_map(|(domain, &count)| {
            (0..count).map(move |vcpu| VcpuKey {
                domain: DomId(domain as u16),
                vcpu: VcpuId(vcpu as u32),
            })
        });
        let keys: Vec<VcpuKey> = keys.collect();
        let mut machine = Machine {
            scheduler: Scheduler::new(),
            now: 0,
            cpus: vec![Decision { run: None, preempt_at: Ticks::NEVER, kick: CpuSet::EMPTY }; cpus],
            wishes: vec![Wish::default(); keys.len()],
            keys,
        };
        for cpu in 0..cpus {
            machine.scheduler.start_cpu(CpuId(cpu), Ticks(SLICE));
        }
        for (domain, &count) in domains.iter().enumerate() {
            machine.scheduler.add_domain(DomId(domain as u16), count as u32, Ticks(0));
        }
        (0..machine.keys.len()).for_each(|index| machine.start(index));
        machine
    }

    /// CPUs, and domains of one vCPU each.
    pub fn new(cpus: usize, vcpus: usize) -> Self {
        Machine::with_domains(cpus, &vec![1; vcpus])
    }

    pub fn now(&self) -> Ticks {
        Ticks(self.now)
    }

    pub fn start(&mut self, index: usize) {
        assert_eq!(self.scheduler.start(self.keys[index], self.now()), Ok(()));
        let pin = self.wishes[index].pin;
        self.wishes[index] = Wish { exists: true, blocked: true, pin, ..Wish::default() };
    }

    pub fn pick(&mut self, cpu: CpuId) {
        while let Some(key) = self.scheduler.expired(cpu, self.now()) {
            let index = self.index(key);
            let until = self.wishes[index].until.take();
            assert!(until.is_none_or(|until| until <= self.now), "{key} expired too early");
            self.wake(index);
        }
        let decision = self.scheduler.pick(cpu, self.now());
        self.cpus[cpu.0] = decision;
        self.kick(decision.kick);
    }

    pub fn index(&self, wanted: VcpuKey) -> usize {
        self.keys.iter().position(|&key| key == wanted).expect("a stranger runs")
    }

    /// One CPU learns of it by an interrupt, and picks; another is the one that says so.
    pub fn kick(&mut self, cpus: CpuSet) {
        let itself = CpuId(self.now as usize % self.cpus.len());
        for cpu in cpus {
            match self.scheduler.goes_on_until(cpu, self.now()) {
                Some(until) if cpu == itself => self.cpus[cpu.0].preempt_at = until,
                _ => self.pick(cpu),
            }
        }
    }

    pub fn wake(&mut self, index: usize) {
        self.wishes[index].blocked = false;
        self.wishes[index].until = None;
        let kicks = self.scheduler.wake(self.keys[index], self.now());
        self.kick(kicks);
    }

    /// Puts a vCPU to sleep, if it runs: it can do so only by itself.
    pub fn block(&mut self, index: usize, until: Option<u64>) {
        let runs = |decision: &Decision| decision.run == Some(self.keys[index]);
        if let Some(cpu) = self.cpus.iter().position(runs) {
            self.wishes[index].blocked = true;
            self.wishes[index].until = until;
            self.scheduler.sleep(CpuId(cpu), until.map(Ticks), self.now());
            self.pick(CpuId(cpu));
        }
    }

    pub fn pause(&mut self, index: usize) {
        self.wishes[index].paused = true;
        let on = self.scheduler.pause(self.keys[index], self.now());
        on.into_iter().for_each(|cpu| self.pick(cpu));
    }

    pub fn unpause(&mut self, index: usize) {
        self.wishes[index].paused = false;
        let kicks = self.scheduler.unpause(self.keys[index], self.now());
        self.kick(kicks);
    }

    pub fn yields(&mut self, cpu: usize) {
        self.scheduler.yield_slice(CpuId(cpu));
        self.pick(CpuId(cpu));
    }

    pub fn pin(&mut self, index: usize, pin: Option<usize>) {
        self.wishes[index].pin = pin;
        let affinity = pin.map_or(CpuSet::ALL, |cpu| CpuSet::only(CpuId(cpu)));
        let kicks = self.scheduler.set_affinity(self.keys[index], affinity, self.now());
        self.kick(kicks.expect("the vCPU and the CPU exist"));
    }

    /// Lets time pass, event by event.
    pub fn run_until(&mut self, end: u64) {
        while let Some((at, cpu)) = self.next_event().filter(|&(at, _)| at <= end) {
            self.now = self.now.max(at);
            self.pick(CpuId(cpu));
        }
        self.now = end;
    }

    /// When a CPU must look again, and which.
    pub fn next_event(&self) -> Option<(u64, usize)> {
        let events = self.cpus.iter().enumerate();
        let events = events.filter(|(_, decision)| decision.preempt_at != Ticks::NEVER);
        events.map(|(cpu, decision)| (decision.preempt_at.0, cpu)).min()
    }

    pub fn runs(&self, index: usize) -> bool {
        self.cpus.iter().any(|decision| decision.run == Some(self.keys[index]))
    }

    /// How long a vCPU has run.
    pub fn ran(&self, index: usize) -> u64 {
        let times = self.scheduler.times(self.keys[index]);
        times.map_or(0, |times| times.running(self.now()).0)
    }

    /// How long all vCPUs of a domain have.
    pub fn domain_ran(&self, domain: usize) -> u64 {
        let its = |&index: &usize| usize::from(self.keys[index].domain.0) == domain;
        (0..self.keys.len()).filter(its).map(|index| self.ran(index)).sum()
    }
}
