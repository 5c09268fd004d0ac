//! Closures on other vCPUs: their results, and what they share.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use pv_guest_kernel::abi::VcpuId;
use pv_guest_kernel::{hypercall, println, smp};

use crate::report::Report;

/// What each vCPU adds up. Long enough that none is done before the last begins, and that vCPUs
/// that share a CPU take turns, perhaps elsewhere.
const NUMBERS: u64 = 3_000_000;
const ROUNDS: u64 = 20_000;

/// Each vCPU adds numbers up by itself, and counts in a counter that all share.
pub async fn sums(report: &mut Report, vcpus: &[VcpuId]) {
    let shared = Arc::new(AtomicU64::new(0));
    let mut handles = Vec::new();
    for &vcpu in vcpus {
        let shared = shared.clone();
        let result = smp::run_on(vcpu, move |own| (own.id(), add(&shared)));
        handles.extend(report.expect("run", result).map(|handle| (vcpu, handle)));
    }
    let mut total = add(&shared);
    for (vcpu, handle) in handles {
        let Some((id, sum)) = report.expect("sum", handle.await) else { continue };
        report.equal("a closure runs where it was sent", id, vcpu);
        total += sum;
    }
    let adders = vcpus.len() as u64 + 1;
    report.equal("own sums", total, adders * (NUMBERS * (NUMBERS - 1) / 2));
    report.equal("shared count", shared.load(Ordering::Relaxed), adders * ROUNDS);
    println!("sum {total}, count {}", shared.load(Ordering::Relaxed));
}

fn add(shared: &AtomicU64) -> u64 {
    for round in 0..ROUNDS {
        shared.fetch_add(1, Ordering::Relaxed);
        if round % 1000 == 0 {
            hypercall::sched::yield_now();
        }
    }
    // The compiler must not know the sum.
    (0..NUMBERS).map(core::hint::black_box).sum()
}

/// All allocate and free at once, and what each wrote is still there.
pub async fn heap(report: &mut Report, vcpus: &[VcpuId]) {
    let mut handles = Vec::new();
    for &vcpu in vcpus {
        handles.extend(report.expect("run", smp::run_on(vcpu, |own| churn(own.id().0.into()))));
    }
    let mut damaged = churn(0);
    for handle in handles {
        damaged += report.expect("heap", handle.await).unwrap_or(1);
    }
    report.equal("damaged allocations", damaged, 0);
}

fn churn(mark: u64) -> usize {
    let mut kept: Vec<Box<[u64; 17]>> = Vec::new();
    let mut damaged = 0;
    for round in 0..500_u64 {
        kept.push(Box::new([mark << 32 | round; 17]));
        if round % 3 == 0 {
            let taken = kept.swap_remove((round as usize * 7) % kept.len());
            damaged += usize::from(is_damaged(&taken, mark));
        }
    }
    damaged + kept.iter().filter(|block| is_damaged(block, mark)).count()
}

fn is_damaged(block: &[u64; 17], mark: u64) -> bool {
    block.iter().any(|&word| word >> 32 != mark || word != block[0])
}
