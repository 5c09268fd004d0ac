//! A channel to dom0's shell.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abi::control::{CHANNELS, Header, Kind, PAYLOAD_MAX, SEPARATOR, VERSION};
use anyhow::{Context, Result, bail, ensure};

/// How long dom0 may take to say hello. A machine that has just been started boots first.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where QEMU listens for a channel's user.
pub fn socket(folder: &Path, channel: usize) -> PathBuf {
    folder.join(format!("control{channel}"))
}

/// A channel that is ours.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    /// Others keep away from the channel as long as it is held; the stream goes first.
    _claim: Claim,
}

/// The right to use a channel, until it is dropped.
#[derive(Debug)]
struct Claim(File);

impl Claim {
    /// `None` if somebody has it.
    fn take(path: &Path) -> Result<Option<Claim>> {
        let file = File::create(path.with_extension("lock")).context("the machine has gone")?;
        Ok(file.try_lock().is_ok().then_some(Claim(file)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // To close the file is not enough: a process that another thread is just about to start has
        // it open, too, until it becomes another program.
        if let Err(error) = self.0.unlock() {
            eprintln!("a channel to dom0 stays in use: {error}");
        }
    }
}

/// What dom0 says about the command that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// It printed something.
    Output(Vec<u8>),
    /// It reads what is typed.
    Listen,
    /// It has ended; nothing of what it printed is in here.
    Done(Output),
}

/// What a command did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its status; 0 is success.
    pub status: u8,
    /// Why it failed, if it did.
    pub reason: String,
    /// What it printed.
    pub text: String,
}

impl Channel {
    /// Takes a free channel of the machine whose channels are in `folder`.
    ///
    /// # Errors
    /// All are in use, or the machine does not answer.
    pub fn connect(folder: &Path) -> Result<Channel> {
        for number in 0..CHANNELS {
            let path = socket(folder, number);
            let Some(claim) = Claim::take(&path)? else { continue };
            let stream = UnixStream::connect(&path).context("the machine has gone")?;
            let mut channel = Channel { stream, _claim: claim };
            channel.wait_for_hello()?;
            return Ok(channel);
        }
        bail!("all {CHANNELS} channels to dom0 are in use: leave a console (Ctrl-]) and try again")
    }

    fn wait_for_hello(&mut self) -> Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let (kind, payload) = match self.read_frame() {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("dom0 does not answer after {} s: look at its console", PATIENCE.as_secs())
            }
            frame => frame?,
        };
        ensure!(
            (kind, payload.as_slice()) == (Kind::Hello, &[VERSION]),
            "dom0 is of another version than this program: run the one that started it"
        );
        Ok(self.stream.set_read_timeout(None)?)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// The machine ends first.
    pub fn run<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) -> Result<Output> {
        self.begin(words)?;
        let mut printed = Vec::new();
        loop {
            match self.receive()? {
                Message::Output(bytes) => printed.extend(bytes),
                Message::Listen => {}
                Message::Done(output) => {
                    let text = String::from_utf8_lossy(&printed).into();
                    return Ok(Output { text, ..output });
                }
            }
        }
    }

    /// Has dom0 begin a command.
    ///
    /// # Errors
    /// The machine has ended; a word has a NUL in it; all are too long together.
    pub fn begin<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let words: Vec<&[u8]> = words.into_iter().map(str::as_bytes).collect();
        ensure!(words.iter().all(|word| !word.contains(&SEPARATOR)), "an argument has a NUL in it");
        let line = words.join(&SEPARATOR);
        ensure!(line.len() <= PAYLOAD_MAX, "a command has at most {PAYLOAD_MAX} bytes");
        write_frame(&mut self.stream, Kind::Run, &line).context("cannot reach dom0")
    }

    /// What dom0 says next; waits for it.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn receive(&mut self) -> Result<Message> {
        match self.read_frame().context("the machine has ended")? {
            (Kind::Output, bytes) => Ok(Message::Output(bytes)),
            (Kind::Listen, _) => Ok(Message::Listen),
            (Kind::Done, payload) => {
                let (&status, reason) = payload.split_first().unwrap_or((&0, &[]));
                let reason = String::from_utf8_lossy(reason).into();
                Ok(Message::Done(Output { status, reason, text: String::new() }))
            }
            (kind, _) => bail!("dom0 says {kind:?} in the middle of a command"),
        }
    }

    /// Types for the command that runs, also from another thread.
    ///
    /// # Errors
    /// There is no file descriptor left.
    pub fn typist(&self) -> io::Result<Typist> {
        Ok(Typist(self.stream.try_clone()?))
    }

    fn read_frame(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let mut bytes = [0; Header::SIZE];
        self.stream.read_exact(&mut bytes)?;
        let header = Header::from_bytes(bytes).ok_or(ErrorKind::InvalidData)?;
        let mut payload = vec![0; header.length];
        self.stream.read_exact(&mut payload)?;
        Ok((header.kind, payload))
    }
}

