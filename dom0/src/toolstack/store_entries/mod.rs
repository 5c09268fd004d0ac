//! What the store says of a domain: Xen's layout (docs/misc/xenstore-paths.pandoc).

mod device;

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use abi::{
    DomId, Errno, Port,
    guest_map::{CONSOLE_FRAME, STORE_FRAME},
    xenstore::{Access, Permission},
};
use pv_guest_kernel::xenstore::Client;

pub use self::device::{Ends, backends_path, publish_device};
use super::config::DomainConfig;
use crate::backends;

/// Who may write a key. The other side may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Dom0,
    Guest,
}

/// A key to be made.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: String,
    value: String,
    /// None: as its directory says.
    writer: Option<Writer>,
}

/// Collects entries below one directory.
struct Directory {
    path: String,
    entries: Vec<Entry>,
}

impl Directory {
    fn new(path: String, writer: Writer) -> Directory {
        let top = Entry { path: path.clone(), value: String::new(), writer: Some(writer) };
        Directory { path, entries: [top].into() }
    }

    fn add(&mut self, key: &str, value: impl ToString) {
        self.add_as(key, value, None);
    }

    fn add_as(&mut self, key: &str, value: impl ToString, writer: Option<Writer>) {
        let path = format!("{}/{key}", self.path);
        self.entries.push(Entry { path, value: value.to_string(), writer });
    }
}

/// The ports of a domain's two rings.
#[derive(Debug, Clone, Copy)]
pub struct RingPorts {
    /// Console's.
    pub console: Port,
    /// Store's.
    pub store: Port,
}

/// A domain's own directory.
pub fn domain_path(domain: DomId) -> String {
    format!("/local/domain/{}", domain.0)
}

/// Where a domain's name is.
fn name_paths(domain: DomId) -> [String; 2] {
    [format!("{}/name", domain_path(domain)), format!("{}/name", vm_path(domain))]
}

/// Whether a vCPU is to be online, below its domain's directory.
pub fn availability_key(vcpu: u32) -> String {
    format!("cpu/{vcpu}/availability")
}

/// What is there when the first `online` vCPUs are to be.
pub const fn availability(vcpu: u32, online: u32) -> &'static str {
    if vcpu < online { "online" } else { "offline" }
}

/// Where the toolstack keeps what outlives a restart under Xen. The identifier is derived from
/// the domain's, so that names stay unique without a source of randomness.
fn vm_path(domain: DomId) -> String {
    format!("/vm/00000000-0000-0000-0000-{:012x}", domain.0)
}

fn domain_entries(
    domain: DomId,
    name: &str,
    config: &DomainConfig,
    ports: RingPorts,
) -> Vec<Entry> {
    let kibibytes = u64::from(config.memory) * 1024;
    let mut vm = Directory::new(vm_path(domain), Writer::Dom0);
    vm.add("name", name);

    let mut own = Directory::new(domain_path(domain), Writer::Dom0);
    own.add("name", name);
    own.add("domid", domain.0);
    own.add("vm", &vm.path);
    // What it starts with, even if it may get more: a kernel (Linux) takes the difference to what it
    // finds for what it could never have.
    own.add("memory/static-max", kibibytes);
    own.add("memory/target", kibibytes);
    for vcpu in 0..config.max_vcpus() {
        own.add(&availability_key(vcpu), availability(vcpu, config.vcpus));
    }
    own.add("console/ring-ref", CONSOLE_FRAME.0);
    own.add("console/port", ports.console);
    own.add("console/type", "xenconsoled");
    own.add("store/ring-ref", STORE_FRAME.0);
    own.add("store/port", ports.store);
    own.add("device", "");
    own.add("control/platform-feature-xs_reset_watches", 1);
    for key in ["shutdown", "sysrq", "feature-poweroff", "feature-reboot", "feature-suspend"] {
        own.add_as(&format!("control/{key}"), "", Some(Writer::Guest));
    }
    own.add_as("data", "", Some(Writer::Guest));
    vm.entries.extend(own.entries);
    vm.entries
}

/// Makes a domain's directory.
///
/// # Errors
/// The store's.
pub async fn publish_domain(
    store: &Client,
    domain: DomId,
    name: &str,
    config: &DomainConfig,
    ports: RingPorts,
) -> Result<(), Errno> {
    write(store, domain, &domain_entries(domain, name, config, ports)).await
}

