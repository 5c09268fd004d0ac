//! Names of nodes: absolute, validated paths, and what a client may write instead of one.

use alloc::{format, rc::Rc};

use abi::{
    DomId, Errno,
    xenstore::{ABSOLUTE_PATH_MAX, RELATIVE_PATH_MAX},
};

/// Levels below the root that a path may have. Xen knows no such limit, but its deepest path has
/// nine; the tree's recursive walks and its destruction need a stack that a guest cannot exhaust.
pub const DEPTH_MAX: usize = 32;

/// An absolute path that obeys the protocol's grammar: `/`-separated non-empty names of ASCII
/// letters, digits and `-_@`, no `/` at the end, at most [`ABSOLUTE_PATH_MAX`] bytes and
/// [`DEPTH_MAX`] names. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Rc<str>);

impl Path {
    /// The root of the tree.
    pub fn root() -> Path {
        Path("/".into())
    }

    /// The directory of everything that belongs to a domain: `/local/domain/N`.
    pub fn of_domain(domid: DomId) -> Path {
        Path(format!("/local/domain/{}", domid.0).into())
    }

    /// Reads what a client sent. A text without leading `/` is relative to the client's own
    /// directory. Errors: `E2BIG` if too long or too deep, `EINVAL` if not a path.
    pub fn parse(text: &[u8], client: DomId) -> Result<Path, Errno> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        if text.starts_with('/') {
            return Path::absolute(text);
        }
        if text.len() > RELATIVE_PATH_MAX {
            return Err(Errno::E2BIG);
        }
        Path::absolute(&format!("{}/{text}", Path::of_domain(client).as_str()))
    }

    fn absolute(text: &str) -> Result<Path, Errno> {
        if text.len() > ABSOLUTE_PATH_MAX {
            return Err(Errno::E2BIG);
        }
        let below_root = text.strip_prefix('/').ok_or(Errno::EINVAL)?;
        if !below_root.is_empty() {
            if !below_root.split('/').all(is_name) {
                return Err(Errno::EINVAL);
            }
            if below_root.split('/').count() > DEPTH_MAX {
                return Err(Errno::E2BIG);
            }
        }
        Ok(Path(text.into()))
    }

    /// The names from the root downwards; none for the root itself.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The path one level up and the last name; `None` for the root.
    pub fn split_last(&self) -> Option<(Path, &str)> {
        let (parent, name) = self.0.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        Some((Path(if parent.is_empty() { "/" } else { parent }.into()), name))
    }

    /// The path of a child. The name must come from an existing path: it is not checked again.
    pub(super) fn child(&self, name: &str) -> Path {
        Path(format!("{}/{name}", self.0.trim_end_matches('/')).into())
    }

    /// What remains of `other` below this path: empty if they are equal, `None` if `other` is
    /// not this path or below it.
    pub fn relative<'a>(&self, other: &'a Path) -> Option<&'a str> {
        let rest = other.0.strip_prefix(self.0.trim_end_matches('/'))?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@'))
}

#[cfg(test)]
mod tests {
    use std::{string::ToString, vec::Vec};

    use super::*;

    fn parse(text: &str) -> Result<Path, Errno> {
        Path::parse(text.as_bytes(), DomId(3))
    }

    #[test]
    fn grammar() {
        assert_eq!(parse("/").unwrap().as_str(), "/");
        assert_eq!(parse("/a/b-c_d@9").unwrap().names().collect::<Vec<_>>(), ["a", "b-c_d@9"]);
        assert_eq!(parse("device/vbd").unwrap().as_str(), "/local/domain/3/device/vbd");
        for bad in ["", "//", "/a/", "/a//b", "a/", "/a b", "/a.b", "/é", "/a\n"] {
            assert_eq!(parse(bad), Err(Errno::EINVAL), "{bad:?}");
        }
    }

    #[test]
    fn limits() {
        assert!(parse(&("/".to_string() + &"a".repeat(ABSOLUTE_PATH_MAX - 1))).is_ok());
        assert_eq!(parse(&("/".to_string() + &"a".repeat(ABSOLUTE_PATH_MAX))), Err(Errno::E2BIG));
        assert_eq!(parse(&"a".repeat(RELATIVE_PATH_MAX + 1)), Err(Errno::E2BIG));
        assert!(parse(&"/a".repeat(DEPTH_MAX)).is_ok());
        assert_eq!(parse(&"/a".repeat(DEPTH_MAX + 1)), Err(Errno::E2BIG));
    }

    #[test]
    fn relations() {
        let (root, a, ab, abc) = ("/", "/a", "/a/b", "/ab/c");
        let relative = |outer: &str, inner: &str| {
            parse(outer).unwrap().relative(&parse(inner).unwrap()).map(ToString::to_string)
        };
        assert_eq!(relative(root, ab).as_deref(), Some("a/b"));
        assert_eq!(relative(root, root).as_deref(), Some(""));
        assert_eq!(relative(a, ab).as_deref(), Some("b"));
        assert_eq!(relative(a, a).as_deref(), Some(""));
        assert_eq!(relative(a, abc), None);
        assert_eq!(relative(ab, a), None);
        let (parent, name) = (parse(ab).unwrap().split_last().unwrap().0, "b");
        assert_eq!(parent.child(name), parse(ab).unwrap());
        assert_eq!(parse(a).unwrap().split_last().unwrap().0, parse(root).unwrap());
        assert_eq!(parse(root).unwrap().child("a"), parse(a).unwrap());
        assert!(parse(root).unwrap().split_last().is_none());
    }
}
