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

/// A piece of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What a terminal shows.
    Text(Vec<u8>),
    /// What it does not.
    Mark(Mark),
}

/// Takes the marks out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Marks {
    /// The beginning of what may become a mark.
    held: Vec<u8>,
}

impl Marks {
    /// Takes the next bytes; returns what they complete, in order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for &byte in bytes {
            self.held.push(byte);
            if byte == BEL && self.held.starts_with(PREFIX) {
                let held = std::mem::take(&mut self.held);
                match parse(&held[PREFIX.len()..held.len() - 1]) {
                    Some(mark) => pieces.push(Piece::Mark(mark)),
                    None => show(&mut pieces, held),
                }
            } else if !self.may_become_a_mark() {
                // The byte that broke it may begin another.
                let shown = self.held.len() - usize::from(byte == PREFIX[0]);
                show(&mut pieces, self.held.drain(..shown));
            }
        }
        pieces
    }

    fn may_become_a_mark(&self) -> bool {
        let common = self.held.len().min(PREFIX.len());
        self.held[..common] == PREFIX[..common]
            && self.held.len() <= LIMIT
            && !self.held[common..].contains(&PREFIX[0])
    }
}

/// Appends `bytes` to what is shown.
fn show(pieces: &mut Vec<Piece>, bytes: impl IntoIterator<Item = u8>) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.extend(bytes),
        _ => pieces.push(Piece::Text(bytes.into_iter().collect())),
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

    const STREAM: &[u8] = b"hello\r\n\x1b]133;D;0\x07\x1b]133;A\x07aurochs> \x1b]133;B\x07\
        xl\r\n\x1b[1mno\x1b[0m\x1b]133;D;7\x07";

    fn expected() -> Vec<Piece> {
        let text = |text: &str| Piece::Text(text.into());
        vec![
            text("hello\r\n"),
            Piece::Mark(Mark::Done(0)),
            Piece::Mark(Mark::Prompt),
            text("aurochs> "),
            Piece::Mark(Mark::Ready),
            text("xl\r\n\x1b[1mno\x1b[0m"),
            Piece::Mark(Mark::Done(7)),
        ]
    }

    /// All pieces, with texts that were cut joined again.
    fn join(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
        let mut joined = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => show(&mut joined, text),
                mark => joined.push(mark),
            }
        }
        joined
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut marks = Marks::default();
            let pieces = cuts.windows(2).flat_map(|cut| marks.feed(&STREAM[cut[0]..cut[1]]));
            prop_assert_eq!(join(pieces.collect::<Vec<_>>()), expected());
        }

        #[test]
        fn nothing_is_lost_or_held_for_long(bytes: Vec<u8>) {
            let mut marks = Marks::default();
            let pieces = join(marks.feed(&bytes));
            let mut text = match pieces.as_slice() {
                [] => vec![],
                [Piece::Text(text)] => text.clone(),
                _ => return Ok(()),
            };
            prop_assert!(bytes.len() - text.len() <= LIMIT);
            text.extend(&marks.held);
            prop_assert_eq!(text, bytes);
        }
    }

    #[test]
    fn other_sequences_are_shown() {
        for other in ["\x1b]0;title\x07", "\x1b]133;Z\x07", "\x1b]133;D;x\x07", "\x07"] {
            let pieces = join(Marks::default().feed(other.as_bytes()));
            assert_eq!(pieces, [Piece::Text(other.into())]);
        }
    }

    #[test]
    fn a_mark_right_after_a_broken_one() {
        let pieces = Marks::default().feed(b"\x1b]13\x1b]133;B\x07");
        assert_eq!(pieces, [Piece::Text(b"\x1b]13".into()), Piece::Mark(Mark::Ready)]);
    }
}
