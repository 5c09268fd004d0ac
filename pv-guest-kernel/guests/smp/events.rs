//! Events for the tests that count the interrupts between the machine's CPUs.

use core::time::Duration;

use pv_guest_kernel::abi::VcpuId;
use pv_guest_kernel::hypercall::event_channel;
use pv_guest_kernel::{smp, time};

use crate::report::Report;

/// vCPU 0 sends itself events while it runs.
pub fn to_a_running_vcpu(report: &mut Report, count: u64) {
    let Some(port) = report.expect("bind", event_channel::bind_ipi(VcpuId(0))) else { return };
    let sent = (0..count).filter(|_| event_channel::send(port).is_ok()).count() as u64;
    report.equal("events to itself", sent, count);
}

/// vCPU 0 sends events to vCPU 1, each when it sleeps again.
pub async fn to_a_sleeping_vcpu(report: &mut Report, count: u64) {
    let vcpu = VcpuId(1);
    report.expect("start", smp::start(vcpu));
    let before = smp::counts(vcpu).events;
    for round in 1..=count {
        time::sleep(Duration::from_micros(200)).await;
        report.expect("notify", smp::notify(vcpu));
        while smp::counts(vcpu).events < before + round {
            smp::relax();
        }
    }
    // One more: each vCPU is told once that it may have missed some.
    let taken = smp::counts(vcpu).events - before;
    report.check("events to a sleeping vCPU", (count..=count + 1).contains(&taken), taken);
}
