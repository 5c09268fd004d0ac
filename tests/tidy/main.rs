//! Rules for the repository's own text, which no compiler checks.

mod assembly;
mod quotes;
mod source;

use source::{Source, sources};

/// Applies `rule` to every source file and fails with all that it finds.
fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let sources = sources();
    assert!(sources.len() > 50, "only {} source files found", sources.len());
    let found: Vec<String> = sources
        .iter()
        .flat_map(|source| rule(source).into_iter().map(|what| format!("{}:{what}", source.path)))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn files_are_short() {
    const LIMIT: usize = 700;
    check(|source| {
        let lines = source.lines().count();
        if lines > LIMIT { vec![format!(" {lines} lines, {LIMIT} are the limit")] } else { vec![] }
    });
}

#[test]
fn files_say_what_they_own() {
    check(|source| {
        // A module's tests need no more than their name; an attribute may stand first.
        let text = source.lines().find(|line| !line.starts_with("#!") && !line.trim().is_empty());
        let documented = text.is_some_and(|line| line.starts_with("//!"));
        let exempt = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
        if documented || exempt { vec![] } else { vec![" no module documentation (//!)".into()] }
    });
}

#[test]
fn unsafe_blocks_say_why() {
    /// How far above an unsafe block its reason may begin.
    const REACH: usize = 8;
    check(|source| {
        let lines: Vec<&str> = source.lines().collect();
        let code = |number: usize| source::code_of(lines[number]);
        let bare = (0..lines.len()).filter(|&number| {
            let opens = code(number).contains("unsafe {") || code(number).contains("unsafe impl");
            let above = &lines[number.saturating_sub(REACH)..=number];
            opens && !above.iter().any(|line| line.contains("SAFETY:"))
        });
        bare.map(|number| format!("{} unsafe without a SAFETY comment", number + 1)).collect()
    });
}

#[test]
fn nothing_that_a_guest_reaches_can_panic() {
    const ROOMS: [&str; 4] = ["hv/", "dom0/", "pv-guest-kernel/src/", "abi/"];
    const LOUD: [&str; 4] = [".unwrap()", ".expect(", "panic!(", "unreachable!("];
    /// Code that no guest can reach: what boots, what builds, what stands in for the machine on
    /// the host, and what is left when dom0 is gone. `None`: the whole file.
    const EXEMPT: &[(&str, Option<&str>)] = &[
        ("build.rs", None),
        ("hv/src/main.rs", None),
        ("hv/src/machine/power.rs", Some("the machine was")),
        ("hv/src/dispatcher/sched.rs", Some("dom0 crashed")),
        ("pv-guest-kernel/src/start.rs", None),
        ("pv-guest-kernel/src/machine/host/monitor.rs", None),
    ];
    check(|source| {
        if !ROOMS.iter().any(|room| source.path.starts_with(room)) {
            return vec![];
        }
        let exempt = |line: &str| {
            let here = EXEMPT.iter().filter(|(path, _)| source.path.ends_with(path));
            here.into_iter().any(|(_, text)| text.is_none_or(|text| line.contains(text)))
        };
        let loud = |line: &str| LOUD.into_iter().find(|word| source::code_of(line).contains(word));
        let found = source.code_that_ships().filter(|(_, line)| !exempt(line));
        found
            .filter_map(|(number, line)| Some(format!("{number} {} may panic", loud(line)?)))
            .collect()
    });
}

#[test]
fn lints_are_not_silenced() {
    check(|source| {
        let silenced = |line: &str| line.contains("#[allow(") || line.contains("#![allow(");
        let code = source.lines().map(source::code_of).enumerate();
        let lines = code.filter(|(_, line)| silenced(line));
        lines.map(|(number, _)| format!("{} use #[expect(.., reason = ..)]", number + 1)).collect()
    });
}

#[test]
fn nothing_is_left_for_later() {
    // Written apart, or this file would not pass.
    let words = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("]];
    let words = words.map(|word| word.concat());
    check(|source| {
        let open = |line: &str| words.iter().any(|word| line.contains(word.as_str()));
        let lines = source.lines().enumerate().filter(|(_, line)| open(line));
        lines.map(|(number, _)| format!("{} unfinished", number + 1)).collect()
    });
}

#[test]
fn docs_quote_the_code_as_it_is() {
    let (count, different) = quotes::differences();
    assert!(count > 10, "only {count} quotes found");
    assert!(different.is_empty(), "\n{}", different.join("\n"));
}

#[test]
fn assembly_is_short() {
    const LIMIT: usize = 400;
    // The rules themselves have some to try them on.
    let sources = sources().into_iter().filter(|source| !source.path.starts_with("tests/"));
    let total: usize = sources.map(|source| assembly::lines(&source)).sum();
    assert!(total > 0, "no assembly found: this test does not see it");
    assert!(total < LIMIT, "{total} lines of assembly, {LIMIT} are the limit");
}
