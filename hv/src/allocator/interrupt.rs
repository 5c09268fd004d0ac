//! Virtual interrupts: what a GICv3 knows of each interrupt, for the vCPUs and domains that see
//! one, and the choice of what stands in the list registers.
//!
//! A [`Bank`] holds 32 interrupts. Every vCPU has one for its SGIs and PPIs, every domain some for
//! its SPIs. An interrupt that becomes pending is noted in its bank; it moves to a list register
//! at once if its vCPU is in this CPU ([`VcpuInterrupts::present`]), otherwise when it next enters
//! the guest on one ([`fill`]), and from then on the hardware delivers it. `pending` in a bank thus
//! means "pending and not in a list register".

use abi::VcpuId;

use crate::allocator::Monitor;
use crate::machine::gic::Intid;
use crate::machine::list_register::{self, ListRegister, MAX_LIST_REGISTERS, Request, State};
use crate::machine::{percpu, timer};
use crate::types::{MAX_VCPUS, VcpuKey};

/// Interrupts in a bank.
pub const BANK: u32 = 32;
/// Banks of SPIs that a domain has: INTIDs 32 to 159, among which are those of all devices that
/// dom0 drives on QEMU's virt machine. A kernel sets each one up when it boots, trap by trap.
pub const SPI_BANKS: usize = 4;
/// The registers of 32 interrupts.
#[derive(Debug, Clone)]
pub struct Bank {
    /// GICx_IGROUPRn. Only group 1 interrupts are delivered.
    pub group1: u32,
    /// GICx_ISENABLERn.
    pub enabled: u32,
    /// Pending and not in a list register.
    pub pending: u32,
    /// Active as far as software set it; the hardware keeps the rest in list registers.
    pub active: u32,
    /// Edge-triggered ones, GICx_ICFGRn.
    pub edge: u32,
    /// GICx_IPRIORITYRn, a byte each.
    pub priority: [u8; BANK as usize],
}

impl Bank {
    /// All interrupts disabled, of group 1, at the highest priority, level-sensitive but for
    /// `edge`.
    pub const fn new(edge: u32) -> Bank {
        Bank {
            group1: u32::MAX,
            enabled: 0,
            pending: 0,
            active: 0,
            edge,
            priority: [0; BANK as usize],
        }
    }

    /// Those that want a list register.
    pub const fn deliverable(&self) -> u32 {
        self.pending & self.enabled & self.group1
    }
}

/// Interrupts of one vCPU.
#[derive(Debug)]
pub struct VcpuInterrupts {
    /// SGIs 0 to 15 and PPIs 16 to 31.
    pub private: Bank,
    /// What its list registers hold.
    pub listed: Listed,
    /// Whether the CPU was asked to tell when list registers become free.
    waits_for_room: bool,
}

/// SGIs are always edge-triggered.
const SGI_BITS: u32 = 0xFFFF;

impl VcpuInterrupts {
    /// The state after reset.
    pub const fn new() -> Self {
        VcpuInterrupts {
            private: Bank::new(SGI_BITS),
            listed: Listed::new(),
            waits_for_room: false,
        }
    }

    /// Makes an SGI or PPI pending for the vCPU whose list registers these are. `enabled` is what
    /// its distributor says.
    #[inline(always)]
    pub fn present<L: ListRegisters>(&mut self, enabled: bool, registers: &mut L, intid: u32) {
        let number = intid % BANK;
        let bit = 1 << number;
        let bank = &mut self.private;
        if !enabled || bank.enabled & bank.group1 & bit == 0 {
            bank.pending |= bit;
            return;
        }
        self.list(registers, number);
    }

    /// Puts a deliverable interrupt into a list register.
    #[inline(always)]
    fn list<L: ListRegisters>(&mut self, registers: &mut L, number: u32) {
        let priority = self.private.priority[(number % BANK) as usize];
        if !self.listed.insert(registers, ListRegister::pending(Intid(number), priority)) {
            self.put_off(registers, 1 << number);
        }
    }

    /// Makes an SGI or PPI pending for a vCPU that is not in this CPU. It is to be woken.
    #[inline(always)]
    pub(super) fn put_by(&mut self, intid: u32) {
        self.private.pending |= 1 << (intid % BANK);
    }

    /// Notes interrupts for which no list register is free.
    #[cold]
    fn put_off<L: ListRegisters>(&mut self, registers: &mut L, bits: u32) {
        self.private.pending |= bits;
        self.waits_for_room = true;
        registers.notify_when_drained(true);
    }

    /// The vCPU starts with empty list registers. What its redistributor knows stays.
    pub fn power_up(&mut self) {
        self.waits_for_room = false;
    }
}

impl Default for VcpuInterrupts {
    fn default() -> Self {
        Self::new()
    }
}

