//! QEMU's command line as a type.
//!
//! Devices and drives are given as JSON: no quoting rules, whatever a path looks like.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::forward::{DHCP_START, NETWORK};
use super::{Layout, Virt};
use crate::options;

/// Virtio devices that are no disks: network, entropy and control.
const OTHER_DEVICES: usize = 3;

/// Where the machine's serial port goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// This terminal, in raw mode; Ctrl-A x ends QEMU.
    Terminal,
    /// QEMU's standard input and output, which are pipes.
    Pipe,
    /// A socket; what comes out is kept in a file beside it, too.
    Socket(PathBuf),
}

/// Everything that QEMU is told.
#[derive(Debug, Clone)]
pub struct CommandLine<'a> {
    /// The board.
    pub virt: &'a Virt,
    /// What the user asked for.
    pub options: &'a options::Machine,
    /// The disks, `options.disks` or the one that was made.
    pub disks: &'a [PathBuf],
    /// The monitor's flat image.
    pub monitor: &'a Path,
    /// dom0's flat image.
    pub kernel: &'a Path,
    /// dom0's ramdisk.
    pub ramdisk: PathBuf,
    /// Where the two go.
    pub layout: &'a Layout,
    /// The serial port.
    pub console: Console,
    /// Where QEMU listens for questions about the machine.
    pub qmp: PathBuf,
    /// Where it listens for those who want to speak with dom0's shell.
    pub channels: Vec<PathBuf>,
    /// Halt at the first instruction and let gdb connect to this port.
    pub gdb_port: Option<u16>,
}

