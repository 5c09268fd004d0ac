//! What a guest's disk is asked to do once the request has been checked, and how far that has come.

use alloc::rc::Rc;

use futures_util::future::LocalBoxFuture;

use super::disk::IoError;
use super::memory::Memory;
use super::request::Direction;

/// What is to be done; it has been checked.
pub(super) enum Work {
    Transfer { direction: Direction, sector: u64, memory: Rc<Memory> },
    Flush,
    Discard { sector: u64, count: u64 },
}

/// How far that has come.
pub(super) enum Progress {
    Done(Result<(), IoError>),
    /// It goes on when this is polled.
    Pending(LocalBoxFuture<'static, Result<(), IoError>>),
}
