//! Grants: which of our pages other domains may use, and theirs that we use.

#[expect(unsafe_code, reason = "maps and unmaps memory")]
mod mapping;
mod table;

pub use mapping::{GrantError, Mapping};
pub use table::{Access, Grant};
