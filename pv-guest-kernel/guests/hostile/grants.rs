//! Grants that nobody gave.

use pv_guest_kernel::abi::grant::{
    Command, Copy, CopyEnd, CopyFlags, MapFlags, MapGrantRef, QuerySize, SetupTable, UnmapGrantRef,
};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::{DomId, GrantRef, PAGE_SIZE};
use pv_guest_kernel::memory::{Page, Window};

use crate::border::{Border, address, hypercall};

/// No domain has this identifier.
const NOBODY: DomId = DomId(4711);
/// References that no guest has use for, or that lie beyond any table.
const REFERENCES: [u32; 5] = [0, 8, 511, 512 * 64, u32::MAX];

/// Tries them.
pub fn attempts(border: &mut Border) {
    map(border);
    unmap(border);
    copy(border);
    tables(border);
}

/// Makes a grant call; returns its own result if that is an error, or else the structure's status.
fn call<T>(command: Command, argument: &mut T, status: fn(&T) -> i16) -> i64 {
    let arguments = [command.raw(), address(argument), 1, 0, 0];
    match hypercall(Number::GrantTableOp.raw(), arguments) {
        0 => i64::from(status(argument)),
        error => error,
    }
}

fn map(border: &mut Border) {
    let Ok(window) = Window::reserve(1) else { return border.note("a window", 0, false) };
    let flags = MapFlags::HOST_MAP;
    for dom in [DomId::DOM0, DomId::SELF, NOBODY, DomId::INVALID] {
        for reference in REFERENCES.map(GrantRef) {
            let host_addr = window.gfn(0).address().unwrap_or_default();
            let mut map = MapGrantRef {
                host_addr,
                flags: flags.bits(),
                reference,
                dom,
                ..Default::default()
            };
            let status = call(Command::MapGrantRef, &mut map, |map| map.status);
            border.note("map what was not granted", status, status < 0);
        }
    }
    let flags = !MapFlags::all().bits();
    let mut map = MapGrantRef {
        host_addr: window.gfn(0).address().unwrap_or_default(),
        flags,
        ..Default::default()
    };
    let status = call(Command::MapGrantRef, &mut map, |map| map.status);
    border.note("map in an unknown way", status, status < 0);
}

fn unmap(border: &mut Border) {
    for handle in [0, 1, 4711, u32::MAX] {
        let mut unmap = UnmapGrantRef { handle, ..Default::default() };
        let status = call(Command::UnmapGrantRef, &mut unmap, |unmap| unmap.status);
        border.note("unmap what is not mapped", status, status < 0);
    }
}

fn copy(border: &mut Border) {
    let Ok(page) = Page::new() else { return border.note("a page", 0, false) };
    let own = CopyEnd { frame: page.gfn().0, domid: DomId::SELF, ..Default::default() };
    let mut attempt = |what, source: CopyEnd, dest: CopyEnd, len: u16, flags: CopyFlags| {
        let mut copy = Copy { source, dest, len, flags: flags.bits(), ..Default::default() };
        let status = call(Command::Copy, &mut copy, |copy| copy.status);
        border.note(what, status, status < 0);
    };
    for reference in REFERENCES {
        let dom0s = CopyEnd { frame: u64::from(reference), domid: DomId::DOM0, ..own };
        attempt("copy from no grant", dom0s, own, 64, CopyFlags::SOURCE_GREF);
        attempt("copy to no grant", own, dom0s, 64, CopyFlags::DEST_GREF);
    }
    let dom0s = CopyEnd { frame: 0x4_8000, domid: DomId::DOM0, ..own };
    attempt("copy from dom0's memory", dom0s, own, 64, CopyFlags::empty());
    attempt("copy to dom0's memory", own, dom0s, 64, CopyFlags::empty());
    let nowhere = CopyEnd { frame: u64::MAX, ..own };
    attempt("copy from no memory", nowhere, own, 64, CopyFlags::empty());
    let late = CopyEnd { offset: PAGE_SIZE as u16 - 8, ..own };
    attempt("copy over the page's end", late, own, 64, CopyFlags::empty());
    attempt("copy more than a page", own, own, u16::MAX, CopyFlags::empty());
}

fn tables(border: &mut Border) {
    let mut list = [0_u64; 2];
    let frame_list = address(&mut list);
    let mut others =
        SetupTable { dom: DomId::DOM0, nr_frames: 1, frame_list, ..Default::default() };
    let status = call(Command::SetupTable, &mut others, |setup| setup.status);
    border.note("dom0's grant table", status, status < 0);
    let mut large =
        SetupTable { dom: DomId::SELF, nr_frames: u32::MAX, frame_list, ..Default::default() };
    let status = call(Command::SetupTable, &mut large, |setup| setup.status);
    border.note("a grant table of 2^32 frames", status, status < 0);
    let mut query = QuerySize { dom: DomId::DOM0, ..Default::default() };
    let status = call(Command::QuerySize, &mut query, |query| query.status);
    border.note("size of dom0's grant table", status, status < 0);
}
