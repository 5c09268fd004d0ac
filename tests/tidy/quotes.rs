//! Code in docs/ that says which file it is from.

use std::fs;

use xtask::paths;

/// Lines of code in a text, and the file that they are said to be from.
#[derive(Debug, PartialEq, Eq)]
pub struct Quote {
    /// The file's path from the repository's root.
    pub path: String,
    /// The code.
    pub code: String,
}

/// The blocks in a text whose first line names a file: "```rust abi/src/lib.rs".
pub fn quotes(text: &str) -> Vec<Quote> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(opening) = line.strip_prefix("```") else { continue };
        let code = lines.by_ref().take_while(|line| *line != "```");
        let code: String = code.map(|line| format!("{line}\n")).collect();
        if let Some((_, path)) = opening.split_once(' ') {
            found.push(Quote { path: path.to_string(), code });
        }
    }
    found
}

/// What is wrong with the quotes in docs/, and how many there are.
pub fn differences() -> (usize, Vec<String>) {
    let folder = paths::root().join("docs");
    let pages = folder.read_dir().expect("docs/ is there").map(|entry| entry.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let quotes: Vec<Quote> =
        pages.flat_map(|page| quotes(&fs::read_to_string(page).unwrap())).collect();
    let differs = |quote: &&Quote| {
        let source = fs::read_to_string(paths::root().join(&quote.path)).unwrap_or_default();
        // Whole lines: a quote does not begin in the middle of one.
        !format!("\n{source}").contains(&format!("\n{}", quote.code))
    };
    let different = quotes.iter().filter(differs);
    let messages = different.map(|quote| format!("{} does not have\n{}", quote.path, quote.code));
    (quotes.len(), messages.collect())
}

#[test]
fn blocks_are_found_with_their_files() {
    let text = "a\n```rust x/y.rs\nfn f() {}\n\n```\nb\n```\nnot from a file\n```\n```toml z\nk = 1\n```\n";
    let quote = |path: &str, code: &str| Quote { path: path.into(), code: code.into() };
    assert_eq!(quotes(text), [quote("x/y.rs", "fn f() {}\n\n"), quote("z", "k = 1\n")]);
}
