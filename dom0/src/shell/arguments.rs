//! What commands have in common in how they read their arguments.

use alloc::{format, string::String, vec::Vec};
use core::{str::FromStr, time::Duration};

use super::{command::Failure, session::Session};
use crate::toolstack::Summary;

/// The one argument of a verb that takes a domain.
///
/// # Errors
/// There is none, or there are more.
pub fn only(arguments: &[String]) -> Result<&str, Failure> {
    match arguments {
        [domain] => Ok(domain),
        _ => Err(Failure::Usage),
    }
}

/// The domains that a verb with an optional domain is about: that one, or all.
///
/// # Errors
/// There is no such domain; the monitor's.
pub fn domains(session: &Session, arguments: &[String]) -> Result<Vec<Summary>, Failure> {
    match arguments {
        [] => Ok(session.toolstack.list()?),
        _ => Ok([session.toolstack.find(only(arguments)?)?].into()),
    }
}

/// Which of `flags` are among the arguments, and the others. They may stand anywhere, as with xl.
///
/// # Errors
/// There are other flags.
pub fn take_flags<const COUNT: usize>(
    arguments: &[String],
    flags: [&str; COUNT],
) -> Result<([bool; COUNT], Vec<String>), Failure> {
    let (given, others): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|argument| argument.starts_with('-'));
    match given.iter().all(|flag| flags.contains(&flag.as_str())) {
        true => Ok((flags.map(|flag| given.iter().any(|other| other == flag)), others)),
        false => Err(Failure::Usage),
    }
}

/// Options with a value each, as `-d DOMAIN -w 512`, by their flags; the last of the same counts.
///
/// # Errors
/// There is something else, or a flag lacks its value.
pub fn options<'a, const COUNT: usize>(
    arguments: &'a [String],
    flags: [&str; COUNT],
) -> Result<[Option<&'a str>; COUNT], Failure> {
    let mut values = [None; COUNT];
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { return Err(Failure::Usage) };
        let place = flags.iter().zip(&mut values).find(|(known, _)| *known == flag);
        *place.ok_or(Failure::Usage)?.1 = Some(value.as_str());
    }
    Ok(values)
}

/// Reads a number.
///
/// # Errors
/// Says what it was to be.
pub fn number<T: FromStr>(text: &str, what: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::BadCall(format!("`{text}` is not {what}")))
}

/// Reads a number of seconds, which may have a fraction.
pub fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_may_stand_anywhere() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        for text in ["-c hello a=b", "hello -c a=b", "hello a=b -c"] {
            let taken = take_flags(&words(text), ["-c", "-p"]).unwrap();
            assert_eq!(taken, ([true, false], words("hello a=b")));
        }
        let taken = take_flags(&words("-p hello -c"), ["-c", "-p"]).unwrap();
        assert_eq!(taken, ([true, true], words("hello")));
        assert_eq!(take_flags(&words("hello -x"), ["-c"]), Err(Failure::Usage));
    }

    #[test]
    fn options_come_in_any_order() {
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        let all = words("-w 5 -d a");
        assert_eq!(options(&all, ["-d", "-w", "-c"]), Ok([Some("a"), Some("5"), None]));
        for wrong in ["-d", "-x 1", "a", "-d a b"] {
            assert_eq!(options(&words(wrong), ["-d"]), Err(Failure::Usage), "{wrong}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(parse_seconds("2"), Some(Duration::from_secs(2)));
        assert_eq!(parse_seconds("0.25"), Some(Duration::from_millis(250)));
        for bad in ["", "-1", "soon", "1e400", "NaN"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }
}
