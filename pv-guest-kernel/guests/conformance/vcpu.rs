//! `vcpu_op` and `vm_assist`, apart from the run-state record.

use pv_guest_kernel::abi::Errno::{EFAULT, EINVAL, ENOENT, ENOSYS, ENXIO};
use pv_guest_kernel::abi::PAGE_SIZE;
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::vcpu::{
    ASSIST_DISABLE, ASSIST_ENABLE, ASSIST_RUNSTATE_UPDATE_FLAG, Command, RegisterVcpuInfo,
};
use pv_guest_kernel::shared::SharedPage;

use crate::call::{Answers, address, call};

/// VCPUOP_up, down, is_up, get_runstate_info and the timers: not on Arm.
const OF_OTHERS: [u64; 8] = [1, 2, 3, 4, 6, 7, 8, 9];
const NOBODY: u64 = 77;

/// Asks.
pub fn ask(answers: &mut Answers) {
    for command in OF_OTHERS {
        let result = call(Number::VcpuOp, [command, 0, 0, 0, 0]);
        answers.equal("a command that Arm does not have", result, Err(EINVAL));
    }
    let nobody = call(Number::VcpuOp, [OF_OTHERS[0], NOBODY, 0, 0, 0]);
    answers.equal("nobody's vCPU comes first", nobody, Err(ENOENT));
    info(answers);
    assist(answers);
}

fn info(answers: &mut Answers) {
    let Ok(page) = SharedPage::allocate() else { return };
    let mut place = RegisterVcpuInfo { gfn: page.gfn(), offset: 0, padding: 0 };
    let register = Command::RegisterVcpuInfo.raw();
    let again = call(Number::VcpuOp, [register, 0, address(&mut place), 0, 0]);
    answers.equal("register vcpu_info again", again, Err(EINVAL));
    for offset in [4, PAGE_SIZE as u32 - 8] {
        place.offset = offset;
        let badly = call(Number::VcpuOp, [register, 0, address(&mut place), 0, 0]);
        answers.equal("register vcpu_info where it does not fit", badly, Err(ENXIO));
    }
    let nowhere = call(Number::VcpuOp, [register, 0, 8, 0, 0]);
    answers.equal("register vcpu_info from nowhere", nowhere, Err(EFAULT));
}

fn assist(answers: &mut Answers) {
    let mut ask = |what, command, kind, expected| {
        answers.equal(what, call(Number::VmAssist, [command, kind, 0, 0, 0]), expected);
    };
    ask("enable", ASSIST_ENABLE, ASSIST_RUNSTATE_UPDATE_FLAG, Ok(0));
    ask("disable", ASSIST_DISABLE, ASSIST_RUNSTATE_UPDATE_FLAG, Ok(0));
    ask("neither", 2, ASSIST_RUNSTATE_UPDATE_FLAG, Err(ENOSYS));
    ask("an unknown type", ASSIST_ENABLE, 0, Err(EINVAL));
    ask("a type beyond all", ASSIST_ENABLE, 64, Err(EINVAL));
    ask("neither, and unknown", 2, 0, Err(EINVAL));
}
