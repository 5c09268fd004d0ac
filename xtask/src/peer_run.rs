//! `cargo xtask peer-run`: guests on Debian's Xen do what they do on Aurochs.

mod conformance;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::bench::{Request, measure_on_xen, operation};
use crate::build::{self, Images};
use crate::image::disk;
use crate::linux::Linux;
use crate::options;
use crate::peer::{Domain, Guest, LinuxDom0, Machine, Report, Step};
use crate::setup::{self, Qemu, Tool};

/// What one machine may take; generous, because it may be a slow host.
const TIMEOUT: Duration = Duration::from_secs(400);
/// Bytes that are fetched.
const FETCHED: usize = 1_000_000;
/// The bytes of `web` begin again after so many.
const PERIOD: u8 = 251;
/// How often `bench` does each operation: enough to be repeated.
const SAMPLES: u32 = 20;
/// What is written on a disk.
const PATTERN: &str = "Aurochs";

/// One machine with Xen, and what is to be seen there.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What it is called, in the tests' way.
    pub name: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
}

/// What a check works with.
struct Stage<'a> {
    name: &'static str,
    qemu: &'a Qemu,
    images: &'a Images,
    progress: &'a dyn Fn(&str),
}

/// All of them.
pub const CHECKS: [Check; 4] = [
    Check { name: "guests_that_xen_makes", run: guests_that_xen_makes },
    Check { name: "conformance", run: conformance::run },
    Check { name: "guests_with_linux_backends", run: guests_with_linux_backends },
    Check { name: "linux_with_linux_backends", run: linux_with_linux_backends },
];

