//! How a pair becomes part of what is there: lines that are added to its files.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::name::Name;

/// Adds `pub mod NAME;` where the order of the alphabet puts it.
pub(super) fn public_module(text: &str, name: &Name) -> Result<String> {
    module(text, name, "pub mod")
}

/// Adds a program to the manifest.
pub(super) fn program(text: &str, name: &Name) -> Result<String> {
    let name = name.module();
    let program = format!(
        "[[bin]]\nname = \"{name}\"\npath = \"guests/{name}.rs\"\n\
         required-features = [\"bare-metal\"]\ntest = false\nbench = false\n\n"
    );
    before_line(text, "[dependencies]", "", &program)
}

/// Adds a backend to the list.
pub(super) fn backend(text: &str, name: &Name) -> Result<String> {
    let name = name.module();
    before_line(text, "};", "= backends! {", &format!("    abi::{name}::CLASS => {name};\n"))
}

/// Adds a file of scenarios.
pub(super) fn scenarios(text: &str, name: &Name) -> Result<String> {
    let text = module(text, name, "mod")?;
    before_line(
        &text,
        "    ];",
        "let groups = [",
        &format!("        {}::SCENARIOS,\n", name.module()),
    )
}

/// All names by which a manifest calls other crates.
pub(super) fn dependencies(manifest: &Table) -> impl Iterator<Item = &str> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables = targets.filter_map(|(_, target)| target.as_table()).chain([manifest]);
    let lists = tables.flat_map(|table| {
        ["dependencies", "dev-dependencies"].into_iter().filter_map(|kind| table.get(kind))
    });
    lists.filter_map(Value::as_table).flat_map(|list| list.keys().map(String::as_str))
}

fn module(text: &str, name: &Name, keyword: &str) -> Result<String> {
    let declared = |line: &str| -> Option<String> {
        let line = line.trim_start_matches("pub ").strip_prefix("mod ")?;
        Some(line.strip_suffix(';')?.to_string())
    };
    let lines: Vec<&str> = text.lines().collect();
    let modules = lines.iter().enumerate().filter_map(|(at, line)| Some((at, declared(line)?)));
    let modules: Vec<(usize, String)> = modules.collect();
    let next = modules.iter().find(|(_, other)| other.as_str() > name.module());
    let (last, _) = modules.last().context("it declares no module")?;
    let mut at = next.map_or(last + 1, |(at, _)| *at);
    // Attributes belong to what follows them.
    while at > 0 && next.is_some() && lines[at - 1].starts_with("#[") {
        at -= 1;
    }
    Ok(with_line(&lines, at, &format!("{keyword} {};\n", name.module())))
}

/// Adds text before the first line like `anchor` that comes after one with `after` in it.
fn before_line(text: &str, anchor: &str, after: &str, new: &str) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.iter().position(|line| line.contains(after));
    let start = start.with_context(|| format!("there is no line with `{after}`"))?;
    let found = lines.iter().skip(start).position(|line| *line == anchor);
    let found = found.with_context(|| format!("there is no line `{anchor}` after `{after}`"))?;
    Ok(with_line(&lines, start + found, new))
}

fn with_line(lines: &[&str], at: usize, new: &str) -> String {
    let (before, after) = lines.split_at(at);
    let whole = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    whole(before) + new + &whole(after)
}
