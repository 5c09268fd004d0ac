//! As many vCPUs as the toolstack says.

use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{println, smp};

/// Follows the toolstack until it is shut down.
pub async fn follow(vcpus: usize) {
    match Client::for_guest() {
        Ok(store) => {
            println!("following the toolstack");
            if let Err(error) = smp::hotplug::follow(store, vcpus).await {
                println!("FAIL the store: {error}");
            }
        }
        Err(error) => println!("FAIL no store: {error}"),
    }
}
