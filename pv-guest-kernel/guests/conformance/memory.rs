//! `memory_op`.

use pv_guest_kernel::abi::Errno::{EFAULT, ENOSYS, EOPNOTSUPP, EPERM};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::memory::{
    AddToPhysmap, COMMAND_BITS, Command, MapSpace, RemoveFromPhysmap, Reservation,
};
use pv_guest_kernel::abi::{DomId, Errno, Gfn};

use crate::call::{Answers, address, call};

/// Where this guest has no memory.
const NOWHERE: Gfn = Gfn(1 << 20);

fn ask_raw(command: u64, argument: u64) -> Result<u64, Errno> {
    call(Number::MemoryOp, [command, argument, 0, 0, 0])
}

fn ask_with<T>(command: Command, argument: &mut T) -> Result<u64, Errno> {
    ask_raw(command.raw(), address(argument))
}

/// Asks.
pub fn ask(answers: &mut Answers) {
    sizes(answers);
    reservations(answers);
    places(answers);
    answers.equal("exchange", ask_raw(Command::Exchange.raw(), 0), Err(EOPNOTSUPP));
    answers.equal("an unknown command", ask_raw((1 << COMMAND_BITS) - 1, 0), Err(ENOSYS));
}

fn sizes(answers: &mut Answers) {
    let current = ask_with(Command::CurrentReservation, &mut DomId::SELF.clone());
    let maximum = ask_with(Command::MaximumReservation, &mut DomId::SELF.clone());
    answers.check("current_reservation", current.is_ok_and(|frames| frames > 0));
    answers.check("maximum_reservation", maximum.ok() >= current.ok() && maximum.is_ok());
    let highest = ask_with(Command::MaximumGpfn, &mut DomId::SELF.clone());
    answers.check("maximum_gpfn", highest.is_ok_and(|gfn| gfn > 0));
    let of_dom0 = ask_with(Command::CurrentReservation, &mut DomId::DOM0.clone());
    answers.equal("the memory of another domain", of_dom0, Err(EPERM));
    let nowhere = ask_raw(Command::CurrentReservation.raw(), 8);
    answers.equal("a bad pointer", nowhere, Err(EFAULT));
}

/// These answer how many extents were done, and stop at the first that cannot be.
fn reservations(answers: &mut Answers) {
    let mut list = [NOWHERE];
    let mut one = Reservation {
        extent_start: address(&mut list),
        nr_extents: 1,
        domid: DomId::SELF,
        ..Default::default()
    };
    let decrease = ask_with(Command::DecreaseReservation, &mut one);
    answers.equal("to give back what is not there", decrease, Ok(0));
    one.domid = DomId::DOM0;
    let decrease = ask_with(Command::DecreaseReservation, &mut one);
    answers.equal("to give back what is dom0's", decrease, Ok(0));
    let mut none = Reservation { domid: DomId::SELF, ..Default::default() };
    let populate = ask_with(Command::PopulatePhysmap, &mut none);
    answers.equal("to populate nothing", populate, Ok(0));
}

fn places(answers: &mut Answers) {
    let mut remove = RemoveFromPhysmap { domid: DomId::DOM0, gpfn: NOWHERE, ..Default::default() };
    let removed = ask_with(Command::RemoveFromPhysmap, &mut remove);
    answers.equal("to remove what is dom0's", removed, Err(EPERM));
    let mut add = AddToPhysmap {
        domid: DomId::SELF,
        space: MapSpace::Gmfn.raw(),
        gpfn: NOWHERE,
        ..Default::default()
    };
    answers.equal("a space of x86", ask_with(Command::AddToPhysmap, &mut add), Err(ENOSYS));
}