/// Interrupts that all vCPUs of a domain share.
#[derive(Debug)]
pub struct DomainInterrupts {
    /// GICD_CTLR.EnableGrp1.
    pub enabled: bool,
    /// SPIs: bank n holds INTIDs 32 + 32 n and on.
    pub shared: [Bank; SPI_BANKS],
    /// The vCPU that each SPI goes to, GICD_IROUTERn.
    pub route: [u8; SPI_BANKS * BANK as usize],
    /// SPIs, by bank, that are the machine's own interrupts with the same number.
    pub physical: [u32; SPI_BANKS],
    /// Whether an SPI may be pending: what is false need not be searched.
    pub any_shared_pending: bool,
}

impl DomainInterrupts {
    /// The state after reset.
    pub const fn new() -> Self {
        DomainInterrupts {
            enabled: false,
            shared: [const { Bank::new(0) }; SPI_BANKS],
            route: [0; SPI_BANKS * BANK as usize],
            physical: [0; SPI_BANKS],
            any_shared_pending: false,
        }
    }

    /// Makes an SPI the machine's own interrupt of that number. False if there is no such SPI.
    pub fn assign_physical(&mut self, intid: u32) -> bool {
        let Some((bank, bit)) = spi_place(intid) else { return false };
        self.physical[bank] |= bit;
        true
    }

    /// Notes that an SPI is pending; returns the vCPU to which it goes, if it exists.
    pub fn raise_shared(&mut self, intid: u32) -> Option<VcpuId> {
        let (bank, bit) = spi_place(intid)?;
        self.shared[bank].pending |= bit;
        self.any_shared_pending = true;
        let vcpu = *self.route.get((intid - BANK) as usize)?;
        Some(VcpuId(u32::from(vcpu)))
    }
}

impl Default for DomainInterrupts {
    fn default() -> Self {
        Self::new()
    }
}

/// The bank, counted from the first SPI, and the bit of an SPI.
pub fn spi_place(intid: u32) -> Option<(usize, u32)> {
    let index = intid.checked_sub(BANK)?;
    let bank = (index / BANK) as usize;
    (bank < SPI_BANKS).then_some((bank, 1 << (index % BANK)))
}

/// The list registers of a CPU, or a model of them.
pub trait ListRegisters {
    /// Bit n: register n exists and is empty (ICH_ELRSR_EL2).
    fn empty(&self) -> u32;
    /// Reads one.
    fn read(&self, index: usize) -> ListRegister;
    /// Writes one.
    fn write(&mut self, index: usize, register: ListRegister);
    /// Asks for an interrupt when few are left in use, to fill in what did not fit.
    fn notify_when_drained(&mut self, wanted: bool);
}

/// The list registers of this CPU, with the state of the vCPU that is in it.
#[derive(Debug)]
pub struct Loaded;

impl ListRegisters for Loaded {
    #[inline]
    fn empty(&self) -> u32 {
        list_register::empty_mask().into()
    }

    #[inline]
    fn read(&self, index: usize) -> ListRegister {
        list_register::read(index)
    }

    #[inline]
    fn write(&mut self, index: usize, register: ListRegister) {
        list_register::write(index, register);
    }

    #[inline]
    fn notify_when_drained(&mut self, wanted: bool) {
        list_register::request(if wanted { Request::UNDERFLOW } else { Request::empty() });
    }
}

/// Which interrupt stands in each list register of a vCPU. Whether it still does, the register's
/// state tells.
#[derive(Debug)]
pub struct Listed {
    intids: [u16; MAX_LIST_REGISTERS],
    /// Registers that were filled and have not been seen empty since, one bit each.
    filled: u32,
}

impl Listed {
    const fn new() -> Self {
        Listed { intids: [0; MAX_LIST_REGISTERS], filled: 0 }
    }

    /// The list registers that may be in use, one bit each; no others are.
    #[inline(always)]
    pub fn filled(&self) -> u32 {
        self.filled
    }

    /// Whether an interrupt waits in a list register for the guest to acknowledge it.
    #[inline(always)]
    fn any_pending<L: ListRegisters>(&self, registers: &L) -> bool {
        bits(self.filled & !registers.empty())
            .any(|index| registers.read(index as usize).is_pending())
    }

    /// The list register in which an interrupt stands.
    fn find<L: ListRegisters>(&self, registers: &L, intid: u32) -> Option<usize> {
        self.find_among(self.filled & !registers.empty(), intid)
    }

    #[inline]
    fn find_among(&self, filled: u32, intid: u32) -> Option<usize> {
        bits(filled)
            .map(|index| index as usize)
            .find(|&index| self.intids.get(index).is_some_and(|&listed| u32::from(listed) == intid))
    }

