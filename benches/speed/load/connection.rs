//! A connection that is kept, and requests that are made once and sent often.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Heads of answers are shorter than this.
const HEAD: usize = 64 << 10;

/// A request as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// An answer to HEAD has a length, but no body.
    is_head: bool,
}

impl Request {
    /// A request with these headers and this body.
    pub(crate) fn new(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: registry\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() || !matches!(method, "GET" | "HEAD") {
            head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        head += "\r\n";
        Request { bytes: [head.as_bytes(), body].concat(), is_head: method == "HEAD" }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was received, of which the answer's head is the first part.
    received: Vec<u8>,
    filled: usize,
    head: usize,
}

impl Connection {
    /// Connects.
    pub(crate) async fn to(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("an option can be set");
        Connection { stream, received: vec![0; HEAD], filled: 0, head: 0 }
    }

    /// Sends a request, reads its whole answer, and returns the status and the length of the body.
    pub(crate) async fn exchange(&mut self, request: &Request) -> (u16, u64) {
        self.stream.write_all(&request.bytes).await.expect("the server reads");
        self.filled = 0;
        self.head = loop {
            let read = self.stream.read(&mut self.received[self.filled..]).await.expect("the server writes");
            assert!(read > 0, "the server closed the connection, or sent a head of more than {HEAD} bytes");
            let from = self.filled.saturating_sub(3);
            self.filled += read;
            let new = &self.received[from..self.filled];
            if let Some(end) = memchr::memmem::find(new, b"\r\n\r\n") {
                break from + end + 4;
            }
        };
        let status = self.received.get(9..12).and_then(|code| std::str::from_utf8(code).ok());
        let status = status.and_then(|code| code.parse().ok()).expect("an answer has a status");
        let length = self.header("content-length").map_or(0, |value| value.parse().expect("a length"));
        let has_body = !request.is_head && status != 304 && status != 204;
        if !has_body {
            return (status, 0);
        }
        if self.header("transfer-encoding").is_some() {
            return (status, self.skip_chunks().await);
        }
        self.skip(length).await;
        (status, length)
    }

    /// A header of the last answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.received[..self.head]).ok()?;
        let mut headers = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Reads the rest of a body of so many bytes, and keeps the head.
    async fn skip(&mut self, length: u64) {
        let mut left = length - (self.filled - self.head) as u64;
        while left > 0 {
            // Behind the head, over and over: the body isn't kept.
            let read = self.stream.read(&mut self.received[self.head..]).await.expect("the server writes");
            assert!(read > 0, "the server closed the connection within a body");
            left -= read as u64;
        }
    }

    /// Reads a body in chunks, keeps the head, and returns how long the body was.
    async fn skip_chunks(&mut self) -> u64 {
        let (mut at, mut length) = (self.head, 0);
        loop {
            let end = loop {
                if let Some(end) = memchr::memchr(b'\n', &self.received[at..self.filled]) {
                    break at + end;
                }
                self.read_on(&mut at).await;
            };
            let line = std::str::from_utf8(&self.received[at..end]).expect("digits").trim();
            at = end + 1;
            let size = u64::from_str_radix(line, 16).expect("a chunk has a size");
            length += size;
            // With the end of its line; the last chunk has nothing but that, since nobody here sends trailers.
            let mut left = size + 2;
            while left > 0 {
                if at == self.filled {
                    self.read_on(&mut at).await;
                }
                let there = left.min((self.filled - at) as u64);
                left -= there;
                at += usize::try_from(there).expect("it is in the buffer");
            }
            if size == 0 {
                return length;
            }
        }
    }

    /// Reads more behind the head, where what begins at `at` is moved to.
    async fn read_on(&mut self, at: &mut usize) {
        self.received.copy_within(*at..self.filled, self.head);
        self.filled -= *at - self.head;
        *at = self.head;
        let read = self.stream.read(&mut self.received[self.filled..]).await.expect("the server writes");
        assert!(read > 0, "the server closed the connection within a body");
        self.filled += read;
    }
}
