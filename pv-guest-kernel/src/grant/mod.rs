//! Grants: which of our pages other domains may use, and theirs that we use.

#[expect(unsafe_code, reason = "lets the monitor write pages")]
mod copy;
#[expect(unsafe_code, reason = "refers to pages that were granted and are not any more")]
mod lent;
#[expect(unsafe_code, reason = "maps and unmaps memory")]
mod mapping;
mod table;

pub use copy::{CopyBatch, End};
pub use lent::{Inbox, Outbox};
pub use mapping::{GrantError, Mapping};
pub use table::{Access, Grant};
