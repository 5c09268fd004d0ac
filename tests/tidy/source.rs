//! The repository's source files.

use std::fs;
use std::path::Path;

/// A Rust file.
pub struct Source {
    /// Its path from the repository's root.
    pub path: String,
    text: String,
}

impl Source {
    /// A file with this text.
    #[cfg(test)]
    pub fn new(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    /// Its lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// Its lines, numbered from 1, without tests: those are a file of their own, or stand behind
    /// `#[cfg(test)]` at the end of one.
    pub fn code_that_ships(&self) -> impl Iterator<Item = (usize, &str)> {
        let file_name = Path::new(&self.path).file_name().unwrap_or_default();
        const TEST_FILES: [&str; 3] = ["tests.rs", "testing.rs", "fake.rs"];
        let tests =
            TEST_FILES.iter().any(|name| file_name == *name) || self.path.contains("/tests/");
        let lines = self.lines().enumerate().map(|(index, line)| (index + 1, line));
        let ships = lines.take_while(move |(_, line)| !tests && !begins_tests(line));
        let mut module = false;
        ships.filter(move |(_, line)| {
            // `#[cfg(test)]` before a `mod tests;` in the middle of a file hides that line only.
            let hidden = std::mem::replace(&mut module, line.trim() == "#[cfg(test)]");
            !hidden
        })
    }
}

/// Whether `line` begins a module of tests that goes on to the file's end.
fn begins_tests(line: &str) -> bool {
    line.starts_with("mod tests {")
}

/// `line` without its comment and without what stands in its string literals.
pub fn code_of(line: &str) -> String {
    let mut code = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        if c == '"' && !escaped {
            quoted = !quoted;
        } else if !quoted {
            code.push(c);
        }
        escaped = c == '\\' && !escaped;
        if code.ends_with("//") {
            code.truncate(code.len() - 2);
            break;
        }
    }
    code
}

/// All Rust files, sorted by path.
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(xtask::paths::root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = folder.read_dir() else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            let relative = path.strip_prefix(xtask::paths::root()).unwrap_or(&path);
            let text = fs::read_to_string(&path).unwrap_or_default();
            found.push(Source { path: relative.display().to_string(), text });
        }
    }
}

#[test]
fn tests_do_not_ship() {
    let text = "fn a() {}\n#[cfg(test)]\nmod helpers;\nfn b() {}\n#[cfg(test)]\nmod tests {\n    c();\n}\n";
    let source = Source::new("hv/src/x.rs", text);
    let shipped: Vec<usize> = source.code_that_ships().map(|(number, _)| number).collect();
    assert_eq!(shipped, [1, 2, 4, 5]);
    assert_eq!(Source::new("hv/src/x/tests.rs", text).code_that_ships().count(), 0);
}

#[test]
fn comments_are_no_code() {
    assert_eq!(code_of("call(); // panic!()"), "call(); ");
    assert_eq!(code_of(r#"print("// \" panic!()"); exit()"#), "print(); exit()");
}
