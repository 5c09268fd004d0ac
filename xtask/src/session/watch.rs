//! Notices when the monitor or dom0 panics. A guest's panic is the guest's affair.

/// How a panic is told.
const PANIC: &str = "PANIC: ";
/// How the monitor's is.
const MONITOR: &str = "monitor: ";
/// What the monitor says when dom0 is the one that panicked: dom0's own message came before.
const DOM0: &str = "dom0 crashed";
/// Longer lines are not looked at to their end.
const LINE_LIMIT: usize = 1024;

/// Reads the console along.
#[derive(Debug, Default)]
pub(super) struct PanicWatch {
    line: Vec<u8>,
    /// The last message of anyone but the monitor.
    told: Option<String>,
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

    /// What the monitor or dom0 panicked of.
    pub(super) fn found(&self) -> Option<String> {
        self.found.clone()
    }

    fn look(&mut self) {
        let line = super::plain(&self.line);
        let Some((_, message)) = line.split_once(PANIC) else { return };
        match message.strip_prefix(MONITOR) {
            None => self.told = Some(message.to_string()),
            Some(_) if self.found.is_some() => {}
            Some(reason) if reason.starts_with(DOM0) => {
                let told = self.told.take();
                let told = told.unwrap_or_else(|| "it left no message".to_string());
                self.found = Some(format!("dom0 panicked: {told}"));
            }
            Some(reason) => self.found = Some(format!("the monitor panicked: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitors_panic_is_noticed() {
        let mut watch = PanicWatch::default();
        watch.feed(b"[ 0.1] INFO  hv: up\r\n\x1b[31mPANIC: mon");
        assert_eq!(watch.found(), None);
        watch.feed(b"itor: out of cheese at x.rs:1\x1b[0m\r\nx0 = 1\r\nPANIC: monitor: again\r\n");
        assert_eq!(watch.found().as_deref(), Some("the monitor panicked: out of cheese at x.rs:1"));
    }

    #[test]
    fn dom0s_panic_is_told_in_its_own_words() {
        let mut watch = PanicWatch::default();
        watch.feed(
            b"PANIC: a guest's, shown by xl create -c\nPANIC: no store at y.rs:2\nbacktrace\n",
        );
        assert_eq!(watch.found(), None);
        watch.feed(b"PANIC: monitor: dom0 crashed; its own message stands above\n");
        assert_eq!(watch.found().as_deref(), Some("dom0 panicked: no store at y.rs:2"));
    }

    #[test]
    fn panics_of_guests_are_not() {
        let mut watch = PanicWatch::default();
        watch.feed(b"PANIC: oops\nno PANIC here\n");
        assert_eq!(watch.found(), None);
    }
}
