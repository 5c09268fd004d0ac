//! Notices when the monitor or dom0 panics. A guest's panic is the guest's affair.

/// How the line begins with which each of them says so.
const SIGNS: [&str; 2] = ["PANIC: monitor:", "PANIC: dom0:"];
/// Longer lines are not looked at to their end.
const LINE_LIMIT: usize = 1024;

/// Reads the console along.
#[derive(Debug, Default)]
pub(super) struct PanicWatch {
    line: Vec<u8>,
    found: Option<String>,
}

impl PanicWatch {
    /// Looks at what the console shows next.
    pub(super) fn feed(&mut self, text: &[u8]) {
        for &byte in text {
            if byte == b'\n' {
                self.look();
                self.line.clear();
            } else if self.line.len() < LINE_LIMIT {
                self.line.push(byte);
            }
        }
    }

    /// The line that tells of a panic.
    pub(super) fn found(&self) -> Option<String> {
        self.found.clone()
    }

    fn look(&mut self) {
        let line = super::plain(&self.line);
        if let Some(start) = SIGNS.iter().find_map(|sign| line.find(sign)) {
            self.found.get_or_insert_with(|| line.get(start..).unwrap_or_default().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_of_the_system_are_noticed() {
        let mut watch = PanicWatch::default();
        watch.feed(b"[ 0.1] INFO  hv: up\r\n\x1b[31mPANIC: mon");
        assert_eq!(watch.found(), None);
        watch.feed(b"itor: out of cheese at x.rs:1\x1b[0m\r\nx0 = 1\r\nPANIC: dom0: second\r\n");
        assert_eq!(watch.found().as_deref(), Some("PANIC: monitor: out of cheese at x.rs:1"));
    }

    #[test]
    fn panics_of_guests_are_not() {
        let mut watch = PanicWatch::default();
        watch.feed(b"PANIC: hello: oops\nno PANIC: here\n");
        assert_eq!(watch.found(), None);
    }
}
