//! The guests of `cargo xtask peer-run` on Debian's Xen, served by nobody and by Linux.

use std::fs;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use xtask::peer;
use xtask::peer_run::{CHECKS, Check};

use crate::Equipment;

pub fn trials(equipment: &Arc<Equipment>) -> impl Iterator<Item = Trial> {
    CHECKS.into_iter().map(|check| {
        let equipment = Arc::clone(equipment);
        Trial::test(format!("peer::{}", check.name), move || run(check, &equipment))
    })
}

fn run(check: Check, equipment: &Equipment) -> Result<(), Failed> {
    check.run(&equipment.qemu, &equipment.images, &|_| ()).map_err(|error| {
        // There is none if it did not come to that.
        let console = fs::read_to_string(peer::log(check.name)).unwrap_or_default();
        Failed::from(format!("{error:#}\n── console ──\n{console}"))
    })
}