impl CommandLine<'_> {
    /// The arguments.
    ///
    /// # Errors
    /// There are more disks than transports, or a path is not UTF-8.
    pub fn arguments(&self) -> Result<Vec<OsString>> {
        let mut line = Line::default();
        self.board(&mut line);
        self.console(&mut line);
        line.option("-kernel", self.monitor);
        let vcpus = self.options.dom0_vcpus.max(1);
        let append = format!("dom0_mem={} dom0_max_vcpus={vcpus}", self.layout.dom0_mib);
        line.option("-append", append);
        line.json(
            "-device",
            &json!({
                "driver": "guest-loader", "addr": self.layout.kernel.start,
                "kernel": utf8(self.kernel)?, "bootargs": "",
            }),
        );
        line.json(
            "-device",
            &json!({
                "driver": "guest-loader", "addr": self.layout.ramdisk.start,
                "initrd": utf8(&self.ramdisk)?,
            }),
        );
        self.disks(&mut line)?;
        self.network(&mut line);
        self.entropy(&mut line);
        self.channels(&mut line)?;
        self.debugging(&mut line);
        Ok(line.0)
    }

    fn board(&self, line: &mut Line) {
        let machine = &self.virt.machine;
        line.option("-machine", format!("{},{}", machine.r#type, machine.options.join(",")));
        let memory = self.options.memory.unwrap_or(machine.memory_mib);
        line.option("-m", format!("{memory}M"));
        line.option("-smp", self.options.smp.max(1).to_string());
        line.option("-cpu", self.cpu());
        if self.options.icount {
            line.option("-icount", &self.virt.ruler.icount);
        }
        line.flag("-nodefaults");
        // A reset ends QEMU: nothing here wants to boot twice.
        line.flag("-no-reboot");
        line.option("-display", "none");
    }

    fn cpu(&self) -> String {
        let (machine, ruler) = (&self.virt.machine, &self.virt.ruler);
        let default = if self.options.icount { &ruler.cpu } else { &machine.cpu };
        let name = self.options.cpu.as_ref().unwrap_or(default);
        if self.options.icount {
            format!("{name},cntfrq={}", ruler.counter_hertz)
        } else {
            name.clone()
        }
    }

    fn console(&self, line: &mut Line) {
        match &self.console {
            Console::Terminal => line.option("-serial", "mon:stdio"),
            Console::Pipe => line.option("-serial", "stdio"),
            Console::Socket(path) => {
                let log = path.with_extension("log");
                let path = path.display();
                line.option(
                    "-chardev",
                    format!(
                        "socket,id=console,path={path},server=on,wait=off,logfile={}",
                        log.display()
                    ),
                );
                line.option("-serial", "chardev:console");
            }
        }
    }

    fn disks(&self, line: &mut Line) -> Result<()> {
        let virtio = &self.virt.virtio;
        ensure!(
            self.disks.len() + OTHER_DEVICES <= virtio.transports,
            "{} disks, but the machine has {} transports, and {OTHER_DEVICES} are other devices'",
            self.disks.len(),
            virtio.transports
        );
        line.option("-global", "virtio-mmio.force-legacy=false");
        for (number, image) in self.disks.iter().enumerate() {
            let mut file = json!({ "driver": "file", "filename": utf8(image)? });
            if let (0, Some(sector)) = (number, self.options.bad_sector) {
                file = failing(file, sector);
            }
            line.json(
                "-blockdev",
                &json!({ "driver": "raw", "node-name": format!("disk{number}"), "file": file }),
            );
            line.json(
                "-device",
                &json!({
                    "driver": "virtio-blk-device", "drive": format!("disk{number}"),
                    "bus": format!("{}{number}", virtio.bus_prefix),
                }),
            );
        }
        Ok(())
    }

    /// On the last transport, so that the disks keep theirs.
    fn network(&self, line: &mut Line) {
        let virtio = &self.virt.virtio;
        line.option("-netdev", format!("user,id={NETWORK},dhcpstart={DHCP_START}"));
        line.json(
            "-device",
            &json!({
                "driver": "virtio-net-device", "netdev": NETWORK,
                "bus": format!("{}{}", virtio.bus_prefix, virtio.transports - 1),
            }),
        );
    }

    /// On the last transport but one. The host's own random bytes are its source.
    fn entropy(&self, line: &mut Line) {
        let virtio = &self.virt.virtio;
        let bus = format!("{}{}", virtio.bus_prefix, virtio.transports - 2);
        line.json("-device", &json!({ "driver": "virtio-rng-device", "bus": bus }));
    }

    /// Ports of a console device: port 0 is not for us, since it loses what its reader is too slow
    /// for.
    fn channels(&self, line: &mut Line) -> Result<()> {
        const DEVICE: &str = "control";
        let virtio = &self.virt.virtio;
        line.json(
            "-device",
            &json!({
                "driver": "virtio-serial-device", "id": DEVICE,
                "max_ports": self.channels.len() + 1,
                "bus": format!("{}{}", virtio.bus_prefix, virtio.transports - OTHER_DEVICES),
            }),
        );
        for (number, path) in self.channels.iter().enumerate() {
            let id = format!("{DEVICE}{number}");
            let path = utf8(path)?;
            line.option("-chardev", format!("socket,id={id},path={path},server=on,wait=off"));
            line.json(
                "-device",
                &json!({
                    "driver": "virtserialport", "bus": format!("{DEVICE}.0"), "chardev": id,
                    "nr": number + 1, "name": format!("org.aurochs.control.{number}"),
                }),
            );
        }
        Ok(())
    }

    fn debugging(&self, line: &mut Line) {
        line.option("-qmp", format!("unix:{},server=on,wait=off", self.qmp.display()));
        if let Some(port) = self.gdb_port {
            line.flag("-S");
            line.option("-gdb", format!("tcp:127.0.0.1:{port}"));
        }
    }
}

/// A file of which one sector can be neither read nor written.
fn failing(file: Value, sector: u64) -> Value {
    json!({
        "driver": "blkdebug", "image": file,
        "inject-error": [{ "event": "none", "iotype": "read", "sector": sector },
                         { "event": "none", "iotype": "write", "sector": sector }],
    })
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.flag(name);
        self.0.push(value.into());
    }

    fn json(&mut self, name: &str, value: &Value) {
        self.option(name, value.to_string());
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(options: &options::Machine, disks: &[PathBuf]) -> Result<Vec<String>> {
        let virt = Virt::load();
        let layout = Layout::new(&virt.memory, 512, 0x1000, 0x1000, 0x1000)?;
        let line = CommandLine {
            virt: &virt,
            options,
            disks,
            layout: &layout,
            monitor: Path::new("hv.img"),
            kernel: Path::new("dom0.img"),
            ramdisk: "rd".into(),
            console: Console::Pipe,
            qmp: "qmp".into(),
            channels: vec!["c0".into(), "c1".into()],
            gdb_port: None,
        };
        Ok(line.arguments()?.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
        let position = arguments.iter().position(|word| word == name)?;
        arguments.get(position + 1).map(String::as_str)
    }

    #[test]
    fn plain_machine() {
        let arguments = arguments(&options::Machine::default(), &[]).unwrap();
        assert_eq!(value_of(&arguments, "-machine"), Some("virt,virtualization=on,gic-version=3"));
        assert_eq!(value_of(&arguments, "-m"), Some("512M"));
        assert_eq!(value_of(&arguments, "-smp"), Some("1"));
        let append = value_of(&arguments, "-append").unwrap();
        assert!(append.ends_with("dom0_max_vcpus=1"), "{append}");
        assert_eq!(value_of(&arguments, "-icount"), None);
        assert_eq!(value_of(&arguments, "-gdb"), None);
    }

    #[test]
    fn ruler_counts_instructions_on_any_cpu() {
        let options = options::Machine { icount: true, ..Default::default() };
        let with_default = arguments(&options, &[]).unwrap();
        assert_eq!(value_of(&with_default, "-cpu"), Some("max,cntfrq=1000000000"));
        assert_eq!(value_of(&with_default, "-icount"), Some("shift=0,sleep=off"));
        let options = options::Machine { cpu: Some("cortex-a53".into()), ..options };
        let named = arguments(&options, &[]).unwrap();
        assert_eq!(value_of(&named, "-cpu"), Some("cortex-a53,cntfrq=1000000000"));
    }

    #[test]
    fn disks_are_in_order_whatever_their_name() {
        let disks = ["a,b=c.img".into(), "with \"quotes\"".into()];
        let arguments = arguments(&options::Machine::default(), &disks).unwrap();
        let json = |kind: &str| -> Vec<Value> {
            let of_kind = arguments.windows(2).filter(|pair| pair[0] == kind);
            of_kind.map(|pair| serde_json::from_str(&pair[1]).unwrap()).collect()
        };
        let drives = json("-blockdev");
        assert_eq!(drives[0]["file"]["filename"], "a,b=c.img");
        assert_eq!(drives[1]["file"]["filename"], "with \"quotes\"");
        let devices = json("-device");
        assert_eq!(devices[3]["bus"], "virtio-mmio-bus.1");
        assert_eq!(devices[3]["drive"], drives[1]["node-name"]);
    }

    #[test]
    fn the_network_is_behind_the_disks() {
        let arguments = arguments(&options::Machine::default(), &["x".into()]).unwrap();
        let device = arguments.iter().find(|word| word.contains("virtio-net-device")).unwrap();
        let device: Value = serde_json::from_str(device).unwrap();
        assert_eq!(device["bus"], "virtio-mmio-bus.31");
        let network = value_of(&arguments, "-netdev").unwrap();
        assert!(arguments.iter().any(|word| {
            word.contains("virtio-rng-device") && word.contains("virtio-mmio-bus.30")
        }));
        assert!(network.starts_with(&format!("user,id={},", device["netdev"].as_str().unwrap())));
    }

    #[test]
    fn each_channel_has_a_port_and_a_socket() {
        let arguments = arguments(&options::Machine::default(), &["x".into()]).unwrap();
        let ports: Vec<Value> = arguments
            .iter()
            .filter(|word| word.contains("virtserialport"))
            .map(|word| serde_json::from_str(word).unwrap())
            .collect();
        let numbers: Vec<_> = ports.iter().map(|port| port["nr"].as_u64()).collect();
        assert_eq!(numbers, [Some(1), Some(2)]);
        for (port, path) in ports.iter().zip(["c0", "c1"]) {
            let socket = format!("socket,id={},path={path},", port["chardev"].as_str().unwrap());
            assert!(arguments.iter().any(|word| word.starts_with(&socket)), "{socket}");
        }
    }

    #[test]
    fn too_many_disks() {
        let disks = vec![PathBuf::from("x"); 30];
        assert!(arguments(&options::Machine::default(), &disks).is_err());
    }
}
