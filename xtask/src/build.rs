//! Builds the monitor, dom0 and the example guests, and flattens what comes out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::image::FlatImage;
use crate::paths;
use crate::setup::{self, Tool, Toolchain};

/// The packages with programs for the machine.
pub(crate) const PACKAGES: [&str; 3] = [MONITOR, DOM0, GUESTS];
const MONITOR: &str = "hv";
const DOM0: &str = "dom0";
const GUESTS: &str = "pv-guest-kernel";

/// A program for the machine.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it is called.
    pub name: String,
    /// With symbols.
    pub elf: PathBuf,
    /// What is loaded.
    pub flat: PathBuf,
    /// Bytes of memory that it takes.
    pub memory_size: u64,
}

/// All programs for the machine.
#[derive(Debug, Clone)]
pub struct Images {
    /// The monitor.
    pub monitor: Image,
    /// The privileged domain.
    pub dom0: Image,
    /// The example guests.
    pub guests: Vec<Image>,
}

/// `cargo xtask build`
///
/// # Errors
/// A tool is missing or the build fails.
pub fn command() -> Result<()> {
    setup::ensure(Tool::BUILD)?;
    let images = build()?;
    for image in [&images.monitor, &images.dom0].into_iter().chain(&images.guests) {
        let kib = image.memory_size.div_ceil(1024);
        println!("{:<10} {kib:>6} KiB in memory  {}", image.name, image.flat.display());
    }
    Ok(())
}

/// Builds what changed. cargo's progress goes to standard error.
///
/// # Errors
/// A tool is missing or the build fails.
pub fn build() -> Result<Images> {
    let programs = compile(&Toolchain::find()?)?;
    fs::create_dir_all(paths::images())?;
    let one = |package: &str| {
        let program = programs.iter().find(|program| program.package == package);
        program.with_context(|| format!("{package} has no program"))?.flatten()
    };
    let guests = programs.iter().filter(|program| program.package == GUESTS);
    Ok(Images {
        monitor: one(MONITOR)?,
        dom0: one(DOM0)?,
        guests: guests.map(Program::flatten).collect::<Result<_>>()?,
    })
}

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    package: String,
    name: String,
    elf: PathBuf,
}

fn compile(toolchain: &Toolchain) -> Result<Vec<Program>> {
    let mut cargo = toolchain.cargo_build();
    cargo.args(["--release", "--bins", "--features", "bare-metal"]);
    cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER", setup::linker()?);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the build failed");
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(Program::from_message).collect())
}

/// What is of interest in cargo's message about something that it built.
#[derive(Deserialize)]
struct Message {
    manifest_path: PathBuf,
    executable: PathBuf,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl Program {
    /// Reads one of cargo's messages; `None` if it is not about a program.
    fn from_message(line: &str) -> Option<Program> {
        let message: Message = serde_json::from_str(line).ok()?;
        let package = message.manifest_path.parent()?.file_name()?.to_str()?.to_string();
        Some(Program { package, name: message.target.name, elf: message.executable })
    }

    fn flatten(&self) -> Result<Image> {
        let flatten = || -> Result<Image> {
            let image = FlatImage::from_elf(&fs::read(&self.elf)?)?;
            let flat = paths::images().join(format!("{}.img", self.name));
            write_if_changed(&flat, &image.bytes)?;
            let memory_size = image.memory_size;
            Ok(Image { name: self.name.clone(), elf: self.elf.clone(), flat, memory_size })
        };
        flatten().with_context(|| format!("cannot make a flat image of {}", self.elf.display()))
    }
}

/// A running machine may have the file open: it keeps what it has.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let artifact = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/a/hv/Cargo.toml",
            "target":{"kind":["bin"],"name":"hv"},"executable":"/t/hv","fresh":true}"#;
        let program = Program::from_message(artifact).unwrap();
        assert_eq!((program.package.as_str(), program.name.as_str()), ("hv", "hv"));
        assert_eq!(program.elf, PathBuf::from("/t/hv"));
        let library = artifact.replace("\"/t/hv\"", "null");
        assert_eq!(Program::from_message(&library), None);
        assert_eq!(Program::from_message(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn equal_content_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.img");
        write_if_changed(&path, b"1").unwrap();
        let written = path.metadata().unwrap().modified().unwrap();
        write_if_changed(&path, b"1").unwrap();
        assert_eq!(path.metadata().unwrap().modified().unwrap(), written);
        write_if_changed(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
    }
}
