//! Starting and stopping: vCPUs on their own account, domains by the toolstack's or by their own
//! wish.

use core::mem::offset_of;
use core::sync::atomic::Ordering;

use abi::event::Virq;
use abi::sched::ShutdownReason;
use abi::shared_info::{SharedInfo, VCPU_INFO_SIZE};
use abi::{DomId, Errno, Gfn, PAGE_SIZE};

use super::physical_timer::PhysicalTimer;
use super::vcpu::{InfoPlace, Polling};
use super::{Monitor, Privileged};
use crate::machine::memory::RamFrame;
use crate::machine::{percpu, rtc, timer};
use crate::types::{MAX_VCPUS, Ticks, VcpuKey};

/// The vCPUs of one domain.
type Keys = heapless::Vec<VcpuKey, MAX_VCPUS>;

impl Monitor {
    /// Brings an offline vCPU online; its context must be set. It runs as soon as its domain may.
    pub fn start_vcpu(&mut self, key: VcpuKey) -> Result<(), Errno> {
        let domain = self.domains.get_mut(key.domain).ok_or(Errno::ESRCH)?;
        let runnable = domain.is_runnable();
        let vcpu = domain.vcpu_mut(key.vcpu).ok_or(Errno::ENOENT)?;
        if vcpu.online {
            return Err(Errno::EEXIST);
        }
        let now = timer::now();
        // On a CPU it can still be only if it has just stopped there.
        self.scheduler.start(key, now).map_err(|_| Errno::EAGAIN)?;
        vcpu.physical_timer = PhysicalTimer::default();
        vcpu.online = true;
        vcpu.interrupts.power_up();
        if !runnable {
            self.pause_vcpu(key, now);
        }
        self.wake(key);
        self.repeat_upcall(key);
        Ok(())
    }

    /// Takes a vCPU offline. It must be the one that runs on the calling CPU, which then picks
    /// another.
    pub fn stop_vcpu(&mut self, key: VcpuKey) {
        let vcpu = self.domains.get_mut(key.domain).and_then(|domain| domain.vcpu_mut(key.vcpu));
        if let Some(vcpu) = vcpu {
            vcpu.online = false;
        }
        self.pause_vcpu(key, timer::now());
    }

    /// Puts the calling vCPU to sleep until something wakes it, or until `deadline`.
    #[inline(always)]
    pub fn sleep(&mut self, deadline: Option<Ticks>) {
        self.scheduler.sleep(percpu::this_cpu(), deadline, timer::now());
    }

    /// Wakes a vCPU whose deadline has passed.
    pub fn expire_vcpu(&mut self, key: VcpuKey) {
        self.set_polling(key, Polling::No);
        self.wake(key);
    }

    /// Notes where a vCPU's `vcpu_info` lies: at `offset` of a frame of its domain's own RAM, which
    /// is held from now on. What was pending goes along. `ENXIO` if it does not fit there, `EINVAL`
    /// a second time: as Xen 4.17, which this monitor says that it is; newer ones answer `EBUSY`.
    pub fn register_vcpu_info(&mut self, key: VcpuKey, gfn: Gfn, offset: u32) -> Result<(), Errno> {
        let offset = offset as usize;
        if !offset.is_multiple_of(8) || offset > PAGE_SIZE - VCPU_INFO_SIZE {
            return Err(Errno::ENXIO);
        }
        let vcpu = self.domains.get(key.domain).and_then(|domain| domain.vcpu(key.vcpu));
        if vcpu.ok_or(Errno::ENOENT)?.info.is_some_and(|info| info.registered) {
            return Err(Errno::EINVAL);
        }
        let frame = self.hold_ram(key.domain, gfn)?;
        let domain = self.domains.get_mut(key.domain).ok_or(Errno::ESRCH)?;
        let vcpu = domain.vcpu_mut(key.vcpu).ok_or(Errno::ENOENT)?;
        let old = vcpu.info.replace(InfoPlace { frame, offset, registered: true });
        if let Some(old) = old {
            old.frame.copy_to(old.offset, frame, offset, VCPU_INFO_SIZE);
        }
        Ok(())
    }

    /// Keeps a domain from running until it is unpaused.
    pub fn pause_domain(&mut self, _: Privileged, id: DomId) -> Result<(), Errno> {
        self.domains.get_mut(id).ok_or(Errno::ESRCH)?.paused = true;
        self.follow_runnable(id);
        Ok(())
    }

    /// Lets a domain run.
    pub fn unpause_domain(&mut self, _: Privileged, id: DomId) -> Result<(), Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        domain.paused = false;
        tell_starting_time(domain.shared_info);
        self.follow_runnable(id);
        Ok(())
    }

    /// Stops a domain for good and tells the toolstack why. The first reason stays.
    pub fn shut_down_domain(&mut self, id: DomId, reason: ShutdownReason) {
        let Some(domain) = self.domains.get_mut(id) else { return };
        if domain.shutdown.is_some() {
            return;
        }
        // What the domain itself said first counts.
        domain.shutdown = Some(*domain.shutdown_code.get_or_insert(reason));
        self.watchdogs.forget(id);
        self.follow_runnable(id);
        self.raise_virq(DomId::DOM0, Virq::DomExc);
    }

    /// Pauses or unpauses a domain's online vCPUs as the domain's state says.
    fn follow_runnable(&mut self, id: DomId) {
        let Some(domain) = self.domains.get(id) else { return };
        let runnable = domain.is_runnable();
        let online = domain.all_vcpus().filter(|vcpu| vcpu.online);
        let keys: Keys = online.map(|vcpu| vcpu.key).collect();
        let now = timer::now();
        for key in keys {
            if runnable {
                let kicks = self.scheduler.unpause(key, now);
                self.kicks.extend(kicks);
            } else {
                self.pause_vcpu(key, now);
            }
        }
    }

    fn pause_vcpu(&mut self, key: VcpuKey, now: Ticks) {
        if let Some(cpu) = self.scheduler.pause(key, now) {
            self.kicks.insert(cpu);
        }
    }
}

/// Writes the wall-clock time at which a domain starts, once. A guest adds how long it has run, as
/// Linux does; under Xen that is what its virtual counter shows.
fn tell_starting_time(shared_info: RamFrame) {
    let word = |offset| shared_info.u32(offset);
    let version = word(offset_of!(SharedInfo, wallclock_version));
    let Some(now) = rtc::wall_clock().filter(|_| version.load(Ordering::Relaxed) == 0) else {
        return;
    };
    // Nobody reads it yet: the domain has not run.
    let (low, high) = (now.as_secs() as u32, (now.as_secs() >> 32) as u32);
    word(offset_of!(SharedInfo, wallclock_seconds)).store(low, Ordering::Relaxed);
    word(offset_of!(SharedInfo, wallclock_seconds_high)).store(high, Ordering::Relaxed);
    let nanoseconds = word(offset_of!(SharedInfo, wallclock_nanoseconds));
    nanoseconds.store(now.subsec_nanos(), Ordering::Relaxed);
    version.store(2, Ordering::Release);
}
