//! A guest that tries every border, for the tests: it makes hypercalls that it must not make, and
//! prints "ok   ..." for each that was refused as it should be, "FAIL ..." for every other.
//!
//! It goes round the kernel's library, which would not let it.

#![no_std]
#![no_main]

extern crate alloc;

mod block;
mod border;
mod events;
mod grants;
mod memory;
mod network;
mod pointers;
mod privilege;
mod unknown;

use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, println};

use border::Border;

guest_main!(main);

async fn main(_: &'static Environment) {
    let mut border = Border::default();
    unknown::attempts(&mut border);
    pointers::attempts(&mut border);
    privilege::attempts(&mut border);
    events::attempts(&mut border);
    grants::attempts(&mut border);
    memory::attempts(&mut border);
    if let Ok(store) = Client::for_guest() {
        network::attempts(&mut border, &store).await;
        block::attempts(&mut border, &store).await;
    }
    println!("{} refused, {} not", border.held(), border.broken());
}
