//! A domain's record, and the table of all domains.

use abi::hvm::{self, CALLBACK_PPI_31};
use abi::sched::ShutdownReason;
use abi::{DomId, VcpuId};

use super::MAX_DOMAINS;
use super::event::EventTable;
use super::frame::{FramePool, Kind, OutOfFrames};
use super::frame_box::FrameBox;
use super::grant::GrantTable;
use super::interrupt::DomainInterrupts;
use super::log_budget::LogBudget;
use super::quota::NamedQuotas;
use super::stage2::Stage2;
use super::uart::Uart;
use super::vcpu::{InfoPlace, Vcpu};
use crate::machine::memory::RamFrame;
use crate::types::{Ipa, MAX_VCPUS};

/// What a new domain shall be.
#[derive(Debug, Clone, Copy)]
pub struct DomainConfig {
    /// Whether it may do what only dom0 does.
    pub privileged: bool,
    /// Whether its guest-physical RAM addresses are machine addresses.
    pub direct_mapped: bool,
    /// Frames of RAM that it may have.
    pub max_frames: u64,
    /// vCPUs, 1 to [`MAX_VCPUS`].
    pub max_vcpus: u32,
    /// Frames to which its grant table may grow.
    pub max_grant_frames: u32,
    /// The highest port that it may have.
    pub max_event_port: u32,
    /// Its interrupt distributor's guest-physical address.
    pub gicd_base: Ipa,
    /// Its redistributors'.
    pub gicr_base: Ipa,
}

/// How far the destruction of a domain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teardown {
    /// Its vCPUs leave the CPUs.
    Vcpus,
    /// Its event channels are closed.
    Events,
    /// Grants that it has mapped are released, its own are withdrawn.
    Grants,
    /// Its guest-physical space is taken apart.
    Space,
    /// Its RAM is given back.
    Ram,
}

/// `hvm_op`'s parameters (public/hvm/params.h).
#[derive(Debug, Clone, Copy, Default)]
pub struct Parameters {
    store_pfn: u64,
    store_evtchn: u64,
    console_pfn: u64,
    console_evtchn: u64,
    monitor_ring_pfn: u64,
}

impl Parameters {
    /// The value of a parameter; zero if it was never set.
    pub fn get(&self, index: hvm::Index) -> u64 {
        match index {
            hvm::Index::CallbackIrq => CALLBACK_PPI_31,
            hvm::Index::StorePfn => self.store_pfn,
            hvm::Index::StoreEvtchn => self.store_evtchn,
            hvm::Index::ConsolePfn => self.console_pfn,
            hvm::Index::ConsoleEvtchn => self.console_evtchn,
            hvm::Index::MonitorRingPfn => self.monitor_ring_pfn,
        }
    }

    /// Sets a parameter. False if it is fixed.
    #[must_use]
    pub fn set(&mut self, index: hvm::Index, value: u64) -> bool {
        let parameter = match index {
            hvm::Index::CallbackIrq => return false,
            hvm::Index::StorePfn => &mut self.store_pfn,
            hvm::Index::StoreEvtchn => &mut self.store_evtchn,
            hvm::Index::ConsolePfn => &mut self.console_pfn,
            hvm::Index::ConsoleEvtchn => &mut self.console_evtchn,
            hvm::Index::MonitorRingPfn => &mut self.monitor_ring_pfn,
        };
        *parameter = value;
        true
    }
}

/// A domain.
#[derive(Debug)]
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// Whether it may do what only dom0 does.
    pub privileged: bool,
    /// Whether its guest-physical RAM addresses are machine addresses.
    pub direct_mapped: bool,
    /// Its guest-physical space.
    pub stage2: Stage2,
    /// Whether device registers are mapped there, and not RAM alone.
    pub maps_devices: bool,
    /// Its vCPUs: the first [`Domain::max_vcpus`] exist.
    pub vcpus: [Option<FrameBox<Vcpu>>; MAX_VCPUS],
    /// Its event channels.
    pub events: EventTable,
    /// Its grants, and those of others that it has mapped.
    pub grants: GrantTable,
    /// The page that it shares with the monitor.
    pub shared_info: RamFrame,
    /// `hvm_op`'s parameters.
    pub parameters: Parameters,
    /// Whether the toolstack keeps it from running.
    pub paused: bool,
    /// Why it stopped, if it did.
    pub shutdown: Option<ShutdownReason>,
    /// Why it will have stopped once it does, if it has said so before (`SCHEDOP_shutdown_code`).
    pub shutdown_code: Option<ShutdownReason>,
    /// Whether it wants to see when a run-state record is being written.
    pub runstate_update_flag: bool,
    /// How far its destruction has come, if it has begun.
    pub(super) teardown: Option<Teardown>,
    /// What it may still write to the log.
    pub log_budget: LogBudget,
    /// Which of its quotas it has been said to have used up.
    pub named_quotas: NamedQuotas,
    /// Its SPIs.
    pub interrupts: DomainInterrupts,
    /// Its UART.
    pub uart: Uart,
    /// Where it sees its distributor.
    pub gicd_base: Ipa,
    /// Where it sees its redistributors.
    pub gicr_base: Ipa,
}

