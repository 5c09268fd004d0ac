//! The FIFO event ABI. The kernel below knows the 2-level one only: what it would hear itself it
//! does not hear from here on.

use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use pv_guest_kernel::abi::Errno::{self, EINVAL, ENOENT};
use pv_guest_kernel::abi::event::fifo::{
    ControlBlock, DEFAULT_PRIORITY, LINK_BITS, LINK_MASK, LINKED, MASKED, PENDING, WORDS_PER_PAGE,
};
use pv_guest_kernel::abi::event::{
    Command, ExpandArray, InitControl, PortOnly, Reset, SetPriority,
};
use pv_guest_kernel::abi::{DomId, Gfn, PAGE_SIZE, Port, VcpuId};
use pv_guest_kernel::hypercall::event_channel;
use pv_guest_kernel::shared::SharedPage;

use crate::call::Answers;
use crate::events::operate;
use crate::{sleep, system_time};

/// Of the control block in its page.
const OFFSET: usize = 64;

struct Queues {
    block: SharedPage,
    words: SharedPage,
    /// The ports that are sent to. Others come when they like: what is printed makes the console
    /// answer.
    far: [Port; 3],
}

/// Asks.
pub fn ask(answers: &mut Answers) {
    let (Ok(block), Ok(words)) = (SharedPage::allocate(), SharedPage::allocate()) else {
        return answers.check("two pages", false);
    };
    let (Ok(first), Ok(second), Ok(third)) = (loopback(), loopback(), loopback()) else {
        return answers.check("channels", false);
    };
    let ports = [first, second, third];
    let queues = Queues { block, words, far: ports.map(|(_, far)| far) };
    // Binding has made the far ends pending, in the 2-level ABI.
    queues.set_up(answers);
    queues.order(answers, &ports);
    queues.priorities(answers, &ports);
    queues.masks(answers, &ports);
    queues.polls(answers, &ports);
}

/// Closes all ports, also the console's: nothing can be printed after it. Without the FIFO ABI then
/// there is no event word that could be added.
pub fn leave() -> Result<(), Errno> {
    operate(Command::Reset, &mut Reset { dom: DomId::SELF })?;
    match operate(Command::ExpandArray, &mut ExpandArray { array: Gfn(0) }) {
        Err(Errno::EOPNOTSUPP) => Ok(()),
        _ => Err(EINVAL),
    }
}

/// A near end, and the far end that it leads to.
type Ends = (Port, Port);

fn loopback() -> Result<Ends, Errno> {
    let near = event_channel::alloc_unbound(DomId::SELF, DomId::SELF)?;
    Ok((near, event_channel::bind_interdomain(DomId::SELF, near)?))
}

fn init_control(control: Gfn, offset: usize, vcpu: u32) -> Result<u8, Errno> {
    let mut argument =
        InitControl { control, offset: offset as u32, vcpu: VcpuId(vcpu), ..Default::default() };
    operate(Command::InitControl, &mut argument).map(|()| argument.link_bits)
}

impl Queues {
    fn set_up(&self, answers: &mut Answers) {
        let gfn = self.block.gfn();
        answers.equal("queues of no vCPU", init_control(gfn, OFFSET, 99), Err(ENOENT));
        answers.equal("queues at an odd place", init_control(gfn, OFFSET + 4, 0), Err(EINVAL));
        let across = PAGE_SIZE - size_of::<ControlBlock>() + 8;
        answers.equal("queues across pages", init_control(gfn, across, 0), Err(EINVAL));
        answers.equal("queues in no RAM", init_control(Gfn(1 << 20), 0, 0), Err(EINVAL));
        answers.equal("queues", init_control(gfn, OFFSET, 0), Ok(LINK_BITS as u8));
        answers.equal("queues again", init_control(gfn, OFFSET, 0), Err(EINVAL));
        let mut nowhere = ExpandArray { array: Gfn(1 << 20) };
        let expand = operate(Command::ExpandArray, &mut nowhere);
        answers.equal("words in no RAM", expand, Err(EINVAL));
        let mut array = ExpandArray { array: self.words.gfn() };
        let expand = operate(Command::ExpandArray, &mut array);
        answers.equal("words", expand, Ok(()));
    }

