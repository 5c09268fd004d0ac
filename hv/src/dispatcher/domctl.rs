//! `domctl`: the toolstack makes, stops, inspects and destroys domains. For the privileged domain
//! only.

use abi::domctl::{
    Command, CreateDomain, DomainInfo, Domctl, INTERFACE_VERSION, MaxMemory, VcpuContext,
};
use abi::{DomId, Errno};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::call::{Call, Outcome};
use super::{schedule, scheduling, uart};
use crate::allocator::domain::DomainConfig;
use crate::allocator::{Privileged, Progress};
use crate::guest;
use crate::machine::timer;
use crate::types::{GuestVa, Ipa, VcpuKey};

/// Frames of a grant table when the toolstack does not say: as many as Xen gives.
const DEFAULT_GRANT_FRAMES: u32 = 64;

/// `domctl(argument)`
pub fn domctl(call: &mut Call<'_>) -> Outcome {
    perform(call).unwrap_or_else(Outcome::from)
}

fn perform(call: &mut Call<'_>) -> Result<Outcome, Errno> {
    let privileged = call.privileged()?;
    let argument = GuestVa(call.args[0]);
    let mut domctl: Domctl = guest::read(call.monitor, argument)?;
    if domctl.interface_version != INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    let command = Command::from_raw(domctl.command).ok_or(Errno::ENOSYS)?;
    let domain = domctl.domain;
    match command {
        Command::CreateDomain => {
            domctl.domain = create(call, privileged, &payload(&domctl)?)?;
            guest::write(call.monitor, argument, &domctl)?;
        }
        Command::DestroyDomain => return destroy(call, privileged, domain),
        Command::PauseDomain => {
            not_the_caller(call, domain)?;
            call.monitor.pause_domain(privileged, domain)?;
        }
        Command::UnpauseDomain => call.monitor.unpause_domain(privileged, domain)?,
        Command::GetDomainInfo => {
            let info = call.monitor.domain_info(domain, timer::now(), timer::to_nanoseconds);
            set_payload(&mut domctl, &info.ok_or(Errno::ESRCH)?)?;
            guest::write(call.monitor, argument, &domctl)?;
        }
        Command::MaxMemory => {
            call.monitor.domains.get(domain).ok_or(Errno::ESRCH)?;
            let MaxMemory { max_frames } = payload(&domctl)?;
            call.monitor.frames.set_max_frames(domain, max_frames);
        }
        Command::SetVcpuContext => {
            let context: VcpuContext = payload(&domctl)?;
            let key = VcpuKey { domain, vcpu: context.vcpu };
            schedule::start_vcpu(call.monitor, key, context.pc, context.x0)?;
        }
        Command::SetVcpuAffinity => {
            scheduling::set_affinity(call.monitor, domain, &payload(&domctl)?)?
        }
        Command::GetVcpuAffinity => {
            let mut affinity = payload(&domctl)?;
            scheduling::affinity(call.monitor, domain, &mut affinity)?;
            set_payload(&mut domctl, &affinity)?;
            guest::write(call.monitor, argument, &domctl)?;
        }
        Command::GetVcpuInfo => {
            let mut state = payload(&domctl)?;
            scheduling::vcpu_state(call.monitor, domain, &mut state)?;
            set_payload(&mut domctl, &state)?;
            guest::write(call.monitor, argument, &domctl)?;
        }
        Command::UartOp => uart::look_at_interrupt(call.monitor, domain),
        Command::SchedulerOp => {
            let mut operation = payload(&domctl)?;
            scheduling::operate(call.monitor, domain, &mut operation)?;
            set_payload(&mut domctl, &operation)?;
            guest::write(call.monitor, argument, &domctl)?;
        }
    }
    Ok(Outcome::Return(0))
}

fn create(
    call: &mut Call<'_>,
    privileged: Privileged,
    wanted: &CreateDomain,
) -> Result<DomId, Errno> {
    let max_grant_frames = match wanted.max_grant_frames {
        0 => DEFAULT_GRANT_FRAMES,
        frames => frames,
    };
    let config = DomainConfig {
        privileged: false,
        direct_mapped: false,
        max_frames: wanted.max_frames,
        max_vcpus: wanted.max_vcpus,
        max_grant_frames,
        max_event_port: wanted.max_event_port,
        gicd_base: Ipa(wanted.gicd_base),
        gicr_base: Ipa(wanted.gicr_base),
    };
    Ok(call.monitor.create_domain(privileged, &config)?)
}

/// Destroys in steps. The hypercall executes again after each interrupt until all is done.
fn destroy(call: &mut Call<'_>, privileged: Privileged, domain: DomId) -> Result<Outcome, Errno> {
    not_the_caller(call, domain)?;
    loop {
        match call.monitor.destroy_step(privileged, domain)? {
            Progress::Done => return Ok(Outcome::Return(0)),
            // A vCPU of it may be on another CPU, which cannot let it go while the lock is held.
            Progress::More if call.preempt_pending() || !call.monitor.kicks.is_empty() => {
                return Ok(Outcome::Continue);
            }
            Progress::More => {}
        }
    }
}

/// Nobody pauses or destroys the domain that he is.
fn not_the_caller(call: &Call<'_>, domain: DomId) -> Result<(), Errno> {
    if domain == call.caller.domain { Err(Errno::EINVAL) } else { Ok(()) }
}

fn payload<T: FromBytes>(domctl: &Domctl) -> Result<T, Errno> {
    T::read_from_prefix(&domctl.payload).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}

fn set_payload<T: IntoBytes + Immutable>(domctl: &mut Domctl, value: &T) -> Result<(), Errno> {
    value.write_to_prefix(&mut domctl.payload).map_err(|_| Errno::EINVAL)
}

const _: () = assert!(size_of::<DomainInfo>() <= 128, "the information fits the payload");
