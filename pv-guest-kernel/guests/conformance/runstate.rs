//! What is asked of the record of what a vCPU has done with its time.

use core::time::Duration;

use pv_guest_kernel::abi::Errno::{EFAULT, ENOENT};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::shared_info::{Runstate, RunstateInfo};
use pv_guest_kernel::abi::vcpu::{ASSIST_ENABLE, ASSIST_RUNSTATE_UPDATE_FLAG, Command};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::{hypercall, time};

use crate::call::{Answers, call};
use crate::record::{NOWHERE, place, read, register};

/// Asks.
pub fn ask(answers: &mut Answers) {
    let Ok(page) = SharedPage::allocate() else { return };
    let place = place(&page);
    answers.equal("nobody's run state", register(77, place), Err(ENOENT));
    let command = Command::RegisterRunstateMemoryArea.raw();
    let nowhere = call(Number::VcpuOp, [command, 0, NOWHERE, 0, 0]);
    answers.equal("run state from nowhere", nowhere, Err(EFAULT));
    answers.equal("run state to nowhere", register(0, NOWHERE), Ok(0));
    answers.equal("run state of this vCPU", register(0, place), Ok(0));
    for announced in [false, true] {
        if announced {
            let arguments = [ASSIST_ENABLE, ASSIST_RUNSTATE_UPDATE_FLAG, 0, 0, 0];
            answers.equal("announce updates", call(Number::VmAssist, arguments), Ok(0));
        }
        over_time(answers, &page);
    }
    // Across the end of a page.
    if let Ok(pages) = pv_guest_kernel::memory::Pages::new(2) {
        let start = pages.as_ptr().expose_provenance().get() as u64;
        answers.equal("run state in two pages", register(0, start + 4096 - 20), Ok(0));
        hypercall::sched::yield_now();
        answers.equal("run state to nowhere", register(0, NOWHERE), Ok(0));
    }
}

fn over_time(answers: &mut Answers, page: &SharedPage) {
    let blocked = Runstate::Blocked.raw() as usize;
    let before = read(page);
    // On a busy machine the time may be over before this has even gone to sleep.
    let slept = (0..100).any(|_| {
        crate::sleep::until(time::now() + Duration::from_millis(1));
        read(page).time[blocked] > before.time[blocked]
    });
    answers.check("it has slept", slept);
    let after = read(page);
    answers.equal("it runs", after.state, Runstate::Running.raw());
    answers.check("no update is going on", after.entry_time & RunstateInfo::UPDATE == 0);
    answers.check("it came back later", after.entry_time > before.entry_time);
    let (sum, earlier): (u64, u64) = (after.time.iter().sum(), before.time.iter().sum());
    answers.check("time goes on", sum > earlier);
}
