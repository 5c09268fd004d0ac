//! Interrupts from one vCPU to another, and from each one's timer.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use pv_guest_kernel::abi::VcpuId;
use pv_guest_kernel::{smp, time};

use crate::report::Report;

const ROUNDS: u64 = 50;
const SGI: u8 = 5;

/// Each vCPU sleeps until it was sent so many events, one after the other.
pub async fn by_event(report: &mut Report, vcpus: &[VcpuId]) {
    for &vcpu in vcpus {
        let send = || smp::notify(vcpu).is_ok();
        let taken = one_by_one(report, vcpu, |counts| counts.events, send).await;
        report.check("events to a vCPU in WFI", taken >= ROUNDS, taken);
    }
}

/// The same by SGIs.
pub async fn by_sgi(report: &mut Report, vcpus: &[VcpuId]) {
    let Some(sgi) = smp::Sgi::new(SGI) else { return };
    for &vcpu in vcpus {
        let send = || {
            smp::send_sgi(vcpu, sgi);
            true
        };
        let taken = one_by_one(report, vcpu, |counts| counts.sgis, send).await;
        report.equal("SGIs to a vCPU in WFI", taken, ROUNDS);
    }
}

/// Sends, and waits until it has been taken before it sends again.
async fn one_by_one(
    report: &mut Report,
    vcpu: VcpuId,
    kind: fn(smp::Counts) -> u64,
    send: impl Fn() -> bool,
) -> u64 {
    let before = kind(smp::counts(vcpu));
    let wanted = before + ROUNDS;
    let job = smp::run_on(vcpu, move |own| {
        own.wait_until(|| kind(own.counts()) >= wanted);
    });
    let Some(handle) = report.expect("run", job) else { return 0 };
    for round in 1..=ROUNDS {
        if !send() {
            break;
        }
        while kind(smp::counts(vcpu)) < before + round {
            time::sleep(Duration::from_micros(100)).await;
        }
    }
    report.expect("interrupts", handle.await);
    kind(smp::counts(vcpu)) - before
}

/// A vCPU that interrupts itself finds the interrupt when it looks.
pub async fn to_itself(report: &mut Report, vcpus: &[VcpuId]) {
    let Some(sgi) = smp::Sgi::new(SGI) else { return };
    for &vcpu in vcpus {
        let job = smp::run_on(vcpu, move |own| {
            let before = own.counts().sgis;
            for round in 1..=ROUNDS {
                smp::send_sgi(own.id(), sgi);
                own.wait_until(|| own.counts().sgis >= before + round);
            }
            own.counts().sgis - before
        });
        let Some(handle) = report.expect("run", job) else { continue };
        if let Some(taken) = report.expect("own SGIs", handle.await) {
            report.equal("own SGIs", taken, ROUNDS);
        }
    }
}

/// Two vCPUs take turns, without vCPU 0: each sleeps until the other says that it is its turn.
pub async fn between(report: &mut Report, vcpus: &[VcpuId]) {
    let [first, second, ..] = *vcpus else { return };
    let turn = Arc::new(AtomicU64::new(0));
    let play = |turn: Arc<AtomicU64>, own: &smp::Vcpu, peer: VcpuId, number: u64| {
        for round in 0..ROUNDS {
            own.wait_until(|| turn.load(Ordering::Acquire) == 2 * round + number);
            turn.fetch_add(1, Ordering::Release);
            let _ = smp::notify(peer);
        }
    };
    let (turn_of_first, turn_of_second) = (turn.clone(), turn.clone());
    let one = smp::run_on(first, move |own| play(turn_of_first, own, second, 0));
    let other = smp::run_on(second, move |own| play(turn_of_second, own, first, 1));
    for handle in [one, other] {
        let Some(handle) = report.expect("run", handle) else { return };
        report.expect("turns", handle.await);
    }
    report.equal("turns of two vCPUs", turn.load(Ordering::Acquire), 2 * ROUNDS);
}

/// All sleep at once, each by its own timer, and none too short.
pub async fn by_timer(report: &mut Report, vcpus: &[VcpuId]) {
    const NAP: Duration = Duration::from_millis(2);
    const NAPS: u32 = 10;
    let mut handles = Vec::new();
    for &vcpu in vcpus {
        let job = smp::run_on(vcpu, |own| {
            let (start, before) = (time::now(), own.counts().timers);
            for _ in 0..NAPS {
                own.sleep(NAP);
            }
            (time::now() - start, own.counts().timers - before)
        });
        handles.extend(report.expect("run", job));
    }
    for handle in handles {
        let Some((slept, interrupts)) = report.expect("timer", handle.await) else { continue };
        let enough = slept >= NAP * NAPS && interrupts > 0;
        report.check("sleep by timer", enough, format_args!("{interrupts} interrupts"));
    }
}
