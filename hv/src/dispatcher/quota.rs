//! Tells whoever looks after the domains that one of them has used up what it may have. The domain
//! itself gets an error, which cannot say so much.

use abi::DomId;

use crate::allocator::Monitor;
use crate::allocator::quota::Quota;

/// A request of the domain's has failed because of this quota.
#[cold]
pub(super) fn exceeded(monitor: &mut Monitor, id: DomId, quota: Quota) {
    let Some(domain) = monitor.domains.get_mut(id) else { return };
    if !domain.named_quotas.insert(quota) {
        return;
    }
    match quota {
        Quota::EventChannels => log::warn!(
            "{id} wants more than {} event channels, its quota; event_channels in its domain file \
             raises it",
            domain.events.max_port()
        ),
        Quota::GrantFrames => log::warn!(
            "{id} wants more than {} frames of grants, its quota; max_grant_frames in its domain \
             file raises it",
            domain.grants.max_size()
        ),
    }
}
