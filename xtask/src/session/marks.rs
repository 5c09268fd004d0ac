//! The marks with which the shell delimits prompts and commands: OSC 133, "semantic prompts", which
//! terminals know and do not show.

const PREFIX: &[u8] = b"\x1b]133;";
const BEL: u8 = 0x07;
/// A mark is at most this long; what is longer is no mark.
const LIMIT: usize = 32;

/// A mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The prompt is about to be shown (A).
    Prompt,
    /// The prompt is there: type (B).
    Ready,
    /// A command ended with this status (D).
    Done(u8),
}

/// Takes the marks out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Marks {
    /// The beginning of what may become a mark.
    held: Vec<u8>,
}

impl Marks {
    /// Takes the next bytes; returns what a terminal shows of them and the marks among them.
    pub fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<Mark>) {
        let (mut text, mut marks) = (Vec::new(), Vec::new());
        for &byte in bytes {
            self.held.push(byte);
            if byte == BEL && self.held.starts_with(PREFIX) {
                match parse(&self.held[PREFIX.len()..self.held.len() - 1]) {
                    Some(mark) => marks.push(mark),
                    None => text.extend_from_slice(&self.held),
                }
                self.held.clear();
            } else if !self.may_become_a_mark() {
                // The byte that broke it may begin another.
                let keep = usize::from(byte == PREFIX[0]);
                let shown = self.held.len() - keep;
                text.extend(self.held.drain(..shown));
            }
        }
        (text, marks)
    }

    fn may_become_a_mark(&self) -> bool {
        let common = self.held.len().min(PREFIX.len());
        self.held[..common] == PREFIX[..common]
            && self.held.len() <= LIMIT
            && !self.held[common..].contains(&PREFIX[0])
    }
}

fn parse(content: &[u8]) -> Option<Mark> {
    let content = std::str::from_utf8(content).ok()?;
    let mut fields = content.split(';');
    match (fields.next()?, fields.next()) {
        ("A", _) => Some(Mark::Prompt),
        ("B", _) => Some(Mark::Ready),
        ("D", None) => Some(Mark::Done(0)),
        ("D", Some(status)) => status.parse().ok().map(Mark::Done),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] =
        b"hello\r\n\x1b]133;D;0\x07\x1b]133;A\x07aurochs> \x1b]133;B\x07xl\r\n\x1b[1mno\x1b[0m\x1b]133;D;7\x07";
    const SHOWN: &[u8] = b"hello\r\naurochs> xl\r\n\x1b[1mno\x1b[0m";
    const MARKS: [Mark; 4] = [Mark::Done(0), Mark::Prompt, Mark::Ready, Mark::Done(7)];

    proptest! {
        #[test]
        fn however_the_stream_is_cut(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut parser = Marks::default();
            let (mut text, mut marks) = (Vec::new(), Vec::new());
            for cut in cuts.windows(2) {
                let (more, found) = parser.feed(&STREAM[cut[0]..cut[1]]);
                text.extend(more);
                marks.extend(found);
            }
            prop_assert_eq!(text, SHOWN);
            prop_assert_eq!(marks, MARKS);
        }

        #[test]
        fn nothing_is_lost_or_held_for_long(bytes: Vec<u8>) {
            let mut parser = Marks::default();
            let (mut text, marks) = parser.feed(&bytes);
            prop_assume!(marks.is_empty());
            prop_assert!(bytes.len() - text.len() <= LIMIT);
            text.extend(&parser.held);
            prop_assert_eq!(text, bytes);
        }
    }

    #[test]
    fn other_sequences_are_shown() {
        for other in
            [b"\x1b]0;title\x07".as_slice(), b"\x1b]133;Z\x07", b"\x1b]133;D;x\x07", b"\x07"]
        {
            assert_eq!(Marks::default().feed(other), (other.to_vec(), vec![]));
        }
    }

    #[test]
    fn a_mark_right_after_a_broken_one() {
        let (text, marks) = Marks::default().feed(b"\x1b]13\x1b]133;B\x07");
        assert_eq!((text.as_slice(), marks), (b"\x1b]13".as_slice(), vec![Mark::Ready]));
    }
}
