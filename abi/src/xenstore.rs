//! The store's wire protocol and ring (public/io/xs_wire.h).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, layout, numbers};

numbers! {
    /// Kind of a message.
    pub enum MessageType: u32 {
        /// Toolstack commands to the store itself.
        Control = 0,
        /// Names below a path.
        Directory = 1,
        /// Value of a path.
        Read = 2,
        /// Permissions of a path.
        GetPerms = 3,
        /// Tell me of changes below a path.
        Watch = 4,
        /// No longer.
        Unwatch = 5,
        /// Begins a transaction.
        TransactionStart = 6,
        /// Ends it: "T" commits, "F" does not.
        TransactionEnd = 7,
        /// A new domain's ring (toolstack).
        Introduce = 8,
        /// Its end (toolstack).
        Release = 9,
        /// `/local/domain/N`
        GetDomainPath = 10,
        /// Sets a value.
        Write = 11,
        /// Makes a directory.
        Mkdir = 12,
        /// Removes a path and all below it.
        Rm = 13,
        /// Sets permissions.
        SetPerms = 14,
        /// A watch fired (from the store).
        WatchEvent = 15,
        /// A request failed (from the store): the error's name.
        Error = 16,
        /// Whether a domain was introduced.
        IsDomainIntroduced = 17,
        /// A domain resumed (toolstack).
        Resume = 18,
        /// A domain acts for another (toolstack).
        SetTarget = 19,
        /// Forget all my watches and transactions.
        ResetWatches = 21,
        /// Names below a path, from an offset.
        DirectoryPart = 22,
    }
}

/// What a domain may do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing.
    None,
    /// Read it, list it, see its permissions.
    Read,
    /// Write it, make keys below it, remove it.
    Write,
    /// All of that.
    Both,
}

impl Access {
    /// How a permission begins on the wire.
    pub const fn letter(self) -> char {
        match self {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        }
    }

    /// The reverse of [`Access::letter`].
    pub const fn from_letter(letter: char) -> Option<Access> {
        match letter {
            'n' => Some(Access::None),
            'r' => Some(Access::Read),
            'w' => Some(Access::Write),
            'b' => Some(Access::Both),
            _ => None,
        }
    }
}

/// One entry of a key's permissions; `r5` on the wire. The first entry of a key names its owner,
/// who may do everything, and says what those may do who have no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permission {
    /// What.
    pub access: Access,
    /// Who.
    pub domain: DomId,
}

impl Permission {
    /// Reads the wire's form.
    pub fn parse(text: &str) -> Option<Permission> {
        let mut rest = text.chars();
        let access = Access::from_letter(rest.next()?)?;
        Some(Permission { access, domain: DomId(rest.as_str().parse().ok()?) })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.access.letter(), self.domain.0)
    }
}

/// What stands before each payload.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// [`MessageType`]
    pub kind: u32,
    /// Given back in the answer.
    pub request: u32,
    /// Transaction; zero: none.
    pub transaction: u32,
    /// Bytes of payload.
    pub length: u32,
}
layout!(Header, 16, request @ 4, transaction @ 8, length @ 12);

/// The most bytes in a payload.
pub const PAYLOAD_MAX: usize = 4096;
/// The most bytes in an absolute path.
pub const ABSOLUTE_PATH_MAX: usize = 3072;
/// The most bytes in a relative path.
pub const RELATIVE_PATH_MAX: usize = 2048;
/// Bytes in each direction of the ring.
pub const RING_SIZE: usize = 1024;

/// The ring page: `requests` flow from the guest to the store. Indices run freely and are masked
/// by [`RING_SIZE`]. Both sides access it atomically: the structure gives offsets.
#[derive(Debug)]
#[repr(C)]
pub struct Ring {
    /// To the store.
    pub requests: [u8; RING_SIZE],
    /// To the guest: answers and watch events.
    pub responses: [u8; RING_SIZE],
    /// Consumed by the store.
    pub request_consumer: u32,
    /// Produced by the guest.
    pub request_producer: u32,
    /// Consumed by the guest.
    pub response_consumer: u32,
    /// Produced by the store.
    pub response_producer: u32,
    /// What the store can do.
    pub server_features: u32,
    /// 0: connected.
    pub connection: u32,
    /// Why the store gave up on this ring; zero if it did not.
    pub error: u32,
}
layout!(
    Ring, 2076,
    responses @ 1024, request_consumer @ 2048, request_producer @ 2052, response_consumer @ 2056,
    response_producer @ 2060, server_features @ 2064, connection @ 2068, error @ 2072,
);
