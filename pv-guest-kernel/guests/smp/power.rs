//! Starting and stopping vCPUs: what PSCI answers.

use pv_guest_kernel::abi::VcpuId;
use pv_guest_kernel::abi::psci::{self, Affinity};
use pv_guest_kernel::{println, smp};

use crate::report::Report;

const CYCLES: u32 = 20;

/// What there is and what there is not.
pub fn psci(report: &mut Report, vcpus: usize) {
    let on = smp::affinity_info(VcpuId(0));
    report.equal("this vCPU", on, Ok(Affinity::On));
    let nobody = VcpuId(vcpus as u32);
    // Xen says that one which does not exist is off.
    let invalid = Err(smp::Error::Psci(psci::Error::InvalidParameters));
    let info = smp::affinity_info(nobody);
    let is_off = info == invalid || info == Ok(Affinity::Off);
    report.check("a vCPU too many", is_off, format_args!("{info:?}"));
    report.check("start one too many", smp::start(nobody).is_err(), nobody.0);
    report.equal("start vCPU 0", smp::start(VcpuId(0)), Err(smp::Error::First));
    for vcpu in (1..vcpus as u32).map(VcpuId) {
        report.equal("before its start", smp::affinity_info(vcpu), Ok(Affinity::Off));
        let early = smp::run_on(vcpu, |_| ()).map(drop);
        report.equal("a job before its start", early, Err(smp::Error::Off));
    }
}

/// After they were started.
pub fn all_are_on(report: &mut Report, vcpus: &[VcpuId]) {
    for &vcpu in vcpus {
        report.equal("after its start", smp::affinity_info(vcpu), Ok(Affinity::On));
        report.equal("start again", smp::start(vcpu), Err(smp::Error::On));
    }
}

/// Each goes off and on many times, and works in between.
pub async fn off_and_on(report: &mut Report, vcpus: &[VcpuId]) {
    for &vcpu in vcpus {
        let mut worked = 0;
        for cycle in 0..CYCLES {
            report.expect("stop", smp::stop(vcpu).await);
            if smp::affinity_info(vcpu) != Ok(Affinity::Off) {
                break;
            }
            report.expect("start", smp::start(vcpu));
            let job = report.expect("run", smp::run_on(vcpu, move |own| own.id().0 + cycle));
            let Some(handle) = job else { break };
            worked += u32::from(handle.await == Ok(vcpu.0 + cycle));
        }
        report.equal("off and on", worked, CYCLES);
    }
    println!("{} vCPUs went off and on {CYCLES} times", vcpus.len());
}
