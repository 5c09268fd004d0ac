//! The guest `web` as a client on the host sees it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The bytes of `/bytes` begin again after so many.
const PERIOD: usize = 251;
/// How long anything may take; generous, because several machines run at once on a slow host.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection that is kept.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a port of this host and asks for one byte, so that somebody must have answered.
    /// Tries again while nobody does: QEMU accepts before the guest is there.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn connect(port: u16) -> Result<Client> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::try_connect(port) {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
                client => return client,
            }
        }
    }

    fn try_connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Client { stream: BufReader::new(stream) };
        client.ask(1)?;
        client.check(1)?;
        Ok(client)
    }

    /// Gets a page of text.
    ///
    /// # Errors
    /// The connection is broken, or it is no text.
    pub fn text(&mut self, path: &str) -> Result<String> {
        self.request(path)?;
        let mut text = vec![0; self.read_header()?];
        self.stream.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    fn request(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// Asks for `count` bytes.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn ask(&mut self, count: usize) -> Result<()> {
        self.request(&format!("/bytes?n={count}"))
    }

    /// Reads the answer, which must be `count` right bytes.
    ///
    /// # Errors
    /// It is not: says where it is wrong.
    pub fn check(&mut self, count: usize) -> Result<()> {
        let length = self.read_header()?;
        ensure!(length == count, "{length} bytes are announced, {count} were asked for");
        let expected: Vec<u8> = (0..PERIOD as u8).cycle().take(PERIOD + (1 << 16)).collect();
        let mut buffer = vec![0; 1 << 16];
        let mut received = 0;
        while received < count {
            let wanted = buffer.len().min(count - received);
            let part = &mut buffer[..wanted];
            self.stream.read_exact(part).with_context(|| format!("after {received} bytes"))?;
            let phase = received % PERIOD;
            ensure!(part == &expected[phase..phase + wanted], "wrong bytes from {received} on");
            received += wanted;
        }
        Ok(())
    }

    /// Returns the announced length.
    fn read_header(&mut self) -> Result<usize> {
        let mut length = None;
        let mut first = true;
        loop {
            let mut line = String::new();
            ensure!(self.stream.read_line(&mut line)? > 0, "the connection ended");
            let line = line.trim_end();
            if first {
                ensure!(line == "HTTP/1.1 200 OK", "the answer is {line}");
                first = false;
            } else if line.is_empty() {
                break;
            } else if let Some(("Content-Length", value)) = line.split_once(": ") {
                length = Some(value.parse()?);
            }
        }
        match length {
            Some(length) => Ok(length),
            None => bail!("no length is announced"),
        }
    }
}