impl Domain {
    /// A paused domain with offline vCPUs and no RAM, in frames of its own account. On failure
    /// what was allocated is left in the account.
    pub(super) fn build(
        pool: &mut FramePool,
        id: DomId,
        config: &DomainConfig,
    ) -> Result<FrameBox<Domain>, OutOfFrames> {
        let shared_info = pool.allocate(id, Kind::Shared, 0)?;
        let domain = Domain {
            id,
            privileged: config.privileged,
            direct_mapped: config.direct_mapped,
            stage2: Stage2::new(pool, id)?,
            maps_devices: false,
            vcpus: [const { None }; MAX_VCPUS],
            events: EventTable::new(shared_info, config.max_event_port),
            grants: GrantTable::new(config.max_grant_frames),
            shared_info,
            parameters: Parameters::default(),
            paused: true,
            shutdown: None,
            shutdown_code: None,
            runstate_update_flag: false,
            teardown: None,
            log_budget: LogBudget::new(),
            named_quotas: NamedQuotas::default(),
            interrupts: DomainInterrupts::new(),
            uart: Uart::new(),
            gicd_base: config.gicd_base,
            gicr_base: config.gicr_base,
        };
        let mut domain = FrameBox::new(pool, id, domain)?;
        for (number, vcpu) in (0..config.max_vcpus).zip(&mut domain.vcpus) {
            // vCPU 0 starts with the record in the shared page (public/xen.h).
            let info = (number == 0).then_some(InfoPlace {
                frame: shared_info,
                offset: 0,
                registered: false,
            });
            let record = Vcpu::new(pool, id, VcpuId(number), info)?;
            *vcpu = Some(FrameBox::new(pool, id, record)?);
        }
        Ok(domain)
    }

    /// One of its vCPUs.
    #[inline]
    pub fn vcpu(&self, id: VcpuId) -> Option<&Vcpu> {
        self.vcpus.get(id.0 as usize)?.as_deref()
    }

    /// One of its vCPUs.
    #[inline]
    pub fn vcpu_mut(&mut self, id: VcpuId) -> Option<&mut Vcpu> {
        self.vcpus.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Its vCPUs.
    pub fn all_vcpus(&self) -> impl Iterator<Item = &Vcpu> {
        self.vcpus.iter().flatten().map(|vcpu| &**vcpu)
    }

    /// How many vCPUs it has.
    pub fn max_vcpus(&self) -> u32 {
        self.all_vcpus().map(|_| 1).sum()
    }

    /// Whether it is being destroyed. Nobody may get hold of its frames then.
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.teardown.is_some()
    }

    /// Whether its vCPUs may run.
    #[inline]
    pub fn is_runnable(&self) -> bool {
        !self.paused && self.shutdown.is_none() && self.teardown.is_none()
    }
}

/// The domains. An identifier's place is its value modulo [`MAX_DOMAINS`]; identifiers are handed
/// out in rising order, so that one is reused only after all others.
#[derive(Debug)]
pub struct DomainTable {
    slots: [Option<FrameBox<Domain>>; MAX_DOMAINS],
    next: u16,
}

impl DomainTable {
    pub(super) const fn new() -> Self {
        DomainTable { slots: [const { None }; MAX_DOMAINS], next: 0 }
    }

    /// The domain with this identifier.
    #[inline]
    pub fn get(&self, id: DomId) -> Option<&Domain> {
        let domain = self.slots[super::slot(id)].as_deref()?;
        (domain.id == id).then_some(domain)
    }

    /// The domain with this identifier, which is running on a CPU: so it exists, for a domain is not
    /// removed before its vCPUs have left the CPUs.
    #[inline(always)]
    pub fn running(&self, id: DomId) -> Option<&Domain> {
        let domain = self.slots[super::slot(id)].as_deref()?;
        debug_assert_eq!(domain.id, id, "a domain that does not exist is running");
        Some(domain)
    }

    /// The domain with this identifier.
    #[inline]
    pub fn get_mut(&mut self, id: DomId) -> Option<&mut Domain> {
        let domain = self.slots[super::slot(id)].as_deref_mut()?;
        (domain.id == id).then_some(domain)
    }

    /// Two different domains.
    #[inline]
    pub fn pair_mut(&mut self, a: DomId, b: DomId) -> Option<(&mut Domain, &mut Domain)> {
        let pair = self.slots.get_disjoint_mut([super::slot(a), super::slot(b)]).ok()?;
        let [Some(first), Some(second)] = pair else { return None };
        (first.id == a && second.id == b).then_some((&mut **first, &mut **second))
    }

    /// All domains, by slot.
    pub fn iter(&self) -> impl Iterator<Item = &Domain> {
        self.slots.iter().flatten().map(|domain| &**domain)
    }

    /// The next identifier whose slot is free in `pool` too.
    pub(super) fn next_id(&self, pool: &FramePool) -> Option<DomId> {
        // Twice the slots: where the identifiers wrap, some slots are passed over once.
        let candidates = (0..2 * MAX_DOMAINS as u16).map(|offset| {
            let id = self.next.wrapping_add(offset);
            DomId(if id < DomId::FIRST_RESERVED { id } else { id - DomId::FIRST_RESERVED })
        });
        candidates.into_iter().find(|&id| pool.account(id).is_vacant())
    }

    pub(super) fn insert(&mut self, domain: FrameBox<Domain>) {
        let id = domain.id;
        self.next = (id.0 + 1) % DomId::FIRST_RESERVED;
        self.slots[super::slot(id)] = Some(domain);
    }

    pub(super) fn remove(&mut self, id: DomId) -> Option<FrameBox<Domain>> {
        self.get(id)?;
        self.slots[super::slot(id)].take()
    }
}
