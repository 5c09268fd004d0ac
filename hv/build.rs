//! Links the monitor's binary by its own script.

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
        // Rights come from the monitor's own tables, not from a loader.
        println!("cargo:rustc-link-arg-bins=-znorelro");
    }
}
