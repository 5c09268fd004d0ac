//! A domain for `xl` on Xen: the keys of a domain file of Aurochs, which are those of xl.cfg, as
//! xl.cfg writes them.

use std::fs;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::build::Images;
use crate::linux::Linux;
use crate::paths;

/// The bridge in dom0.
const BRIDGE: &str = "bridge=xenbr0";

/// A domain that dom0 can create.
#[derive(Debug, Clone)]
pub struct Domain {
    /// What it is called.
    pub name: String,
    /// Its kernel's image.
    pub kernel: Vec<u8>,
    /// Its initial ramdisk.
    pub ramdisk: Option<Vec<u8>>,
    settings: Table,
}

impl Domain {
    /// An example guest, as its domain file describes it, but with these of the machine's disks.
    ///
    /// # Errors
    /// There is no such guest.
    pub fn example(images: &Images, name: &str, disks: &[usize]) -> Result<Domain> {
        let path = paths::domain_files().join(format!("{name}.toml"));
        let file =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let image = images.guests.iter().find(|image| image.name == name);
        let kernel = fs::read(&image.with_context(|| format!("there is no guest {name}"))?.flat)?;
        Ok(Domain { name: name.into(), kernel, ramdisk: None, settings: file.parse()? }
            .with_disks(disks))
    }

    /// Debian's Linux, of a release or of the one that apt prefers, with the programs of other
    /// packages and with these of the machine's disks.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub fn linux(release: Option<&str>, programs: &[&str], disks: &[usize]) -> Result<Domain> {
        let Linux { kernel, ramdisk } = Linux::fetched(release, programs)?;
        let settings = Linux::settings()?;
        Ok(Domain { name: Linux::NAME.into(), kernel, ramdisk: Some(ramdisk), settings }
            .with_disks(disks))
    }

    /// The same under another name.
    pub fn named(mut self, name: &str) -> Domain {
        self.settings.insert("name".into(), name.into());
        Domain { name: name.into(), ..self }
    }

    /// The same with another value of a key.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Domain {
        self.settings.insert(key.into(), value.into());
        self
    }

    fn with_disks(self, disks: &[usize]) -> Domain {
        let disks = disks.iter().zip('a'..='z');
        let entry = |(disk, letter)| format!("vdev=xvd{letter}, access=rw, target=/dev/disk{disk}");
        self.with("disk", disks.map(entry).collect::<Vec<_>>())
    }

    /// The text of its xl.cfg; its files are in `folder`.
    ///
    /// # Errors
    /// A value has no counterpart there.
    pub(super) fn config(&self, folder: &str) -> Result<String> {
        let mut text = String::new();
        let mut say = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
        say("kernel", quote(&format!("{folder}/{}", self.name)));
        if self.ramdisk.is_some() {
            say("ramdisk", quote(&format!("{folder}/{}.ramdisk", self.name)));
        }
        say("extra", quote(&self.command_line()));
        for (key, value) in &self.settings {
            match (key.as_str(), value) {
                ("kernel" | "ramdisk" | "cmdline" | "run", _) => {}
                ("vif", Value::Array(list)) => {
                    say(key, format!("[{}]", vec![quote(BRIDGE); list.len()].join(", ")));
                }
                (_, Value::Array(list)) => {
                    let words = list.iter().filter_map(Value::as_str).map(quote);
                    say(key, format!("[{}]", words.collect::<Vec<_>>().join(", ")));
                }
                (_, Value::String(word)) => say(key, quote(word)),
                (_, Value::Integer(number)) => say(key, number.to_string()),
                _ => bail!("{}: `{key}` has no counterpart in xl.cfg", self.name),
            }
        }
        Ok(text)
    }

    /// As Aurochs' `xl` puts it together of `cmdline` and `run`.
    fn command_line(&self) -> String {
        let word = |key: &str| self.settings.get(key).and_then(Value::as_str);
        let mut line = word("cmdline").unwrap_or_default().to_string();
        if let Some(command) = word("run") {
            let plain = command.replace('\\', "\\x5c").replace('"', "\\x22").replace('\n', "\\x0a");
            line.push_str(&format!(" run=\"{plain}\""));
        }
        line
    }
}

/// A string as xl.cfg takes it: what would end it, or begins an escape, is escaped.
fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\x5c").replace('\'', "\\x27").replace('\n', "\\x0a");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        let settings = text.parse().unwrap();
        Domain { name: "x".into(), kernel: Vec::new(), ramdisk: Some(Vec::new()), settings }
    }

    #[test]
    fn a_domain_file_becomes_an_xl_cfg() {
        let file = "name = \"x\"\nkernel = \"x\"\nmemory = 16\nvif = [\"\"]\ncmdline = \"a=b\"\n";
        let text = domain(file).with_disks(&[1, 0]).config("/guests").unwrap();
        for line in [
            "kernel = '/guests/x'",
            "ramdisk = '/guests/x.ramdisk'",
            "name = 'x'",
            "memory = 16",
            "extra = 'a=b'",
            "vif = ['bridge=xenbr0']",
            "disk = ['vdev=xvda, access=rw, target=/dev/disk1', \
             'vdev=xvdb, access=rw, target=/dev/disk0']",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in {text}");
        }
    }

    #[test]
    fn quotation_marks_survive() {
        let domain = domain("cmdline = \"quiet\"").with("run", "echo \"it's\" \\");
        let text = domain.config("").unwrap();
        let expected = r#"extra = 'quiet run="echo \x5cx22it\x27s\x5cx22 \x5cx5c"'"#;
        assert!(text.lines().any(|line| line == expected), "{text}");
        assert!(domain.with("cap", 1.5).config("").is_err());
    }
}
