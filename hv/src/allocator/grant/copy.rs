//! Copying between frames, granted ones or one's own, without mapping them.

use abi::grant::{Copy, CopyEnd, CopyFlags, EntryFlags, Status};
use abi::{DomId, Gfn, GrantRef};

use super::entry::SharedEntry;
use super::{Access, own_ram};
use crate::allocator::Monitor;
use crate::machine::memory::{RamFrame, in_frame};

/// One end of a copy in progress. A granted one is marked in its entry until it is released.
#[must_use = "an entry that is not released stays marked"]
struct End {
    frame: RamFrame,
    marked: Option<(SharedEntry, EntryFlags)>,
}

impl End {
    #[inline(always)]
    fn release(self) {
        if let Some((entry, flags)) = self.marked {
            entry.release(flags);
        }
    }
}

impl Monitor {
    /// Copies for `caller`, within one frame at each end.
    #[inline(always)]
    pub fn grant_copy(&self, caller: DomId, request: &Copy) -> Result<(), Status> {
        let (source, dest) = (&request.source, &request.dest);
        let length = usize::from(request.len);
        let (from, to) = (usize::from(source.offset), usize::from(dest.offset));
        if !in_frame(from, length) || !in_frame(to, length) {
            return Err(Status::BadCopyArg);
        }
        let flags = CopyFlags::from_bits_retain(request.flags);
        let source_is_grant = flags.contains(CopyFlags::SOURCE_GREF);
        let source = self.open_end(caller, source, source_is_grant, Access::Read)?;
        let dest_is_grant = flags.contains(CopyFlags::DEST_GREF);
        let dest = match self.open_end(caller, dest, dest_is_grant, Access::Write) {
            Ok(dest) => dest,
            Err(status) => {
                source.release();
                return Err(status);
            }
        };
        source.frame.copy_to(from, dest.frame, to, length);
        dest.release();
        source.release();
        Ok(())
    }

    #[inline(always)]
    fn open_end(
        &self,
        caller: DomId,
        end: &CopyEnd,
        is_grant: bool,
        access: Access,
    ) -> Result<End, Status> {
        if is_grant {
            // The reference is in the low half of the union (public/grant_table.h).
            return self.open_grant(caller, end.domid, GrantRef(end.frame as u32), access);
        }
        if end.domid != DomId::SELF {
            return Err(Status::PermissionDenied);
        }
        let domain = self.domains.get(caller).ok_or(Status::BadDomain)?;
        let frame = own_ram(&domain.stage2, Gfn(end.frame))?;
        Ok(End { frame, marked: None })
    }

    /// A frame that is mapped already is used as it is; otherwise the entry is asked.
    #[inline(always)]
    fn open_grant(
        &self,
        caller: DomId,
        granter: DomId,
        reference: GrantRef,
        access: Access,
    ) -> Result<End, Status> {
        let granter = if granter == DomId::SELF { caller } else { granter };
        let domain = self.domains.get(granter).ok_or(Status::BadDomain)?;
        if domain.is_dying() {
            return Err(Status::BadDomain);
        }
        let (entry, pins) = domain.grants.entry(reference).ok_or(Status::BadGrantRef)?;
        let pinned = pins.frame_for(caller)?;
        let marks = access.flags().difference(pins.marks());
        if let (Some(mfn), true) = (pinned, marks.is_empty()) {
            let frame = self.frames.ram(mfn).ok_or(Status::BadPage)?;
            return Ok(End { frame, marked: None });
        }
        let gfn = entry.claim(caller, access)?;
        let frame = match pinned {
            Some(mfn) => self.frames.ram(mfn).ok_or(Status::BadPage),
            None => own_ram(&domain.stage2, gfn),
        };
        let frame = frame.inspect_err(|_| entry.release(marks))?;
        Ok(End { frame, marked: Some((entry, marks)) })
    }
}
