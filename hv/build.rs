//! Links the monitor's binary by its own script, and tells it which compiler makes it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rustc-env=AUROCHS_COMPILER={}", compiler());
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
        // Rights come from the monitor's own tables, not from a loader.
        println!("cargo:rustc-link-arg-bins=-znorelro");
    }
}

/// "rustc 1.90.0", without date and commit; only the name if it does not say.
fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = text.ok().and_then(|text| text.split(' ').nth(1).map(str::to_string));
    format!("rustc {}", version.unwrap_or_default().trim())
}
