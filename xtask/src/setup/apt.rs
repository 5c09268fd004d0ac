//! Installs Debian packages, or says which command would.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{in_path, output_of};

/// How this user may run apt-get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Root,
    Sudo,
    None,
}

impl Right {
    fn detect() -> Right {
        if rustix::process::geteuid().is_root() {
            return Right::Root;
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if sudo.status().is_ok_and(|status| status.success()) { Right::Sudo } else { Right::None }
    }

    fn prefix(self) -> &'static str {
        if self == Right::Root { "" } else { "sudo " }
    }
}

/// The command line that installs `packages`, as a person would type it.
fn command_line(right: Right, packages: &[&str]) -> String {
    let sudo = right.prefix();
    let install = "apt-get install --yes --no-install-recommends";
    format!("{sudo}apt-get update && {sudo}{install} {}", packages.join(" "))
}

/// The command line that installs `packages`, for this user to type.
pub fn mend(packages: &[&str]) -> String {
    command_line(Right::detect(), packages)
}

/// Installs `packages`.
///
/// # Errors
/// apt-get is not there or fails, or this user may not run it: the error is the command to type.
pub fn install(packages: &[&str]) -> Result<()> {
    let right = Right::detect();
    let line = command_line(right, packages);
    if in_path(&["apt-get"]).is_none() {
        bail!(
            "this is no Debian machine; install what these packages hold: {}",
            packages.join(" ")
        );
    }
    if right == Right::None {
        bail!("install it with: {line}");
    }
    eprintln!("Installing what is missing: {line}");
    execute(&line)
}

/// Downloads a package of another architecture into `folder`, which nothing else is in. Where apt
/// does not know that architecture yet it is told of it, if this user may do that.
///
/// # Errors
/// apt-get is not there or fails: the error is the command to type.
pub fn download(package: &str, architecture: &str, folder: &Path) -> Result<()> {
    knowing(architecture, || {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "download", &format!("{package}:{architecture}")]);
        output_of(command.current_dir(folder)).map(drop)
    })
}

/// Downloads packages of another architecture and all that they depend on, whatever is installed on
/// this machine, to the folder `archives` in `folder`.
///
/// # Errors
/// As [`download`].
pub fn download_with_dependencies(
    packages: &[&str],
    architecture: &str,
    folder: &Path,
) -> Result<()> {
    // As on a machine of that architecture, on which nothing is installed.
    let status = folder.join("status");
    fs::write(&status, "")?;
    fs::create_dir_all(folder.join("archives/partial"))?;
    let settings = [
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures::={architecture}"),
        format!("Dir::State::status={}", status.display()),
        format!("Dir::Cache={}", folder.display()),
    ];
    knowing(architecture, || {
        let mut command = Command::new("apt-get");
        command.args(settings.iter().flat_map(|setting| ["--option", setting]));
        command.args(["--quiet", "--yes", "--no-install-recommends", "--download-only", "install"]);
        output_of(command.args(packages)).map(drop)
    })
}

/// Downloads a package of a release of Debian's into `folder`. The release need not be among the
/// sources of this machine's apt: it is looked for where those have it, or what it belongs to.
///
/// # Errors
/// apt-get is not there, no source fits, or it does not have the release or the package.
pub fn download_from(
    release: &str,
    package: &str,
    architecture: &str,
    folder: &Path,
) -> Result<()> {
    knowing(architecture, || {
        let repository = repository_of(release)?;
        download_out_of(&repository, release, package, architecture, folder)
    })
}

/// Downloads a package as on a machine whose apt has this release of this repository and nothing
/// else.
fn download_out_of(
    repository: &str,
    release: &str,
    package: &str,
    architecture: &str,
    folder: &Path,
) -> Result<()> {
    let own = tempfile::tempdir()?;
    for needed in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(own.path().join(needed))?;
    }
    let path = |name: &str| own.path().join(name).display().to_string();
    fs::write(path("sources.list"), format!("deb {repository} {release} main\n"))?;
    fs::write(path("status"), "")?;
    let settings = [
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures::={architecture}"),
        "APT::Sandbox::User=root".into(),
        format!("Dir::Etc::SourceList={}", path("sources.list")),
        "Dir::Etc::SourceParts=-".into(),
        format!("Dir::State::status={}", path("status")),
        format!("Dir::State::Lists={}", path("lists")),
        format!("Dir::Cache={}", own.path().display()),
    ];
    let get = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(settings.iter().flat_map(|setting| ["--option", setting]));
        output_of(command.arg("--quiet").args(words).current_dir(folder))
    };
    get(&["update", "--error-on=any"])
        .with_context(|| format!("the source {repository} has no {release}"))?;
    get(&["download", package]).map(drop)
}

/// Where this machine's apt gets a release of Debian's, or the one that it belongs to:
/// bookworm-backports is where bookworm is.
fn repository_of(release: &str) -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(CODENAME) $(SUITE)"]);
    let targets = output_of(targets.args(["Created-By: Packages", "Component: main"]))?;
    repository_in(&targets, release).with_context(|| {
        format!("apt's sources (/etc/apt) name no release from which {release} could be had")
    })
}

/// Looks through lines with a repository and the names of a release that it has.
fn repository_in(targets: &str, release: &str) -> Option<String> {
    let base = release.split('-').next().unwrap_or(release);
    [release, base].into_iter().find_map(|wanted| {
        let mut lines = targets.lines().map(|line| line.split_whitespace());
        lines.find_map(|mut words| {
            let repository = words.next()?;
            words.any(|name| name == wanted).then(|| repository.to_string())
        })
    })
}

/// Calls `get`, which downloads packages of `architecture`; tells apt of it and tries again if that
/// fails.
fn knowing(architecture: &str, get: impl Fn() -> Result<()>) -> Result<()> {
    if in_path(&["apt-get"]).is_none() {
        bail!("this is no Debian machine");
    }
    if get().is_ok() {
        return Ok(());
    }
    let right = Right::detect();
    let sudo = right.prefix();
    let line = format!("{sudo}dpkg --add-architecture {architecture} && {sudo}apt-get update");
    if right == Right::None {
        bail!("type: {line}");
    }
    eprintln!("Telling apt of {architecture}: {line}");
    execute(&line)?;
    get()
}

/// Runs a command line; what it prints goes to standard error.
fn execute(line: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", line])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        // Standard output belongs to the machine's console.
        .stdout(std::io::stderr())
        .status()
        .context("cannot start a shell")?;
    if !status.success() {
        bail!("`{line}` failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_than_root_are_told_to_use_sudo() {
        let install = "apt-get install --yes --no-install-recommends a b";
        assert_eq!(command_line(Right::Root, &["a", "b"]), format!("apt-get update && {install}"));
        assert_eq!(
            command_line(Right::None, &["a", "b"]),
            format!("sudo apt-get update && sudo {install}")
        );
    }

    #[test]
    fn a_release_is_where_it_or_its_base_is() {
        let targets = "http://a/debian/ bookworm-updates bookworm-updates stable-updates\n\
            http://b/debian/ stable bookworm stable\n";
        assert_eq!(
            repository_in(targets, "bookworm-backports").as_deref(),
            Some("http://b/debian/")
        );
        assert_eq!(repository_in(targets, "bookworm-updates").as_deref(), Some("http://a/debian/"));
        assert_eq!(repository_in(targets, "trixie"), None);
    }
}
