//! "Did you mean": the known word that is nearest to what was typed.
//!
//! Own code: the crates for edit distance need the standard library.

use alloc::vec::Vec;

/// The nearest of `known`, if it is near enough to be meant: at most a third of its characters
/// (but at least one) would have to change.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |word: &&str| distance(typed, word) <= (word.chars().count() / 3).max(1);
    known.into_iter().filter(near).min_by_key(|word| distance(typed, word))
}

/// Levenshtein's distance: how many characters to insert, delete or replace.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for (row, from_char) in from.chars().enumerate() {
        let mut current = row.saturating_add(1);
        let mut line = Vec::with_capacity(previous.len());
        line.push(current);
        for (&to_char, pair) in to.iter().zip(previous.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let replaced = diagonal.saturating_add(usize::from(from_char != to_char));
            current = replaced.min(above.saturating_add(1)).min(current.saturating_add(1));
            line.push(current);
        }
        previous = line;
    }
    previous.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["create", "destroy", "list"];
        assert_eq!(nearest("craete", known), Some("create"));
        assert_eq!(nearest("lst", known), Some("list"));
        assert_eq!(nearest("migrate", known), None);
    }

    proptest! {
        #[test]
        fn it_is_a_metric(a in "[ab]{0,6}", b in "[ab]{0,6}", c in "[ab]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
