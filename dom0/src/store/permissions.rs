//! Who may do what with a node.

use alloc::vec::Vec;

use abi::{
    DomId, Errno,
    xenstore::{Access, Permission},
};

/// The permissions of a node. On the wire the first entry names the owner together with the
/// access of everybody who is not listed; further entries are exceptions for single domains.
/// The owner and dom0 may always do everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    owner: DomId,
    others: Access,
    exceptions: Vec<Permission>,
}

impl Permissions {
    /// Owned by `owner`, and `others` for everybody else.
    pub const fn new(owner: DomId, others: Access) -> Permissions {
        Permissions { owner, others, exceptions: Vec::new() }
    }

    /// The same without any exception for `domid`.
    #[must_use]
    pub fn without(mut self, domid: DomId) -> Permissions {
        self.exceptions.retain(|exception| exception.domain != domid);
        self
    }

    /// Reads the wire's entries, such as `n0`, `r5`. `EINVAL` if there is none or one is wrong.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Permissions, Errno> {
        let mut entries = entries.into_iter().map(parse_entry);
        let Permission { domain: owner, access: others } =
            entries.next().ok_or(Errno::EINVAL)??;
        Ok(Permissions { owner, others, exceptions: entries.collect::<Result<_, _>>()? })
    }

    /// The wire's entries.
    pub fn entries(&self) -> impl Iterator<Item = Permission> {
        let first = Permission { domain: self.owner, access: self.others };
        core::iter::once(first).chain(self.exceptions.iter().copied())
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.exceptions.len().saturating_add(1)
    }

    /// Whose node this is: its quota pays for it.
    pub const fn owner(&self) -> DomId {
        self.owner
    }

    /// Whether an exception names this domain.
    pub fn mentions(&self, domid: DomId) -> bool {
        self.exceptions.iter().any(|exception| exception.domain == domid)
    }

    /// Whether `domid` has the access that it needs.
    pub fn allow(&self, domid: DomId, needed: Access) -> bool {
        let granted = self.granted(domid);
        granted == Access::Both || granted == needed
    }

    fn granted(&self, domid: DomId) -> Access {
        if domid == DomId::DOM0 || domid == self.owner {
            return Access::Both;
        }
        let exception = self.exceptions.iter().find(|exception| exception.domain == domid);
        exception.map_or(self.others, |exception| exception.access)
    }

    /// What a node that `creator` makes below this one starts with: the same, except that an
    /// ordinary domain owns what it makes.
    pub fn inherited_by(&self, creator: DomId) -> Permissions {
        let owner = if creator == DomId::DOM0 { self.owner } else { creator };
        Permissions { owner, ..self.clone() }
    }
}

fn parse_entry(entry: &[u8]) -> Result<Permission, Errno> {
    let (&letter, number) = entry.split_first().ok_or(Errno::EINVAL)?;
    let access = Access::from_letter(letter.into()).ok_or(Errno::EINVAL)?;
    Ok(Permission { access, domain: parse_domain(number)? })
}

/// Reads a domain's number: an ordinary one, in decimal.
pub(super) fn parse_domain(text: &[u8]) -> Result<DomId, Errno> {
    let digits = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Errno::EINVAL);
    }
    let domid = DomId(digits.parse().map_err(|_| Errno::EINVAL)?);
    if domid.0 < DomId::FIRST_RESERVED { Ok(domid) } else { Err(Errno::EINVAL) }
}

#[cfg(test)]
mod tests {
    use std::{
        string::{String, ToString},
        vec::Vec,
    };

    use super::*;

    fn parse(text: &str) -> Result<Permissions, Errno> {
        Permissions::parse(text.split(' ').map(str::as_bytes))
    }

    #[test]
    fn wire_form_round_trips() {
        for text in ["n0", "b7 r3", "r0 n1 w2 b3"] {
            let entries: Vec<String> =
                parse(text).unwrap().entries().map(|entry| entry.to_string()).collect();
            assert_eq!(entries.join(" "), text);
        }
        for bad in ["", "x0", "r", "r-1", "r+1", "r99999", "n0 ", "r32752", "r0x1"] {
            assert_eq!(parse(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(Permissions::parse([]), Err(Errno::EINVAL));
    }

    #[test]
    fn owner_and_dom0_may_everything_and_others_what_is_listed() {
        let permissions = parse("n4 r5 b6").unwrap();
        let allowed = |domid| {
            [Access::Read, Access::Write].map(|needed| permissions.allow(DomId(domid), needed))
        };
        for all in [0, 4, 6] {
            assert_eq!(allowed(all), [true, true]);
        }
        assert_eq!(allowed(5), [true, false]);
        assert_eq!(allowed(9), [false, false]);
    }

    #[test]
    fn an_ordinary_domain_owns_what_it_makes() {
        let parent = parse("n0 b5").unwrap();
        assert_eq!(parent.inherited_by(DomId(5)).owner(), DomId(5));
        assert_eq!(parent.inherited_by(DomId::DOM0), parent);
    }
}
