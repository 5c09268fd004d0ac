//! `xen_version` and `hvm_op`.

use pv_guest_kernel::abi::Errno::{EFAULT, EINVAL, ENOSYS, EPERM};
use pv_guest_kernel::abi::hvm::{self, Index, Param};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::version::{
    Capabilities, Changeset, Command, CommandLine, CompileInfo, DENIED, DomainHandle, ExtraVersion,
    FeatureInfo, Features, PlatformParameters,
};
use pv_guest_kernel::abi::{DomId, Errno, PAGE_SIZE};
use zerocopy::FromZeros;

use crate::call::{Answers, address, call};

fn ask_raw(command: Command, argument: u64) -> Result<u64, Errno> {
    call(Number::XenVersion, [command.raw(), argument, 0, 0, 0])
}

fn fill<T: FromZeros>(command: Command) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    ask_raw(command, address(&mut value)).map(|_| value)
}

/// Asks.
pub fn ask(answers: &mut Answers) {
    answers.equal("version", ask_raw(Command::Version, 0), Ok(0x4_0011));
    texts(answers);
    numbers(answers);
    privileged(answers);
    parameters(answers);
}

fn begins(text: &[u8], with: &str) -> bool {
    text.starts_with(with.as_bytes()) && text.last() == Some(&0)
}

fn is_said(text: &[u8]) -> bool {
    begins(text, "") && text.first() != Some(&0)
}

fn texts(answers: &mut Answers) {
    let extra = fill::<ExtraVersion>(Command::ExtraVersion);
    answers.check("extraversion", extra.is_ok_and(|text| begins(&text, ".")));
    let capabilities = fill::<Capabilities>(Command::Capabilities);
    answers.check("capabilities", capabilities.is_ok_and(|text| begins(&text, "xen-3.0-aarch64 ")));
    let changeset = fill::<Changeset>(Command::Changeset);
    // Debian's build of Xen says nothing here.
    answers.check("changeset", changeset.is_ok_and(|text| begins(&text, "")));
    let info = fill::<CompileInfo>(Command::CompileInfo);
    answers.check("compile_info", info.is_ok_and(|info| is_said(&info.compiler)));
    answers.equal("a bad pointer", ask_raw(Command::Changeset, 8), Err(EFAULT));
}

fn numbers(answers: &mut Answers) {
    let parameters = fill::<PlatformParameters>(Command::PlatformParameters);
    answers.equal("platform_parameters", parameters.map(|found| found.virt_start), Ok(0));
    answers.equal("pagesize", ask_raw(Command::PageSize, 0), Ok(PAGE_SIZE as u64));
    answers.equal("pagesize with a pointer", ask_raw(Command::PageSize, 4096), Err(EINVAL));
    let mut features = FeatureInfo { submap_index: 0, submap: 0 };
    let result = ask_raw(Command::GetFeatures, address(&mut features));
    let found = result.map(|_| features.submap);
    answers.equal("get_features", found, Ok(Features::DOMU.bits()));
    features.submap_index = 1;
    let result = ask_raw(Command::GetFeatures, address(&mut features));
    answers.equal("features beyond the first word", result, Err(EINVAL));
    let handle = fill::<DomainHandle>(Command::GuestHandle);
    answers.check("guest_handle", handle.is_ok_and(|handle| handle.iter().any(|&byte| byte != 0)));
}

fn privileged(answers: &mut Answers) {
    let line = fill::<CommandLine>(Command::CommandLine);
    answers.check("commandline", line.is_ok_and(|line| line.starts_with(&DENIED)));
    answers.equal("build_id", ask_raw(Command::BuildId, 0), Err(EPERM));
    let unknown = call(Number::XenVersion, [4711, 0, 0, 0, 0]);
    answers.equal("an unknown command", unknown, Err(ENOSYS));
}

fn parameters(answers: &mut Answers) {
    let mut ask = |what: &str, command: hvm::Command, index: u32, expected: Result<u64, Errno>| {
        let mut param = Param { domid: DomId::SELF, index, ..Default::default() };
        let result = call(Number::HvmOp, [command.raw(), address(&mut param), 0, 0, 0]);
        answers.equal(what, result, expected);
        param.value
    };
    use hvm::Command::{GetParam, SetParam};
    let irq = ask("callback interrupt", GetParam, Index::CallbackIrq.raw(), Ok(0));
    ask("the debugger's ring", GetParam, Index::MonitorRingPfn.raw(), Err(EPERM));
    ask("a parameter in a hole", GetParam, 3, Err(EINVAL));
    ask("a parameter beyond all", GetParam, u32::MAX, Err(EINVAL));
    ask("set one's own", SetParam, Index::StorePfn.raw(), Err(EPERM));
    ask("set one in a hole", SetParam, 3, Err(EINVAL));
    answers.equal("callback interrupt's number", (irq >> 56, irq & 0xFF), (2, 31));
    let unknown = call(Number::HvmOp, [4711, 0, 0, 0, 0]);
    answers.equal("an unknown parameter command", unknown, Err(ENOSYS));
}
