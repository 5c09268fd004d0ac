//! `cargo xtask new-driver`: writes a pair of drivers that moves data, to be edited.

mod name;
mod wiring;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::options;
use crate::paths;

use name::Name;

/// Files that are written: where (`NAME` is the pair's), what is in them, what they are for.
const FILES: [(&str, &str, &str); 6] = [
    (
        "abi/src/NAME.rs",
        include_str!("template/messages.rs"),
        "the messages: what a request and its answer hold",
    ),
    (
        "pv-guest-kernel/src/NAME.rs",
        include_str!("template/frontend.rs"),
        "the frontend: what a guest calls",
    ),
    (
        "dom0/src/NAME.rs",
        include_str!("template/backend.rs"),
        "the backend: what dom0 does, and a test of both ends",
    ),
    ("pv-guest-kernel/guests/NAME.rs", include_str!("template/guest.rs"), "a guest that uses it"),
    ("dom0/domains/NAME.toml", include_str!("template/domain.toml"), "that guest's domain file"),
    (
        "tests/scenarios/NAME.rs",
        include_str!("template/scenario.rs"),
        "a test that boots the machine with it",
    ),
];

/// What a pair is called in the templates.
const SAMPLE: (&str, &str) = ("sample", "Sample");

type Edit = fn(&str, &Name) -> Result<String>;

/// Files to which a few lines are added.
const EDITS: [(&str, Edit); 6] = [
    ("abi/src/lib.rs", wiring::public_module),
    ("pv-guest-kernel/src/lib.rs", wiring::public_module),
    ("pv-guest-kernel/Cargo.toml", wiring::program),
    ("dom0/src/lib.rs", wiring::public_module),
    ("dom0/src/backends.rs", wiring::backend),
    ("tests/scenarios/main.rs", wiring::scenarios),
];

/// Manifests of the crates that get a module with the pair's name.
const MANIFESTS: [&str; 4] =
    ["abi/Cargo.toml", "pv-guest-kernel/Cargo.toml", "dom0/Cargo.toml", "tests/Cargo.toml"];

/// `cargo xtask new-driver NAME`
///
/// # Errors
/// The name cannot be used, or the work tree is not as it should be; nothing is written then.
pub fn run(options: &options::NewDriver) -> Result<()> {
    let root = paths::root();
    let pair = Pair::plan(root, &options.name)?;
    if !options.allow_dirty {
        ensure_clean(root)?;
    }
    pair.write()?;
    pair.report();
    Ok(())
}

/// A pair of drivers that is to be written.
#[derive(Debug)]
pub struct Pair {
    name: Name,
    /// Where, and what is to be there.
    files: Vec<(PathBuf, String)>,
}

impl Pair {
    /// Decides what to write into the work tree at `root`.
    ///
    /// # Errors
    /// The name makes no sense or is taken; a file is not as it should be.
    pub fn plan(root: &Path, name: &str) -> Result<Pair> {
        let name: Name = name.parse()?;
        ensure_free(root, &name)?;
        let mut files = Vec::new();
        for (path, template, _) in FILES {
            let (module, type_name) = (name.module(), name.type_name());
            let text = template.replace(SAMPLE.0, module).replace(SAMPLE.1, &type_name);
            files.push((root.join(name.in_path(path)), text));
        }
        for (path, edit) in EDITS {
            let text =
                edit(&read(root, path)?, &name).with_context(|| format!("cannot edit {path}"))?;
            files.push((root.join(path), text));
        }
        Ok(Pair { name, files })
    }

    /// Writes it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self) -> Result<()> {
        for (path, text) in &self.files {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn report(&self) {
        let name = self.name.module();
        println!("The pair `{name}` is written; edit it in this order:\n");
        for (path, _, purpose) in FILES {
            println!("  {:<34} {purpose}", self.name.in_path(path));
        }
        println!("\nIt is wired in by a few lines in");
        EDITS.iter().for_each(|(path, _)| println!("  {path}"));
        println!("\nIt moves data already:\n");
        for (command, effect) in [
            (format!("cargo test -p dom0 {name}"), "both ends on this host, without QEMU"),
            ("cargo xtask run".into(), "the machine; at its prompt:"),
            (format!("    xl create -c {name}"), "the guest prints what comes back"),
            (format!("cargo xtask test --scenario {name}"), "the same as a test"),
        ] {
            println!("  {command:<40} {effect}");
        }
        println!("\ndocs/new-driver.md explains such a pair line by line.");
    }
}

fn read(root: &Path, path: &str) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}

/// Nothing else may have the name: no file, no crate that the rooms use, no class of devices.
fn ensure_free(root: &Path, name: &Name) -> Result<()> {
    let module = name.module();
    for (path, _, _) in FILES {
        let path = name.in_path(path);
        let folder = path.trim_end_matches(".rs");
        if let Some(taken) =
            [path.as_str(), folder].into_iter().find(|path| root.join(path).exists())
        {
            bail!(
                "`{module}` is taken: {taken} is there; choose another name, or edit what is there"
            );
        }
    }
    for path in MANIFESTS {
        let manifest: toml::Table = read(root, path)?.parse().with_context(|| path)?;
        ensure!(
            !wiring::dependencies(&manifest)
                .any(|crate_name| crate_name.replace('-', "_") == module),
            "`{module}` is taken: {path} names a crate so; choose another name"
        );
    }
    let backends = read(root, "dom0/src/backends.rs")?;
    ensure!(
        !backends.contains(&format!("\"{module}\"")),
        "`{module}` is taken: dom0/src/backends.rs has a class of that name; choose another name"
    );
    Ok(())
}

/// The files that will be edited have no changes that are not committed: then git shows, and can
/// undo, what was done here. Where there is no git there is nothing to look at.
fn ensure_clean(root: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["status", "--porcelain", "--"]);
    git.args(EDITS.iter().map(|(path, _)| path));
    let Ok(output) = git.output() else { return Ok(()) };
    let changed = String::from_utf8_lossy(&output.stdout);
    let changed: Vec<&str> = changed.lines().filter_map(|line| line.get(3..)).collect();
    ensure!(
        !output.status.success() || changed.is_empty(),
        "{} would be edited and {} changes that are not committed; commit them, or give \
         --allow-dirty",
        changed.join(", "),
        if changed.len() == 1 { "has" } else { "have" }
    );
    Ok(())
}

#[cfg(test)]
mod tests;
