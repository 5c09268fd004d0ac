//! `memory_op`.

use pv_guest_kernel::abi::Errno::{EFAULT, ENOSYS, EOPNOTSUPP, EPERM};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::memory::{
    AddToPhysmap, COMMAND_BITS, Command, Exchange, MapSpace, RemoveFromPhysmap, Reservation,
};
use pv_guest_kernel::abi::{DomId, Errno, Gfn};
use pv_guest_kernel::shared::SharedPage;

use crate::call::{Answers, address, call};

/// Where this guest has no memory.
const NOWHERE: Gfn = Gfn(1 << 20);
/// A domain that is never there.
const NOBODY: DomId = DomId(0x7000);

fn ask_raw(command: u64, argument: u64) -> Result<u64, Errno> {
    call(Number::MemoryOp, [command, argument, 0, 0, 0])
}

fn ask_with<T>(command: Command, argument: &mut T) -> Result<u64, Errno> {
    ask_raw(command.raw(), address(argument))
}

/// Asks.
pub fn ask(answers: &mut Answers, other: DomId) {
    sizes(answers, other);
    reservations(answers, other);
    places(answers, other);
    exchange(answers);
    answers.equal("an unknown command", ask_raw((1 << COMMAND_BITS) - 1, 0), Err(ENOSYS));
}

fn sizes(answers: &mut Answers, other: DomId) {
    let current = ask_with(Command::CurrentReservation, &mut DomId::SELF.clone());
    let maximum = ask_with(Command::MaximumReservation, &mut DomId::SELF.clone());
    answers.check("current_reservation", current.is_ok_and(|frames| frames > 0));
    answers.check("maximum_reservation", maximum.ok() >= current.ok() && maximum.is_ok());
    let highest = ask_with(Command::MaximumGpfn, &mut DomId::SELF.clone());
    answers.check("maximum_gpfn", highest.is_ok_and(|gfn| gfn > 0));
    let of_other = ask_with(Command::CurrentReservation, &mut other.clone());
    answers.equal("the memory of another domain", of_other, Err(EPERM));
    let of_nobody = ask_with(Command::CurrentReservation, &mut NOBODY.clone());
    answers.equal("the memory of no domain", of_nobody, Err(EPERM));
    let nowhere = ask_raw(Command::CurrentReservation.raw(), 8);
    answers.equal("a bad pointer", nowhere, Err(EFAULT));
}

/// These answer how many extents were done, and stop at the first that cannot be.
fn reservations(answers: &mut Answers, other: DomId) {
    let mut list = [NOWHERE];
    let mut one = Reservation {
        extent_start: address(&mut list),
        nr_extents: 1,
        domid: DomId::SELF,
        ..Default::default()
    };
    let decrease = ask_with(Command::DecreaseReservation, &mut one);
    answers.equal("to give back what is not there", decrease, Ok(0));
    one.domid = other;
    let decrease = ask_with(Command::DecreaseReservation, &mut one);
    answers.equal("to give back what is another domain's", decrease, Ok(0));
    let mut none = Reservation { domid: DomId::SELF, ..Default::default() };
    let populate = ask_with(Command::PopulatePhysmap, &mut none);
    answers.equal("to populate nothing", populate, Ok(0));
}

fn places(answers: &mut Answers, other: DomId) {
    let mut remove = RemoveFromPhysmap { domid: other, gpfn: NOWHERE, ..Default::default() };
    let removed = ask_with(Command::RemoveFromPhysmap, &mut remove);
    answers.equal("to remove what is another domain's", removed, Err(EPERM));
    let mut add = AddToPhysmap {
        domid: DomId::SELF,
        space: MapSpace::Gmfn.raw(),
        gpfn: NOWHERE,
        ..Default::default()
    };
    answers.equal("a space of x86", ask_with(Command::AddToPhysmap, &mut add), Err(ENOSYS));
}

fn exchange(answers: &mut Answers) {
    let Ok(page) = SharedPage::allocate() else { return answers.check("a page", false) };
    let list = |frame: &mut Gfn| Reservation {
        extent_start: address(frame),
        nr_extents: 1,
        domid: DomId::SELF,
        ..Default::default()
    };
    let (mut given, mut taken) = (page.gfn(), page.gfn());
    let mut request =
        Exchange { given: list(&mut given), taken: list(&mut taken), nr_exchanged: 0 };
    let exchanged = ask_with(Command::Exchange, &mut request);
    answers.equal("exchange", exchanged, Err(EOPNOTSUPP));
    answers.equal("exchange from nowhere", ask_raw(Command::Exchange.raw(), 8), Err(EFAULT));
}
