//! `xl list -l`: all that is known of domains, for programs, with the names that xl uses.

use alloc::{format, string::String, vec::Vec};

use abi::{domctl::DomainInfo, sched::ShutdownReason};
use serde_json::{Value, json};

use super::{
    report::{seconds, state_letters},
    table::Show,
};
use crate::toolstack::{
    Configuration, Summary,
    config::DomainConfig,
    device::{DeviceId, DeviceSpec},
    disk::{Access, DiskSpec},
    vif::{BRIDGE, VifSpec},
};

/// Domains, each with what it was made from if the toolstack knows.
#[derive(Debug)]
pub struct Long(pub Vec<(Summary, Option<Configuration>)>);

impl Show for Long {
    fn text(&self) -> String {
        // What is made of texts and numbers can be written.
        serde_json::to_string_pretty(&self.json()).map(|text| text + "\n").unwrap_or_default()
    }

    fn json(&self) -> Value {
        self.0.iter().map(|(summary, known)| domain(summary, known.as_ref())).collect()
    }
}

fn domain(Summary { name, info }: &Summary, known: Option<&Configuration>) -> Value {
    let config = match known {
        Some(configuration) => config(name, configuration),
        None => json!({ "c_info": { "name": name } }),
    };
    json!({ "domid": info.domain.0, "config": config, "state": state(info) })
}

/// What xl leaves to its other lists.
fn state(info: &DomainInfo) -> Value {
    json!({
        "state": state_letters(info),
        "cpu_time_s": seconds(info.cpu_time),
        "online_vcpus": info.online_vcpus,
        "current_memkb": info.frames * 4,
        "limit_memkb": info.max_frames * 4,
        "overhead_memkb": info.overhead_frames * 4,
    })
}

fn config(name: &str, configuration: &Configuration) -> Value {
    let Configuration { config, memory, devices } = configuration;
    let action = |reason| config.action(reason).name();
    let mut disks = Vec::new();
    let mut nics = Vec::new();
    let mut others = Vec::new();
    for (id, device) in devices {
        match device {
            DeviceSpec::Disk(spec) => disks.push(disk(spec)),
            DeviceSpec::Vif(spec) => nics.push(nic(*id, spec)),
            DeviceSpec::Generic(spec) => {
                others.push(json!({ "class": spec.class, "devid": id.number }));
            }
        }
    }
    json!({
        "c_info": { "name": name },
        "b_info": {
            "max_vcpus": config.max_vcpus(),
            "avail_vcpus": (0..config.vcpus).collect::<Vec<_>>(),
            "max_memkb": u64::from(memory.max) * 1024,
            "target_memkb": u64::from(memory.target) * 1024,
            "sched_params": { "weight": config.cpu_weight, "cap": config.cap },
            "cpus": format!("{}", config.cpus),
            "max_grant_frames": config.max_grant_frames,
            "event_channels": config.event_channels,
            "kernel": config.kernel,
            "ramdisk": config.ramdisk,
            "cmdline": DomainConfig::boot_arguments(config),
        },
        "disks": disks,
        "nics": nics,
        "devices": others,
        "on_poweroff": action(ShutdownReason::Poweroff),
        "on_reboot": action(ShutdownReason::Reboot),
        "on_watchdog": action(ShutdownReason::Watchdog),
        "on_crash": action(ShutdownReason::Crash),
    })
}

fn disk(disk: &DiskSpec) -> Value {
    json!({
        "pdev_path": format!("{}", disk.target),
        "overlay": disk.overlay.as_ref().map(|overlay| format!("{overlay}")),
        "vdev": format!("{}", disk.vdev),
        "format": "raw",
        "is_cdrom": disk.cdrom,
        "readwrite": disk.access == Access::ReadWrite,
    })
}

fn nic(id: DeviceId, vif: &VifSpec) -> Value {
    json!({
        "devid": id.number,
        "mac": vif.mac.map(|address| format!("{address}")),
        "bridge": BRIDGE,
    })
}

#[cfg(test)]
mod tests {
    use abi::DomId;

    use super::*;
    use crate::toolstack::Memory;

    #[test]
    fn it_has_xls_names() {
        let text = "name = 'a'\nkernel = 'k'\nmemory = 16\nmaxmem = 32\nvcpus = 2\non_crash = \
                    'rename-restart'";
        let config = DomainConfig::parse(text, &[]).unwrap();
        let disk = DeviceSpec::Disk(DiskSpec::parse("disk0,xvda,r").unwrap());
        let devices = [(DeviceId { class: "vbd", number: 51712 }, disk)].into();
        let memory = Memory { target: 24, max: 32 };
        let info = DomainInfo { domain: DomId(3), frames: 100, ..DomainInfo::default() };
        let known = Some(Configuration { config, memory, devices });
        let shown = Long([(Summary { name: "b".into(), info }, known)].into()).json();
        let at = |pointer| shown.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/0/domid"), 3);
        assert_eq!(at("/0/config/c_info/name"), "b");
        assert_eq!(at("/0/config/b_info/avail_vcpus"), json!([0, 1]));
        assert_eq!(at("/0/config/b_info/max_memkb"), 32 << 10);
        assert_eq!(at("/0/config/b_info/target_memkb"), 24 << 10);
        assert_eq!(at("/0/config/disks/0/vdev"), "xvda");
        assert_eq!(at("/0/config/disks/0/readwrite"), false);
        assert_eq!(at("/0/config/on_crash"), "rename-restart");
        assert_eq!(at("/0/state/current_memkb"), 400);
    }
}