    fn word(&self, port: Port) -> u32 {
        self.words.load_u32(place(port), Relaxed)
    }

    /// Changes a word; nobody else does meanwhile, but for hypercalls from here.
    fn change(&self, port: Port, change: impl Fn(u32) -> u32) {
        self.words.store_u32(place(port), change(self.word(port)), Relaxed);
    }

    /// The first port of the queue of that priority, if that has become non-empty.
    fn head(&self, priority: u8) -> Option<Port> {
        let ready = self.block.load_u32(OFFSET + offset_of!(ControlBlock, ready), Relaxed);
        let heads = OFFSET + offset_of!(ControlBlock, head);
        let head = self.block.load_u32(heads + 4 * usize::from(priority), Relaxed);
        (ready & 1 << priority != 0).then_some(Port(head))
    }

    /// Takes all ports from a queue. Returns whether those that are sent to are the ones expected,
    /// in their order, and pending.
    fn take(&self, priority: u8, expected: &[Port]) -> bool {
        let mut taken = Vec::new();
        let ready = OFFSET + offset_of!(ControlBlock, ready);
        let mut next = self.head(priority);
        self.block.store_u32(
            ready,
            self.block.load_u32(ready, Relaxed) & !(1 << priority),
            Relaxed,
        );
        while let Some(port) = next {
            let word = self.word(port);
            if word & (PENDING | LINKED) != PENDING | LINKED {
                return false;
            }
            self.change(port, |word| word & !(PENDING | LINKED | LINK_MASK));
            taken.extend(self.far.contains(&port).then_some(port));
            next = (word & LINK_MASK != 0).then_some(Port(word & LINK_MASK));
        }
        taken == expected
    }

    fn order(&self, answers: &mut Answers, ports: &[Ends; 3]) {
        let far = self.far;
        let kept = self.take(DEFAULT_PRIORITY, &far);
        answers.check("what was pending in the 2-level ABI", kept);
        for index in [2, 0, 2, 1] {
            let _ = event_channel::send(ports[index].0);
        }
        let taken = self.take(DEFAULT_PRIORITY, &[far[2], far[0], far[1]]);
        answers.check("the order in which they were sent", taken);
        let _ = event_channel::send(ports[1].0);
        answers.check("a queue that was emptied", self.take(DEFAULT_PRIORITY, &[far[1]]));
    }

    fn priorities(&self, answers: &mut Answers, ports: &[Ends; 3]) {
        let (near, port) = ports[0];
        let set = |priority| operate(Command::SetPriority, &mut SetPriority { port, priority });
        answers.equal("a priority that does not exist", set(16), Err(EINVAL));
        answers.equal("the first priority", set(0), Ok(()));
        let nobody = &mut SetPriority { port: Port(0x1_FFFF), priority: 0 };
        let set = operate(Command::SetPriority, nobody);
        answers.equal("a priority of no port", set, Err(EINVAL));
        let _ = event_channel::send(near);
        answers.check("the first queue", self.take(0, &[port]));
        answers.check("and no other", self.take(DEFAULT_PRIORITY, &[]));
    }

    fn masks(&self, answers: &mut Answers, ports: &[Ends; 3]) {
        let (near, port) = ports[1];
        self.change(port, |word| word | MASKED);
        let _ = event_channel::send(near);
        answers.equal("a masked port's word", self.word(port), PENDING | MASKED);
        let unmask = operate(Command::Unmask, &mut PortOnly { port });
        answers.equal("unmask", unmask, Ok(()));
        answers.check("an unmasked port's queue", self.take(DEFAULT_PRIORITY, &[port]));
    }

    fn polls(&self, answers: &mut Answers, ports: &[Ends; 3]) {
        let (near, port) = ports[2];
        let soon = || system_time::after(Duration::from_millis(2));
        answers.equal("poll a port that is not pending", sleep::poll(&mut [port], soon()), Ok(0));
        self.change(port, |word| word | MASKED);
        let _ = event_channel::send(near);
        answers.equal("poll a masked one that is", sleep::poll(&mut [port], 0), Ok(0));
    }
}

/// Where the word of a port is, which is one of the first.
fn place(port: Port) -> usize {
    (port.0 % WORDS_PER_PAGE) as usize * size_of::<u32>()
}