    /// Puts one interrupt into a list register: the one in which it already stands, or an empty
    /// one. False if there is none.
    #[inline(always)]
    fn insert<L: ListRegisters>(&mut self, registers: &mut L, new: ListRegister) -> bool {
        let empty = registers.empty();
        let filled = self.filled & !empty;
        if filled != 0 {
            return self.insert_among(registers, filled, empty, new);
        }
        // Mostly there is nothing else.
        self.put(registers, 0, filled, new)
    }

    #[inline(never)]
    fn insert_among<L: ListRegisters>(
        &mut self,
        registers: &mut L,
        filled: u32,
        empty: u32,
        new: ListRegister,
    ) -> bool {
        match self.find_among(filled, new.intid().0) {
            Some(index) => merge(registers, index),
            None => self.put(registers, empty.trailing_zeros() as usize, filled, new),
        }
    }

    #[inline(always)]
    fn put<L: ListRegisters>(
        &mut self,
        registers: &mut L,
        index: usize,
        filled: u32,
        new: ListRegister,
    ) -> bool {
        let Some(listed) = self.intids.get_mut(index) else { return false };
        *listed = new.intid().0 as u16;
        self.filled = filled | 1 << index;
        registers.write(index, new);
        true
    }

    /// Whether an interrupt is (pending, active) in the list registers.
    pub fn state<L: ListRegisters>(&self, registers: &L, intid: u32) -> (bool, bool) {
        match self.find(registers, intid).map(|index| registers.read(index).state()) {
            None | Some(State::Inactive) => (false, false),
            Some(State::Pending) => (true, false),
            Some(State::Active) => (false, true),
            Some(State::PendingAndActive) => (true, true),
        }
    }

    /// Takes the pending state of an interrupt out of the list registers: the guest disabled it
    /// or cleared it. True if it was pending there.
    pub fn withdraw_pending<L: ListRegisters>(&self, registers: &mut L, intid: u32) -> bool {
        let Some(index) = self.find(registers, intid) else { return false };
        let register = registers.read(index);
        let state = match register.state() {
            State::Pending => State::Inactive,
            State::PendingAndActive => State::Active,
            State::Inactive | State::Active => return false,
        };
        registers.write(index, register.with_state(state));
        true
    }

    /// Takes the active state of an interrupt out of the list registers.
    pub fn withdraw_active<L: ListRegisters>(&self, registers: &mut L, intid: u32) {
        let Some(index) = self.find(registers, intid) else { return };
        let register = registers.read(index);
        let state = match register.state() {
            State::Active => State::Inactive,
            State::PendingAndActive => State::Pending,
            State::Inactive | State::Pending => return,
        };
        registers.write(index, register.with_state(state));
    }
}

/// Makes an interrupt that stands in a list register pending once more. One that is linked to a
/// physical interrupt cannot be both active and pending (Arm IHI 0069, ICH_LR.State): it waits.
fn merge<L: ListRegisters>(registers: &mut L, index: usize) -> bool {
    let register = registers.read(index);
    let state = match register.state() {
        State::Pending | State::PendingAndActive => return true,
        State::Active if register.physical().is_some() => return false,
        State::Active => State::PendingAndActive,
        State::Inactive => State::Pending,
    };
    registers.write(index, register.with_state(state));
    true
}

/// Moves what is pending for a vCPU into the list registers of the CPU on which it runs.
#[inline(always)]
pub fn fill<L: ListRegisters>(
    vcpu: &mut VcpuInterrupts,
    id: VcpuId,
    domain: &mut DomainInterrupts,
    registers: &mut L,
) {
    if !domain.enabled {
        return;
    }
    let deliverable = vcpu.private.deliverable();
    if deliverable != 0 {
        vcpu.private.pending &= !deliverable;
        bits(deliverable).for_each(|number| vcpu.list(registers, number));
    }
    if domain.any_shared_pending || vcpu.waits_for_room {
        fill_others(vcpu, id, domain, registers);
    }
}

/// The same for SPIs, and for what did not fit before.
#[inline(never)]
fn fill_others<L: ListRegisters>(
    vcpu: &mut VcpuInterrupts,
    id: VcpuId,
    domain: &mut DomainInterrupts,
    registers: &mut L,
) {
    let mut all_fit = vcpu.private.deliverable() == 0;
    if domain.any_shared_pending {
        for bank in 0..SPI_BANKS {
            all_fit &= fill_shared(&mut vcpu.listed, id, domain, bank, registers);
        }
        domain.any_shared_pending = domain.shared.iter().any(|bank| bank.pending != 0);
    }
    if vcpu.waits_for_room == all_fit {
        vcpu.waits_for_room = !all_fit;
        registers.notify_when_drained(!all_fit);
    }
}