async fn write(store: &Client, domain: DomId, entries: &[Entry]) -> Result<(), Errno> {
    for Entry { path, value, writer } in entries {
        store.write(path, value).await?;
        if let Some(writer) = writer {
            store.set_permissions(path, &permissions(domain, *writer)).await?;
        }
    }
    Ok(())
}

/// The owner comes first and may do everything; the other side may read, all others nothing.
fn permissions(guest: DomId, writer: Writer) -> [Permission; 2] {
    let (owner, reader) = match writer {
        Writer::Dom0 => (DomId::DOM0, guest),
        Writer::Guest => (guest, DomId::DOM0),
    };
    [
        Permission { access: Access::None, domain: owner },
        Permission { access: Access::Read, domain: reader },
    ]
}

/// Gives a domain that is there another name.
///
/// # Errors
/// The store's.
pub async fn rename(store: &Client, domain: DomId, name: &str) -> Result<(), Errno> {
    for path in name_paths(domain) {
        store.write(&path, name).await?;
    }
    Ok(())
}

/// Removes all that the functions above made. What is not there need not be
/// removed.
///
/// # Errors
/// The store's first, after trying everything.
pub async fn remove(store: &Client, domain: DomId) -> Result<(), Errno> {
    let devices = remove_devices(store, domain).await;
    devices.and(remove_all(store, [domain_path(domain), vm_path(domain)]).await)
}

/// Removes what was made of devices, at both ends.
///
/// # Errors
/// As for [`remove`].
pub async fn remove_devices(store: &Client, domain: DomId) -> Result<(), Errno> {
    let backends = backends::classes().map(|class| backends_path(domain, class));
    remove_all(store, backends.chain([format!("{}/device", domain_path(domain))])).await
}

async fn remove_all(store: &Client, paths: impl IntoIterator<Item = String>) -> Result<(), Errno> {
    let mut result = Ok(());
    for path in paths {
        match store.remove(&path).await {
            Ok(()) | Err(Errno::ENOENT) => {}
            error => result = result.and(error),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: DomId = DomId(5);
    const PORTS: RingPorts = RingPorts { console: Port(3), store: Port(4) };

    fn config() -> DomainConfig {
        let text = "name = 'hash'\nkernel = 'hash'\nmemory = 32\nvcpus = 2\nmaxvcpus = 3";
        DomainConfig::parse(text, &[]).unwrap()
    }

    fn value(entries: &[Entry], path: &str) -> String {
        let found: Vec<_> = entries.iter().filter(|entry| entry.path == path).collect();
        assert_eq!(found.len(), 1, "{path}");
        found[0].value.clone()
    }

    #[test]
    fn a_domain_finds_itself() {
        let entries = domain_entries(GUEST, "hash", &config(), PORTS);
        let own = |key: &str| value(&entries, &format!("/local/domain/5/{key}"));
        assert_eq!(own("name"), "hash");
        assert_eq!(own("memory/target"), "32768");
        assert_eq!(own("cpu/1/availability"), "online");
        assert_eq!(own("cpu/2/availability"), "offline");
        assert_eq!(own("console/port"), "3");
        assert_eq!(own("store/ring-ref"), STORE_FRAME.0.to_string());
        assert_eq!(value(&entries, &format!("{}/name", own("vm"))), "hash");
    }

    #[test]
    fn a_guest_writes_only_what_is_its_own() {
        let entries = domain_entries(GUEST, "hash", &config(), PORTS);
        let guests: Vec<&str> = entries
            .iter()
            .filter(|entry| entry.writer == Some(Writer::Guest))
            .map(|entry| entry.path.strip_prefix("/local/domain/5/").unwrap())
            .collect();
        assert_eq!(
            guests,
            [
                "control/shutdown",
                "control/sysrq",
                "control/feature-poweroff",
                "control/feature-reboot",
                "control/feature-suspend",
                "data"
            ]
        );
        let texts = permissions(GUEST, Writer::Guest).map(|entry| entry.to_string());
        assert_eq!(texts, ["n5", "r0"]);
        let texts = permissions(GUEST, Writer::Dom0).map(|entry| entry.to_string());
        assert_eq!(texts, ["n0", "r5"]);
    }
}
