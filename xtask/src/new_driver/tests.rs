//! Against the files of this repository, copied.

use super::*;

/// The files that a pair is written into, as they are here.
fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for path in EDITS.iter().map(|(path, _)| *path).chain(MANIFESTS) {
        let copy = tree.path().join(path);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(paths::root().join(path), copy).unwrap();
    }
    for (path, _, _) in FILES {
        fs::create_dir_all(tree.path().join(path).parent().unwrap()).unwrap();
    }
    tree
}

fn refused(tree: &Path, name: &str) -> String {
    Pair::plan(tree, name).unwrap_err().to_string()
}

#[test]
fn a_pair_is_short() {
    let rust = FILES.iter().filter(|(path, _, _)| path.ends_with(".rs"));
    let lines: usize = rust.map(|(_, template, _)| template.lines().count()).sum();
    assert!(lines < 150, "{lines} lines");
}

#[test]
fn a_pair_is_wired_in_everywhere() {
    let tree = tree();
    Pair::plan(tree.path(), "foo_bar").unwrap().write().unwrap();
    for (path, words) in [
        ("abi/src/lib.rs", "pub mod foo_bar;"),
        ("pv-guest-kernel/src/lib.rs", "pub mod foo_bar;"),
        ("dom0/src/lib.rs", "pub mod foo_bar;"),
        ("dom0/src/backends.rs", "    abi::foo_bar::CLASS => foo_bar;"),
        ("pv-guest-kernel/Cargo.toml", "path = \"guests/foo_bar.rs\""),
        ("tests/scenarios/main.rs", "        foo_bar::SCENARIOS,"),
        ("pv-guest-kernel/src/foo_bar.rs", "impl FooBar {"),
        ("dom0/domains/foo_bar.toml", "device = [\"foo_bar, factor=7\"]"),
    ] {
        let text = read(tree.path(), path).unwrap();
        assert_eq!(text.lines().filter(|line| *line == words).count(), 1, "{path}: {text}");
    }
    for (path, _, _) in FILES {
        let text = read(tree.path(), &path.replace("NAME", "foo_bar")).unwrap();
        assert!(!text.to_lowercase().contains(SAMPLE.0), "{text}");
    }
}

#[test]
fn modules_stay_in_order() {
    let text = "//! x\n\npub mod a;\n#[cfg(x)]\nmod c;\npub mod d;\n\npub use d::e;\n";
    let with = |name: &str| wiring::public_module(text, &name.parse().unwrap()).unwrap();
    assert!(with("b").contains("pub mod a;\npub mod b;\n#[cfg(x)]\nmod c;\n"));
    assert!(with("ca").contains("#[cfg(x)]\nmod c;\npub mod ca;\npub mod d;\n"));
    assert!(with("z").contains("pub mod d;\npub mod z;\n\npub use"));
    assert!(wiring::public_module("fn main() {}\n", &"b".parse().unwrap()).is_err());
}

#[test]
fn names_that_cannot_be_are_refused() {
    let tree = tree();
    for name in ["", "Foo", "foo-bar", "1foo", "foo bar", "../x", "_a", "a_", "a__b", "é"] {
        assert!(refused(tree.path(), name).contains("is no name for a pair"), "{name}");
    }
    assert!(refused(tree.path(), "a23456789_1234567").contains("is no name for a pair"));
    assert!(refused(tree.path(), "match").contains("means something else in Rust"));
    for name in ["log", "spin", "talc", "anyhow"] {
        assert!(refused(tree.path(), name).contains("names a crate so"), "{name}");
    }
    assert!(refused(tree.path(), "vif").contains("has a class of that name"));
}

#[test]
fn names_that_are_taken_are_refused() {
    for name in ["entropy", "block", "console", "hello"] {
        let reason = refused(paths::root(), name);
        assert!(reason.contains("is taken") && reason.contains("choose another name"), "{reason}");
    }
    let tree = tree();
    Pair::plan(tree.path(), "foo").unwrap().write().unwrap();
    assert!(refused(tree.path(), "foo").contains("abi/src/foo.rs is there"));
    fs::remove_file(tree.path().join("abi/src/foo.rs")).unwrap();
    assert!(refused(tree.path(), "foo").contains("pv-guest-kernel/src/foo.rs is there"));
    Pair::plan(tree.path(), "bar").unwrap().write().unwrap();
}

#[test]
fn a_tree_that_is_not_as_it_should_be_is_left_alone() {
    let tree = tree();
    fs::write(tree.path().join("dom0/src/backends.rs"), "//! nothing\n").unwrap();
    let reason = format!("{:#}", Pair::plan(tree.path(), "foo").unwrap_err());
    assert!(reason.contains("cannot edit dom0/src/backends.rs"), "{reason}");
    assert!(!tree.path().join("abi/src/foo.rs").exists());
}

#[test]
fn changes_that_are_not_committed_are_named() {
    let tree = tree();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
        git.current_dir(tree.path()).args(identity).args(arguments);
        assert!(git.output().unwrap().status.success(), "git {arguments:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "all"]);
    ensure_clean(tree.path()).unwrap();
    Pair::plan(tree.path(), "foo").unwrap().write().unwrap();
    let reason = ensure_clean(tree.path()).unwrap_err().to_string();
    assert!(
        reason.contains("dom0/src/backends.rs") && reason.contains("--allow-dirty"),
        "{reason}"
    );
}
