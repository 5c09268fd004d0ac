//! Hands the link script of `pv-guest-kernel` to the linker.

fn main() {
    let bare_metal = std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none");
    if let (true, Ok(script)) = (bare_metal, std::env::var("DEP_PV_GUEST_KERNEL_LINK_SCRIPT")) {
        println!("cargo::rerun-if-changed={script}");
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
}