/// Runs those that are asked for and tells what came of each.
///
/// # Errors
/// There is none, a tool is missing, the build fails, or a check did: the error is the first's.
pub fn run(options: &options::PeerRun) -> Result<()> {
    let filter = options.filter.as_deref().unwrap_or_default();
    let checks: Vec<Check> =
        CHECKS.into_iter().filter(|check| check.name.contains(filter)).collect();
    let names = CHECKS.map(|check| check.name).join(", ");
    ensure!(!checks.is_empty(), "nothing matches `{filter}`: {names}");
    setup::ensure(Tool::RUN)?;
    let (qemu, images) = (Qemu::find()?, build::build()?);
    eprintln!("QEMU {}, Debian's Xen", qemu.version);
    let mut failed = None;
    for check in checks {
        let started = Instant::now();
        eprintln!("{}", check.name);
        let progress = |step: &str| {
            eprintln!("  {:>5.1} s  {step}", started.elapsed().as_secs_f32());
        };
        let result = check.run(&qemu, &images, &progress);
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("{}: ok ({seconds:.0} s)", check.name),
            Err(error) => {
                println!("{}: FAILED ({seconds:.0} s): {error:#}", check.name);
                failed.get_or_insert(error.context(check.name));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

impl Check {
    /// Boots the machine and looks. `progress` is called with what is done next.
    ///
    /// # Errors
    /// Something was not as it should be.
    pub fn run(&self, qemu: &Qemu, images: &Images, progress: &dyn Fn(&str)) -> Result<()> {
        (self.run)(&Stage { name: self.name, qemu, images, progress })
    }
}

/// `hello`, and `bench` with its partner, without a dom0.
fn guests_that_xen_makes(stage: &Stage<'_>) -> Result<()> {
    (stage.progress)("hello");
    let hello = Guest::ours(stage.images, "hello", "a=b", 8 << 10)?;
    let machine = Machine::dom0less(vec![hello]);
    let mut console = machine.boot(stage.qemu, stage.name, TIMEOUT)?;
    console.wait_for("hello's last line", |text| text.contains("Goodbye."))?;
    let words = ["Hello from a paravirtual guest!", "command line \"a=b\"", "tick 2 at"];
    says(&console.text(), &words).with_context(|| console.place())?;
    let requests = Request::for_all(&operation::matching(None), SAMPLES);
    for request in requests.iter().filter(|request| request.cpus == 1) {
        (stage.progress)("bench");
        let rows = measure_on_xen(stage.qemu, stage.images, request)?;
        for operation in &request.operations {
            let row = rows.get(operation.row)?;
            ensure!(row.median > 0, "{} is said to take no instruction", operation.name);
        }
    }
    Ok(())
}

/// This project's guests, served by Linux' backends.
fn guests_with_linux_backends(stage: &Stage<'_>) -> Result<()> {
    let disks = Disks::new(&[16, 4])?;
    let example = |name: &str, disks: &[usize]| Domain::example(stage.images, name, disks);
    let machine = LinuxDom0 {
        guests: vec![
            example("hello", &[])?,
            example("smp", &[])?.with("vcpus", 2),
            example("hash", &[0])?,
            example("hash", &[1])?.named("write").with("cmdline", format!("write={PATTERN}")),
            example("web", &[])?.with("cmdline", "ip=10.0.2.15/24 queues=2"),
            example("fetch", &[])?
                .with("cmdline", format!("bytes={FETCHED} connections=8 queues=9")),
        ],
        steps: vec![
            Step::new("hello", "run_guest hello"),
            Step::new("smp", "run_guest smp"),
            Step::new("hash", "run_guest hash"),
            Step::new("write", "run_guest write"),
            Step::new("web", "create web && wait_for_line web serving"),
            Step::new(
                "wget",
                format!("wget -q -O - 'http://10.0.2.15/bytes?n={FETCHED}' | sha256sum"),
            ),
            Step::new("fetch", "run_guest fetch"),
            Step::new("shutdown", "timeout 60 xl shutdown -w web"),
        ],
        // As many queues does netback take.
        cpus: 2,
        ..stage.machine(&disks)
    };
    let report = machine.run(stage.qemu, stage.progress)?;
    let said = |step: &str, words: &[&str]| said(&report, step, words);
    said("hello", &["Hello from a paravirtual guest!", "Goodbye."])?;
    said("smp", &["2 vCPUs", " ok, 0 failed"])?;
    said("hash", &[&disks.sum(0)?, "xvda"])?;
    said("write", &[&disks.sum(1)?])?;
    disk::check_pattern(disks.path(1)?, PATTERN.as_bytes())?;
    said("wget", &[&sum_of_fetched()?])?;
    said("fetch", &[&format!("got {} bytes from 10.0.2.15", 8 * FETCHED), "queue 1: sent"])?;
    said("shutdown", &[])
}

/// Debian's Linux, served by Linux' backends: its own disk has a file system, another is read as it is.
fn linux_with_linux_backends(stage: &Stage<'_>) -> Result<()> {
    const COMMANDS: &str = "uname -r; sha256sum < /dev/xvdb; \
        dd if=/dev/urandom of=/mnt/file bs=64k count=64; sha256sum < /mnt/file > /tmp/sum; \
        umount /mnt; mount -t ext4 /dev/xvda /mnt; \
        sha256sum < /mnt/file | cmp - /tmp/sum && echo as written; \
        wget -q -O - http://10.0.2.2/file | sha256sum; ip route";
    let mut disks = Disks::new(&[16])?;
    disks.paths.push(Linux::make_disk(disks.folder.path())?);
    let machine = LinuxDom0 {
        guests: vec![Domain::linux(None, &[], &[1, 0])?.with("run", COMMANDS)],
        files: vec![("srv/file".into(), fetched())],
        steps: vec![Step::new("server", "httpd -h /srv"), Step::new("linux", "run_guest linux")],
        ..stage.machine(&disks)
    };
    let report = machine.run(stage.qemu, stage.progress)?;
    let words =
        ["-arm64", &disks.sum(0)?, "as written", &sum_of_fetched()?, "via 10.0.2.2 dev eth0"];
    said(&report, "linux", &words)
}

impl Stage<'_> {
    /// A machine with a Linux dom0.
    fn machine(&self, disks: &Disks) -> LinuxDom0 {
        LinuxDom0 {
            name: self.name.into(),
            disks: disks.paths.clone(),
            timeout: TIMEOUT,
            ..LinuxDom0::default()
        }
    }
}

/// Disks of random content.
struct Disks {
    paths: Vec<PathBuf>,
    folder: TempDir,
}

impl Disks {
    fn new(mebibytes: &[u64]) -> Result<Disks> {
        let folder = tempfile::Builder::new().prefix("aurochs-disks-").tempdir()?;
        let mut paths = Vec::new();
        for (number, mebibytes) in mebibytes.iter().enumerate() {
            let path = folder.path().join(format!("disk{number}.img"));
            disk::random(&path, *mebibytes)?;
            paths.push(path);
        }
        Ok(Disks { paths, folder })
    }

    fn path(&self, number: usize) -> Result<&Path> {
        self.paths.get(number).map(PathBuf::as_path).context("there is no such disk")
    }

    fn sum(&self, number: usize) -> Result<String> {
        disk::sha256(self.path(number)?)
    }
}

/// What `web` sends.
fn fetched() -> Vec<u8> {
    (0..PERIOD).cycle().take(FETCHED).collect()
}

fn sum_of_fetched() -> Result<String> {
    Ok(disk::sha256_of(fetched().as_slice())?)
}

fn said(report: &Report, step: &str, words: &[&str]) -> Result<()> {
    let output = report.of(step)?;
    says(output, words).with_context(|| format!("{step}; {}", report.place()))
}

fn says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "no line has `{word}`: {}", text.trim());
    }
    Ok(())
}
