//! `event_channel_op` in the 2-level ABI, apart from the sending.

use pv_guest_kernel::abi::Errno::{self, EEXIST, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP};
use pv_guest_kernel::abi::event::{
    BindVirq, Command, ExpandArray, PortOnly, SetPriority, VIRQS, Virq,
};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::{Gfn, Port, VcpuId};

use crate::call::{Answers, address, call};

/// Makes the call.
pub fn operate<T>(command: Command, argument: &mut T) -> Result<(), Errno> {
    call(Number::EventChannelOp, [command.raw(), address(argument), 0, 0, 0]).map(drop)
}

/// Asks.
pub fn ask(answers: &mut Answers) {
    let mut array = ExpandArray { array: Gfn(0x4_0000) };
    let expand = operate(Command::ExpandArray, &mut array);
    answers.equal("an array for the 2-level ABI", expand, Err(EOPNOTSUPP));
    let mut priority = SetPriority { port: Port(1), priority: 3 };
    let set = operate(Command::SetPriority, &mut priority);
    answers.equal("a priority in the 2-level ABI", set, Err(ENOSYS));
    virqs(answers);
}

fn bind(virq: u32, vcpu: u32) -> Result<Port, Errno> {
    let mut argument = BindVirq { virq, vcpu: VcpuId(vcpu), port: Port(0) };
    operate(Command::BindVirq, &mut argument).map(|()| argument.port)
}

fn virqs(answers: &mut Answers) {
    for virq in [Virq::Timer, Virq::Debug, Virq::Console, Virq::Argo, Virq::Pmu, Virq::Arch7] {
        let port = bind(virq.raw(), 0);
        answers.check("a virtual interrupt", port.is_ok());
        answers.equal("the same again", bind(virq.raw(), 0).err(), Some(EEXIST));
        if let Ok(port) = port {
            let closed = operate(Command::Close, &mut PortOnly { port });
            answers.equal("close a virtual interrupt", closed, Ok(()));
        }
    }
    answers.equal("no virtual interrupt", bind(VIRQS as u32, 0), Err(EINVAL));
    answers.equal("a global one on another vCPU", bind(Virq::DomExc.raw(), 1), Err(EINVAL));
    answers.equal("one of no vCPU", bind(Virq::Timer.raw(), 99), Err(ENOENT));
}