/// The same for one bank of SPIs. False if one did not fit.
fn fill_shared<L: ListRegisters>(
    listed: &mut Listed,
    id: VcpuId,
    domain: &mut DomainInterrupts,
    bank: usize,
    registers: &mut L,
) -> bool {
    let mut all_fit = true;
    for number in bits(domain.shared[bank].deliverable()) {
        let index = bank * BANK as usize + number as usize;
        if u32::from(domain.route[index]) != id.0 {
            continue;
        }
        let intid = Intid(BANK + index as u32);
        let mut new = ListRegister::pending(intid, domain.shared[bank].priority[number as usize]);
        if domain.physical[bank] & (1 << number) != 0 {
            new = new.with_physical(intid);
        }
        if listed.insert(registers, new) {
            domain.shared[bank].pending &= !(1 << number);
        } else {
            all_fit = false;
        }
    }
    all_fit
}

/// The numbers of the bits that are set, lowest first.
pub fn bits(mut word: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let number = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (number < u32::BITS).then_some(number)
    })
}

impl Monitor {
    /// Makes an SGI or PPI of a vCPU pending, and wakes it.
    #[inline(always)]
    pub fn raise_private(&mut self, key: VcpuKey, intid: u32) {
        debug_assert!(intid < BANK);
        if percpu::running() != key {
            return self.raise_elsewhere(key, intid);
        }
        let Some(domain) = self.domains.get_mut(key.domain) else { return };
        let enabled = domain.interrupts.enabled;
        let Some(vcpu) = domain.vcpu_mut(key.vcpu) else { return };
        vcpu.interrupts.present(enabled, &mut Loaded, intid);
    }

    /// The same for a vCPU that is not in this CPU.
    #[inline(never)]
    fn raise_elsewhere(&mut self, key: VcpuKey, intid: u32) {
        let Some(domain) = self.domains.get_mut(key.domain) else { return };
        let Some(vcpu) = domain.vcpu_mut(key.vcpu) else { return };
        vcpu.interrupts.put_by(intid);
        self.wake(key);
    }

    /// Makes an SPI of a domain pending, and wakes the vCPU to which it goes.
    pub fn raise_shared(&mut self, domain: abi::DomId, intid: u32) {
        let Some(target) = self.domains.get_mut(domain) else { return };
        let Some(vcpu) = target.interrupts.raise_shared(intid) else { return };
        self.nudge(VcpuKey { domain, vcpu });
    }

    /// Moves the pending interrupts of the vCPU that is in this CPU to its list registers.
    pub fn fill_list_registers(&mut self, key: VcpuKey) {
        let Some(domain) = self.domains.get_mut(key.domain) else { return };
        let vcpu = domain.vcpus.get_mut(key.vcpu.0 as usize).and_then(Option::as_mut);
        if let Some(vcpu) = vcpu {
            fill(&mut vcpu.interrupts, key.vcpu, &mut domain.interrupts, &mut Loaded);
        }
    }

    /// Whether an interrupt waits for the vCPU that is in this CPU, masked or not.
    #[inline(always)]
    pub fn interrupt_waits(&mut self, key: VcpuKey) -> bool {
        let Some(domain) = self.domains.get_mut(key.domain) else { return false };
        let vcpu = domain.vcpus.get_mut(key.vcpu.0 as usize).and_then(Option::as_deref_mut);
        let Some(vcpu) = vcpu else { return false };
        fill(&mut vcpu.interrupts, key.vcpu, &mut domain.interrupts, &mut Loaded);
        vcpu.interrupts.listed.any_pending(&Loaded)
    }

    /// Has a vCPU deliver what is pending for it: here and now, or on its CPU.
    fn nudge(&mut self, key: VcpuKey) {
        if percpu::running() == key {
            self.fill_list_registers(key);
        } else {
            self.wake(key);
        }
    }

    /// Has a vCPU deliver what has become deliverable because a register of its interrupt
    /// controller changed.
    pub fn look_at_interrupts(&mut self, key: VcpuKey) {
        let Some(domain) = self.domains.get(key.domain) else { return };
        let Some(vcpu) = domain.vcpu(key.vcpu) else { return };
        let waiting =
            vcpu.interrupts.private.deliverable() != 0 || domain.interrupts.any_shared_pending;
        if waiting && vcpu.online {
            self.nudge(key);
        }
    }

    /// Makes a vCPU take note of something: unblocks it, and kicks the CPU on which it runs.
    #[inline(never)]
    pub fn wake(&mut self, key: VcpuKey) {
        let kicks = self.scheduler.wake(key, timer::now());
        self.kicks.extend(kicks);
    }

    /// Sends an SGI from one vCPU to some of its domain's (bit n: vCPU n).
    #[inline]
    pub fn send_sgi(&mut self, domain: abi::DomId, targets: u32, intid: u32) {
        for vcpu in bits(targets & ((1 << MAX_VCPUS) - 1)) {
            self.raise_private(VcpuKey { domain, vcpu: VcpuId(vcpu) }, intid);
        }
    }
}