/// Types for the command that runs.
#[derive(Debug)]
pub struct Typist(UnixStream);

impl Typist {
    /// Types `bytes`.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_frame(&mut self.0, Kind::Input, bytes)
    }
}

/// Writes a frame; what does not fit it makes more.
fn write_frame(stream: &mut impl Write, kind: Kind, mut payload: &[u8]) -> io::Result<()> {
    loop {
        let header = Header::new(kind, payload);
        let (now, later) = payload.split_at(header.length);
        stream.write_all(&[&header.to_bytes(), now].concat())?;
        if later.is_empty() {
            return Ok(());
        }
        payload = later;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers at the first channel of a folder as dom0 would.
    fn dom0(folder: &Path, answers: Vec<(Kind, &'static [u8])>) -> thread::JoinHandle<Vec<u8>> {
        let listener = UnixListener::bind(socket(folder, 0)).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (kind, payload) in answers {
                write_frame(&mut stream, kind, payload).unwrap();
            }
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            heard
        })
    }

    #[test]
    fn a_command_is_run_and_its_output_gathered() {
        let folder = tempfile::tempdir().unwrap();
        let answers: Vec<(Kind, &[u8])> = vec![
            (Kind::Hello, &[VERSION]),
            (Kind::Output, b"one "),
            (Kind::Listen, b""),
            (Kind::Output, b"two"),
            (Kind::Done, b"\x01no such domain"),
        ];
        let dom0 = dom0(folder.path(), answers);
        let mut channel = Channel::connect(folder.path()).unwrap();
        let output = channel.run(["xl", "list", "x"]).unwrap();
        assert_eq!((output.status, output.text.as_str()), (1, "one two"));
        assert_eq!(output.reason, "no such domain");
        drop(channel);
        let words = b"xl\0list\0x";
        let expected = [&Header::new(Kind::Run, words).to_bytes(), words.as_slice()].concat();
        assert_eq!(dom0.join().unwrap(), expected);
    }

    #[test]
    fn another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dom0 = dom0(folder.path(), vec![(Kind::Hello, &[VERSION + 1])]);
        let error = Channel::connect(folder.path()).unwrap_err().to_string();
        assert!(error.contains("version"), "{error}");
        dom0.join().unwrap();
    }

    #[test]
    fn a_machine_that_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = Channel::connect(folder.path()).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
        let take = |number| Claim::take(&socket(folder.path(), number)).unwrap().unwrap();
        let claims: Vec<Claim> = (0..CHANNELS).map(take).collect();
        let error = Channel::connect(folder.path()).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        drop(claims);
    }

    #[test]
    fn a_channel_is_free_though_a_child_has_its_lock_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket(folder.path(), 0);
        let claim = Claim::take(&path).unwrap().unwrap();
        assert!(Claim::take(&path).unwrap().is_none());
        let _childs = claim.0.try_clone().unwrap();
        drop(claim);
        assert!(Claim::take(&path).unwrap().is_some());
    }
}
