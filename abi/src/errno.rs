//! Error numbers of hypercalls: Linux's numbering, returned negated (public/errno.h).

use core::fmt;

macro_rules! errnos {
    ($($(#[$meta:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// Why a hypercall failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i64)]
        pub enum Errno { $($(#[$meta])* $name = $value),* }

        impl Errno {
            /// The error with this positive number.
            pub const fn from_raw(raw: i64) -> Option<Errno> {
                match raw { $($value => Some(Errno::$name),)* _ => None }
            }
            /// The symbolic name, as the store's protocol transmits it ("ENOENT").
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name)),* }
            }
            /// The error with this symbolic name.
            pub fn from_name(name: &str) -> Option<Errno> {
                $(if name == stringify!($name) { return Some(Errno::$name); })*
                None
            }
            /// A short explanation for people.
            pub const fn text(self) -> &'static str {
                match self { $(Errno::$name => $text),* }
            }
        }
    };
}

errnos! {
    /// The caller may not do this.
    EPERM = 1, "operation not permitted";
    /// No such object.
    ENOENT = 2, "no such entry";
    /// No such domain.
    ESRCH = 3, "no such domain";
    /// Input or output failed.
    EIO = 5, "input/output error";
    /// No such device or address.
    ENXIO = 6, "no such device or address";
    /// Too much at once.
    E2BIG = 7, "argument list too long";
    /// Nothing now: try again.
    EAGAIN = 11, "try again";
    /// Out of frames.
    ENOMEM = 12, "out of memory";
    /// Permission denied.
    EACCES = 13, "permission denied";
    /// A pointer that the caller may not use.
    EFAULT = 14, "bad address";
    /// In use.
    EBUSY = 16, "in use";
    /// Already there.
    EEXIST = 17, "already exists";
    /// No such device.
    ENODEV = 19, "no such device";
    /// Is a directory.
    EISDIR = 21, "is a directory";
    /// An argument that makes no sense.
    EINVAL = 22, "invalid argument";
    /// No room left.
    ENOSPC = 28, "no space left";
    /// May be read only.
    EROFS = 30, "read-only";
    /// A result out of range.
    ERANGE = 34, "result out of range";
    /// No such hypercall.
    ENOSYS = 38, "function not implemented";
    /// Not empty.
    ENOTEMPTY = 39, "not empty";
    /// There is none.
    ENODATA = 61, "no data available";
    /// A value too large for its field.
    EOVERFLOW = 75, "value too large";
    /// Known, but not supported here.
    EOPNOTSUPP = 95, "operation not supported";
    /// No buffer space.
    ENOBUFS = 105, "no buffer space";
    /// Already connected.
    EISCONN = 106, "already connected";
    /// Not connected.
    ENOTCONN = 107, "not connected";
    /// Too slow.
    ETIMEDOUT = 110, "timed out";
}

impl Errno {
    /// The value that the hypercall returns in x0.
    pub const fn to_return(self) -> i64 {
        -(self as i64)
    }

    /// Splits a hypercall's return value into its result or its error. A number that is not in
    /// the table reads as `EINVAL`: the caller learns that it failed, if not why.
    #[inline]
    pub const fn check(value: i64) -> Result<u64, Errno> {
        if value >= 0 { Ok(value.unsigned_abs()) } else { Errno::refused(value) }
    }

    #[cold]
    const fn refused(value: i64) -> Result<u64, Errno> {
        match Errno::from_raw(value.wrapping_neg()) {
            Some(errno) => Err(errno),
            None => Err(Errno::EINVAL),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.name())
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_values_round_trip() {
        assert_eq!(Errno::ENOSYS.to_return(), -38);
        assert_eq!(Errno::check(-14), Err(Errno::EFAULT));
        assert_eq!(Errno::check(7), Ok(7));
        assert_eq!(Errno::check(-4000), Err(Errno::EINVAL));
        assert_eq!(Errno::check(i64::MIN), Err(Errno::EINVAL));
    }

    #[test]
    fn names_round_trip() {
        for raw in 0..200 {
            if let Some(errno) = Errno::from_raw(raw) {
                assert_eq!(Errno::from_name(errno.name()), Some(errno));
            }
        }
    }
}
