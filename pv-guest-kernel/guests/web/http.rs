//! As much of HTTP/1.1 as this server needs (RFC 9112): requests without a body, answers of known
//! length, connections that are used again.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pv_guest_kernel::network::{TcpError, TcpStream};

/// Bytes of the longest request.
const REQUEST_MAX: usize = 8 << 10;
/// Header lines that are understood.
const HEADERS_MAX: usize = 32;

/// What a request leads to.
#[derive(Debug, Clone, Copy)]
pub enum Status {
    Okay,
    BadRequest,
    NotFound,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Okay => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What has come and belongs to no request yet.
    received: Vec<u8>,
    /// Whether the answer shall have no body.
    head_only: bool,
    /// Whether the client will ask again.
    keep: bool,
}

/// A request, as far as it matters.
struct Request {
    target: String,
    length: usize,
    head_only: bool,
    keep: bool,
}

enum Parsed {
    Whole(Request),
    Partial,
    Wrong,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Connection {
        Connection { stream, received: Vec::new(), head_only: false, keep: true }
    }

    /// Waits for a request; returns what it is for, or nothing at the connection's end.
    pub async fn next_request(&mut self) -> Result<Option<String>, TcpError> {
        while self.keep {
            match parse(&self.received) {
                Parsed::Whole(request) => {
                    self.received.drain(..request.length);
                    (self.head_only, self.keep) = (request.head_only, request.keep);
                    return Ok(Some(request.target));
                }
                Parsed::Partial if self.received.len() < REQUEST_MAX => {}
                Parsed::Partial | Parsed::Wrong => {
                    self.keep = false;
                    self.answer(Status::BadRequest, "text/plain", b"not a request\n").await?;
                    break;
                }
            }
            let mut bytes = [0; 1024];
            let count = self.stream.read(&mut bytes).await?;
            if count == 0 {
                break;
            }
            self.received.extend(bytes.iter().take(count));
        }
        self.stream.finish();
        Ok(None)
    }

    /// Answers the request.
    pub async fn answer(
        &mut self,
        status: Status,
        kind: &str,
        body: &[u8],
    ) -> Result<(), TcpError> {
        self.begin(status, kind, body.len() as u64).await?;
        self.send(body).await
    }

    /// Begins to answer the request: so many bytes will be sent.
    pub async fn begin(&mut self, status: Status, kind: &str, length: u64) -> Result<(), TcpError> {
        let connection = if self.keep { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n",
            status.line()
        );
        self.stream.write_all(head.as_bytes()).await
    }

    /// Sends a part of the answer.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), TcpError> {
        if self.head_only { Ok(()) } else { self.stream.write_all(bytes).await }
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Wrong,
    };
    let header = |name: &str| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| core::str::from_utf8(header.value).ok()).unwrap_or_default()
    };
    let keep = match header("connection") {
        "" => request.version == Some(1),
        value => value.eq_ignore_ascii_case("keep-alive"),
    };
    let has_body = !matches!(header("content-length"), "" | "0");
    match (request.method, request.path) {
        (Some(method @ ("GET" | "HEAD")), Some(target)) if !has_body => Parsed::Whole(Request {
            target: target.to_string(),
            length,
            head_only: method == "HEAD",
            keep,
        }),
        _ => Parsed::Wrong,
    }
}
