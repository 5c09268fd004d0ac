//! `grant_table_op`: mappings and copies.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use abi::grant::{
    Command, Copy, CopyEnd, CopyFlags, Entry, EntryFlags, MapFlags, MapGrantRef, QuerySize,
    SetupTable, Status, UnmapGrantRef,
};
use abi::{DomId, Errno, Gfn, GrantRef, PAGE_SIZE};

use super::argument;
use super::monitor::{Monitor, State};
use super::table::{Mapped, Table};

/// Frames to which a table may grow.
const FRAMES_MAX: u32 = 4;

impl Monitor {
    /// # Safety
    /// The arguments must be valid for the command, and pages of this program that they name must
    /// exist.
    pub(super) unsafe fn grant_table_op(
        &self,
        caller: DomId,
        command: u64,
        pointer: u64,
        count: u64,
    ) -> Result<(), Errno> {
        match Command::from_raw(command) {
            Some(Command::QuerySize) => {
                // SAFETY: the caller's promise.
                let size = unsafe { argument::<QuerySize>(pointer) };
                size.nr_frames = self.with(|state| state.domain(caller).grants.more + 1);
                size.max_nr_frames = FRAMES_MAX;
            }
            Some(Command::SetupTable) => {
                // SAFETY: the caller's promise.
                let frames = unsafe { argument::<SetupTable>(pointer) }.nr_frames;
                self.with(|state| state.domain(caller).grants.more = frames.saturating_sub(1));
            }
            Some(Command::MapGrantRef) => {
                // SAFETY: the caller's promise.
                let elements = unsafe { elements::<MapGrantRef>(pointer, count) };
                elements.for_each(|element| self.with(|state| state.map(caller, element)));
            }
            Some(Command::UnmapGrantRef) => {
                // SAFETY: the caller's promise.
                let elements = unsafe { elements::<UnmapGrantRef>(pointer, count) };
                elements.for_each(|element| self.with(|state| state.unmap(caller, element)));
            }
            Some(Command::Copy) => {
                // SAFETY: the caller's promise.
                for element in unsafe { elements::<Copy>(pointer, count) } {
                    // SAFETY: the caller's promise.
                    self.with(|state| unsafe { state.copy(caller, element) });
                }
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }
}

/// # Safety
/// So many `T` must be there, which nobody else uses meanwhile.
unsafe fn elements<'a, T: 'a>(pointer: u64, count: u64) -> impl Iterator<Item = &'a mut T> {
    let place = move |index| pointer + index * size_of::<T>() as u64;
    // SAFETY: the caller's promise.
    (0..count).map(move |index| unsafe { argument::<T>(place(index)) })
}

impl State {
    fn map(&mut self, caller: DomId, element: &mut MapGrantRef) {
        let granter = self.named(caller, element.dom);
        let flags = MapFlags::from_bits_retain(element.flags);
        let write = !flags.contains(MapFlags::READONLY);
        let new = Mapped { holder: caller, granter, reference: element.reference, write };
        element.status = match self.pin(new) {
            Ok((handle, gfn)) => {
                element.handle = handle;
                element.dev_bus_addr = gfn.address().unwrap_or_default();
                Status::Okay.raw()
            }
            Err(status) => status.raw(),
        };
    }

    fn pin(&mut self, new: Mapped) -> Result<(u32, Gfn), Status> {
        let gfn = self.granted(new.holder, new.granter, new.reference, new.write)?;
        self.last_handle += 1;
        self.mapped.insert(self.last_handle, new);
        self.mark(new.granter, new.reference).inspect_err(|_| {
            self.mapped.remove(&self.last_handle);
        })?;
        Ok((self.last_handle, gfn))
    }

    fn unmap(&mut self, caller: DomId, element: &mut UnmapGrantRef) {
        let known = self.mapped.get(&element.handle).filter(|mapped| mapped.holder == caller);
        let result = match known.copied() {
            Some(Mapped { granter, reference, .. }) => {
                self.mapped.remove(&element.handle);
                self.mark(granter, reference)
            }
            None => Err(Status::BadHandle),
        };
        element.status = result.map_or_else(Status::raw, |()| Status::Okay.raw());
    }

    /// Says in a grant's entry how it is mapped.
    fn mark(&mut self, granter: DomId, reference: GrantRef) -> Result<(), Status> {
        let of_it = |mapped: &&Mapped| (mapped.granter, mapped.reference) == (granter, reference);
        let reading = self.mapped.values().any(|mapped| of_it(&mapped));
        let writing = self.mapped.values().filter(of_it).any(|mapped| mapped.write);
        self.domain(granter).grants.mark(reference, reading, writing)
    }

    /// # Safety
    /// Pages of this program that it names must exist.
    unsafe fn copy(&mut self, caller: DomId, element: &mut Copy) {
        let flags = CopyFlags::from_bits_retain(element.flags);
        let from_grant = flags.contains(CopyFlags::SOURCE_GREF);
        let to_grant = flags.contains(CopyFlags::DEST_GREF);
        let source = self.place(caller, &element.source, from_grant, false);
        let dest = self.place(caller, &element.dest, to_grant, true);
        let length = usize::from(element.len);
        let within = |end: &CopyEnd| usize::from(end.offset) + length <= PAGE_SIZE;
        let result = match (source, dest) {
            (Ok(source), Ok(dest)) if within(&element.source) && within(&element.dest) => {
                // SAFETY: the caller's promise; both stay within their pages.
                unsafe { std::ptr::copy(source, dest, length) };
                Status::Okay
            }
            (Err(status), _) | (_, Err(status)) => status,
            _ => Status::BadCopyArg,
        };
        element.status = result.raw();
    }

    /// Where an end of a copy is.
    fn place(
        &mut self,
        caller: DomId,
        end: &CopyEnd,
        is_grant: bool,
        write: bool,
    ) -> Result<*mut u8, Status> {
        let owner = self.named(caller, end.domid);
        let gfn = match is_grant {
            true => self.granted(caller, owner, GrantRef(end.frame as u32), write)?,
            false if owner == caller => Gfn(end.frame),
            false => return Err(Status::PermissionDenied),
        };
        let page = gfn.address().ok_or(Status::BadPage)?;
        let address = page as usize + usize::from(end.offset);
        Ok(std::ptr::with_exposed_provenance_mut(address))
    }

    /// The page that `granter` has granted to `user`.
    fn granted(
        &mut self,
        user: DomId,
        granter: DomId,
        reference: GrantRef,
        write: bool,
    ) -> Result<Gfn, Status> {
        let (page, entry) =
            self.domain(granter).grants.entry(reference).ok_or(Status::BadGrantRef)?;
        let flags = Table::flags(page, entry);
        let meant = DomId(page.load_u16(entry + offset_of!(Entry, domid), Ordering::Relaxed));
        let frame = page.load_u32(entry + offset_of!(Entry, frame), Ordering::Relaxed);
        if !flags.contains(EntryFlags::PERMIT_ACCESS) || !self.is_meant(meant, user) {
            return Err(Status::BadGrantRef);
        }
        if write && flags.contains(EntryFlags::READONLY) {
            return Err(Status::PermissionDenied);
        }
        let frames = &self.domain(granter).grants.grantable;
        frames.get(frame as usize).copied().ok_or(Status::BadPage)
    }
}
