//! Hands the link script to the linker, and its path to the build scripts of other kernels.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = format!("{directory}/link.ld");
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::metadata=LINK_SCRIPT={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
}
